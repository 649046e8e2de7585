#include "kernels/cpu/thread_pool.h"

#include <omp.h>

#include <utility>

#include "kernels/core/check.h"

namespace hearth {

ThreadPool::ThreadPool(int threads) {
  CHECK(threads >= 1, "a pool of {} threads", threads);
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { Work(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ForEach(int64_t count, const std::function<void(int64_t)>& task) {
  // The matmul library would start a team of its own in each of our threads; one level is enough.
  omp_set_num_threads(1);
  std::unique_lock owner(owner_, std::try_to_lock);
  if (count <= 1 || workers_.empty() || !owner) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  std::unique_lock lock(mutex_);
  task_ = &task;
  count_ = count;
  next_ = 0;
  error_ = nullptr;
  ++generation_;
  lock.unlock();
  start_.notify_all();
  lock.lock();
  ++running_;
  lock.unlock();
  RunTasks();
  lock.lock();
  --running_;
  finished_.wait(lock, [this] { return running_ == 0; });
  task_ = nullptr;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::RunTasks() {
  std::unique_lock lock(mutex_);
  while (task_ != nullptr && next_ < count_ && !error_) {
    const int64_t index = next_++;
    const auto& task = *task_;
    lock.unlock();
    std::exception_ptr error;
    try {
      task(index);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error && !error_) error_ = error;
  }
}

void ThreadPool::Work() {
  omp_set_num_threads(1);
  std::unique_lock lock(mutex_);
  uint64_t seen = 0;
  while (true) {
    start_.wait(lock, [&] { return stopping_ || generation_ != seen; });
    if (stopping_) return;
    seen = generation_;
    ++running_;
    lock.unlock();
    RunTasks();
    lock.lock();
    --running_;
    if (running_ == 0) finished_.notify_all();
  }
}

}  // namespace hearth
