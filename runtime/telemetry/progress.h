// The one line that tells a person how the run goes.
#pragma once

#include <cstdint>
#include <cstdio>
#include <deque>
#include <string>
#include <utility>

#include "runtime/telemetry/step_record.h"

namespace hearth {

struct ProgressOptions {
  bool enabled = true;
  bool interactive = false;  // a terminal: one line, drawn again and again
  int columns = 80;          // of the terminal
  int64_t total_steps = 0;   // 0: unknown
};

class Progress {
 public:
  // Writes to `out`, which is borrowed and may fail at any time.
  Progress(const ProgressOptions& options, std::FILE* out) : options_(options), out_(out) {}

  // Shows a record; now_s: a clock that only rises, in seconds. A training record is the current
  // line (drawn at most ten times a second where the line is redrawn); an evaluation becomes a
  // part of the lines that follow.
  void Show(const StepRecord& record, double now_s);

  // Ends the current line, so that others can write below it.
  void EndLine();

  // The text of the line, without any control character.
  std::string Line(const StepRecord& record) const;

 private:
  std::string EtaText(int64_t step) const;
  void Write(const std::string& text);

  ProgressOptions options_;
  std::FILE* out_;
  std::deque<std::pair<int64_t, double>> recent_;  // (step, seconds), oldest first
  std::string last_eval_;
  double last_drawn_s_ = -1.0;
  std::string pending_;  // a line not drawn for being too soon
  bool line_open_ = false;
};

}  // namespace hearth
