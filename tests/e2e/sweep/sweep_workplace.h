// A folder with a tiny run to vary, and `hearth sweep` in it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace hearth::test {

struct SweepResult {
  int exit_code = -1;  // 128 + the signal that ended it
  std::string output;  // standard output and error
};

// Where a run is: what its own log says.
struct RunProgress {
  std::string id;
  int64_t last_step = 0;
  bool ended = false;
};

class SweepWorkplace {
 public:
  // base.yaml: a run of `steps` steps that saves every `save_steps`.
  SweepWorkplace(int64_t steps, int64_t save_steps);
  ~SweepWorkplace();
  SweepWorkplace(const SweepWorkplace&) = delete;
  SweepWorkplace& operator=(const SweepWorkplace&) = delete;

  std::filesystem::path path(const std::string& name) const { return folder_.path() / name; }

  // sweep.yaml on the base, with results in the folder `out`.
  void WriteSweep(const std::string& text) const;
  void Write(const std::string& name, const std::string& text) const;
  std::string Read(const std::string& name) const;
  // Names of everything in the folder, sorted.
  std::vector<std::string> Content() const;

  SweepResult Run(const std::vector<std::string>& options = {});
  void Start(const std::vector<std::string>& options = {});
  // Of the started one.
  void Signal(int number) const;
  SweepResult Await();
  std::string Output() const;

  // Runs with a folder in `out`.
  std::vector<RunProgress> Runs() const;
  int64_t CountEnded() const;
  // Waits until `condition` holds; fails the test when it does not in time.
  template <typename Condition>
  bool Eventually(Condition condition) const {
    for (int i = 0; i < kPolls; ++i) {
      if (condition()) return true;
      Pause();
    }
    return false;
  }
  // Waits until no process has this folder in its command line.
  bool AwaitNothingLeft() const;

 private:
  static constexpr int kPolls = 24'000;  // of 5 ms
  static void Pause();
  int CountProcesses() const;

  TemporaryFolder folder_;
  pid_t program_ = -1;
};

// The steps of the training records of a log, in order.
std::vector<int64_t> TrainedSteps(const std::string& log);

// How often `part` occurs.
int64_t Count(const std::string& text, const std::string& part);

}  // namespace hearth::test
