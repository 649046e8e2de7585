// How a sweep tells a person where it is.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace hearth {

// From work done to time left: the rate of this call, whatever was done before it.
class TimeLeft {
 public:
  // done, left: in the unit of PlannedRun::work; now_s: a clock that only rises. The first call
  // sets the start.
  void Update(double done, double left, double now_s);
  // Seconds; nullopt while there is too little to go by.
  std::optional<double> seconds() const;

 private:
  std::optional<double> start_s_;
  double start_done_ = 0;
  double rate_ = 0;
  double elapsed_s_ = 0;
  double left_ = 0;
};

// Lines that stay, and below them one that is redrawn where the output is a terminal.
class SweepScreen {
 public:
  // `out` is borrowed. Width 0: no terminal, no line that is redrawn.
  SweepScreen(std::FILE* out, int columns) : out_(out), columns_(columns) {}
  ~SweepScreen() { Clear(); }
  SweepScreen(const SweepScreen&) = delete;
  SweepScreen& operator=(const SweepScreen&) = delete;

  bool is_terminal() const { return columns_ > 0; }
  void Say(const std::string& line);
  // On a terminal only.
  void Show(const std::string& line);

 private:
  void Clear();

  std::FILE* out_;
  int columns_;
  std::string shown_;
};

// Columns of the terminal behind standard output; 0 when it is none.
int OutputColumns();

}  // namespace hearth
