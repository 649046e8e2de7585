// A target run in a process of its own: what kills that process is found here.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tests/fuzz/fuzz_target.h"

namespace hearth::test {

struct FuzzSettings {
  uint64_t executions = 20'000;
  uint64_t seed = 1;
  double max_seconds = 10;  // of processor time, for one input; the slowest takes milliseconds
  bool find_leaks = true;
  // When it stops, however many executions it has made.
  std::optional<std::chrono::steady_clock::time_point> deadline = {};
};

// Counts from now on what readers allocate; needs AddressSanitizer's hooks.
void InstallAllocationLimit();

// Whether leaks can be looked for: some containers forbid what that takes, and it ends the process.
bool CanFindLeaks();

// Runs the input alone, in this process, which ends where the target finds a mistake.
void RunInput(const FuzzTarget& target, const std::string& input);

// Runs a target on its corpus and on changed inputs, and waits for the end.
class WatchedRun {
 public:
  // What the processes share.
  struct Progress;

  WatchedRun(const FuzzTarget& target, const FuzzSettings& settings);
  ~WatchedRun();
  WatchedRun(const WatchedRun&) = delete;
  WatchedRun& operator=(const WatchedRun&) = delete;

  uint64_t executions() const;
  std::string_view last_input() const;
  double processor_seconds() const { return processor_seconds_; }

  // What became of the process; "" when it came to its end.
  const std::string& end() const { return end_; }
  // Writes the last input to a file in the working folder; returns what to tell.
  std::string KeepInput(const FuzzTarget& target, uint64_t seed) const;

 private:
  std::string Watch(double max_seconds);

  Progress& progress_;
  pid_t process_ = -1;
  double processor_seconds_ = 0;
  std::string end_;
};

}  // namespace hearth::test
