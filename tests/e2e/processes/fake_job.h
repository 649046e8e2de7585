// A job whose launcher, mpirun and ranks are the real ones, but whose work is only to take steps,
// or to go wrong as told. The test program itself is its launcher and its ranks.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/fake_hosts.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {

// What the ranks do.
enum class FakeWork {
  kSteps,        // steps with a barrier each, until asked to stop; after a restart ten steps
  kFewSteps,     // ten steps
  kStubborn,     // steps, deaf to the request to stop
  kDeafOnce,     // steps, deaf to the first request to stop
  kRank1Idle,    // rank 1 gets to no barrier and makes no progress, but lives
  kRank1Alone,   // the same, and nobody waits for it in a barrier
  kRefused,      // every rank finds the configuration wrong
  kRank1Throws,  // rank 1 alone fails
};

// Runs the roles "launcher" and "rank" of this program; -1 when the arguments ask for neither.
int RunFakeRole(const std::vector<std::string>& arguments);

struct FakeOptions {
  FakeWork work = FakeWork::kSteps;
  int ranks = 2;
  int max_restarts = 0;
  bool on_two_hosts = false;  // half of the ranks each
};

// A job under test, in a folder of its own. The destructor kills what is left.
class FakeJob {
 public:
  explicit FakeJob(const FakeOptions& options);
  ~FakeJob();
  FakeJob(const FakeJob&) = delete;
  FakeJob& operator=(const FakeJob&) = delete;

  // Starts the launcher (again), without waiting.
  void Start();
  // Waits until every rank of that start of the job has taken a step.
  void AwaitSteps(int start = 0);
  // Waits until the launcher or a rank has said that.
  void AwaitOutput(const std::string& part) const;
  // Waits for the launcher's end; its exit code, or 128 + the signal that ended it.
  int AwaitEnd();

  pid_t launcher() const { return launcher_; }
  // Its pid here, also on another host. Of a job on two hosts: of the start that runs now.
  pid_t rank(int rank, int start = 0) const;
  pid_t mpirun(int start = 0) const;

  // What the launcher and the ranks said so far.
  std::string Output() const;
  // Whether the rank was asked to stop and saved.
  bool Saved(int rank) const;
  // Waits until no process of the job runs and no job folder is left; false when that never comes.
  bool AwaitNothingLeft() const;

 private:
  FakeOptions options_;
  const TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
  pid_t launcher_ = -1;
  std::unique_ptr<FakeHosts> hosts_;
};

// Prints how long something took since then, for the documents that state it.
void Report(const char* what, std::chrono::steady_clock::time_point since);

bool Contains(const std::string& text, const std::string& part);

}  // namespace hearth::test
