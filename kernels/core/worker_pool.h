// The threads of host-side production work.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace hearth {

// Shares numbered tasks among threads. A task must not throw. One caller at a time.
class WorkerPool {
 public:
  // The caller of ForEach is one of the threads, so threads - 1 are started.
  explicit WorkerPool(int threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(0) ... task(count - 1), each once and in no fixed order, and returns when all have
  // finished.
  void ForEach(int64_t count, const std::function<void(int64_t)>& task);

  // Elements that a thread takes at a time.
  struct PartSize {
    int64_t least = 1;
    int64_t most = 1;
  };
  // Calls work(thread, begin, end) for parts that together are [0, count), begun in order.
  // `thread`, below threads(), has one part at a time, so it may number scratch memory. `work` may
  // throw: what the first part that failed has thrown, whatever the number of threads, is thrown
  // here, and the parts behind it may then be left out.
  using PartWork = std::function<void(int64_t thread, int64_t begin, int64_t end)>;
  void ForEachPart(int64_t count, const PartSize& size, const PartWork& work);

 private:
  void Work();
  void RunTasks(const std::function<void(int64_t)>& task, int64_t count);

  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable finished_;
  const std::function<void(int64_t)>* task_ = nullptr;
  int64_t count_ = 0;
  uint64_t generation_ = 0;
  int active_ = 0;  // workers that have not finished the present generation
  bool stopping_ = false;
  std::atomic<int64_t> next_{0};
  std::vector<std::thread> workers_;
};

}  // namespace hearth
