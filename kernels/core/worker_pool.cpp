#include "kernels/core/worker_pool.h"

#include "kernels/core/check.h"

namespace hearth {

WorkerPool::WorkerPool(int threads) {
  CHECK(threads >= 1, "a pool of {} threads", threads);
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { Work(); });
}

WorkerPool::~WorkerPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void WorkerPool::ForEach(int64_t count, const std::function<void(int64_t)>& task) {
  if (count <= 1 || workers_.empty()) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    CHECK(active_ == 0, "a pool with {} busy threads was given {} more tasks", active_, count);
    task_ = &task;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    active_ = static_cast<int>(workers_.size());
    ++generation_;
  }
  start_.notify_all();
  RunTasks(task, count);
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [this] { return active_ == 0; });
}

void WorkerPool::RunTasks(const std::function<void(int64_t)>& task, int64_t count) {
  while (true) {
    const int64_t index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= count) return;
    task(index);
  }
}

void WorkerPool::Work() {
  uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    start_.wait(lock, [&] { return stopping_ || generation_ != seen; });
    if (stopping_) return;
    seen = generation_;
    const auto* task = task_;
    const int64_t count = count_;
    lock.unlock();
    RunTasks(*task, count);
    lock.lock();
    if (--active_ == 0) finished_.notify_one();
  }
}

}  // namespace hearth
