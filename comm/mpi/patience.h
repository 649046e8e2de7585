// Waiting for MPI without stealing the cores that compute.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace hearth {

// Called between two polls: at first lets others run, after a while sleeps.
class Backoff {
 public:
  void Pause();
  // Something moved: be quick again, and begin the time-out anew.
  void Reset();
  std::chrono::steady_clock::duration waited() const;

 private:
  int polls_ = 0;
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

// Bounds calls of MPI that offer no time-out (start, end, abort): unless the guard is destroyed in
// time, the process ends with the exit code after one line on standard error.
class ExitAfter {
 public:
  ExitAfter(std::chrono::milliseconds timeout, int exit_code, std::string message);
  ~ExitAfter();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace hearth
