// Threads that share the work of one op.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace hearth {

// Runs numbered tasks. How an op is cut into tasks depends on its data alone, never on the number
// of threads, so results are the same for any number of them.
class ThreadPool {
 public:
  // The caller of ForEach is one of the threads, so threads - 1 are started.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(0) ... task(count - 1), each once, and returns when all have finished. The first
  // exception is rethrown. One caller at a time has the workers; another runs its tasks alone.
  void ForEach(int64_t count, const std::function<void(int64_t)>& task);

 private:
  void Work();
  void RunTasks();
  void AwaitJob(uint64_t seen);
  void AwaitWorkers();

  std::mutex owner_;  // held by the caller that has the workers
  // The job: written by the owner while no worker is inside (active_ is 0 and open_ false).
  const std::function<void(int64_t)>* task_ = nullptr;
  int64_t count_ = 0;
  std::atomic<int64_t> next_{0};
  std::atomic<bool> open_{false};
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> active_{0};  // workers that may be reading the job
  std::atomic<int> sleeping_workers_{0};
  std::atomic<bool> sleeping_owner_{false};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;  // guards sleeping and the error
  std::condition_variable start_;
  std::condition_variable finished_;
  std::exception_ptr error_;
  std::vector<std::thread> workers_;
};

}  // namespace hearth
