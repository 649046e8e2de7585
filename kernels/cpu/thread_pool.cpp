#include "kernels/cpu/thread_pool.h"

#include <omp.h>

#include <chrono>
#include <utility>

#include "kernels/core/check.h"

namespace hearth {

namespace {

// Ops follow each other within microseconds, while falling asleep and being woken takes tens of
// them; longer, spinning would take the core from another rank.
constexpr std::chrono::microseconds kSpin{20};

// Polls for a short while, offering the core to others; true as soon as the condition holds.
template <typename Condition>
bool SpinUntil(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (condition()) return true;
    }
    std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < end);
  return condition();
}

}  // namespace

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
  std::unique_lock owner(owner_, std::defer_lock);
  if (count <= 1 || workers_.empty() || !owner.try_lock()) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  task_ = &task;
  count_ = count;
  next_ = 0;
  open_ = true;
  ++generation_;
  if (sleeping_workers_ > 0) {
    // The lock lets a worker that has just found no job reach its wait.
    { std::lock_guard lock(mutex_); }
    start_.notify_all();
  }
  RunTasks();
  open_ = false;
  AwaitWorkers();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::RunTasks() {
  try {
    for (int64_t index = next_++; index < count_; index = next_++) (*task_)(index);
  } catch (...) {
    next_ = count_;
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

// A worker enters a job by raising active_ and only then looking whether the job is open; the owner
// closes it and only then looks at active_. So after this no worker reads the job.
void ThreadPool::AwaitWorkers() {
  if (SpinUntil([this] { return active_ == 0; })) return;
  std::unique_lock lock(mutex_);
  sleeping_owner_ = true;
  finished_.wait(lock, [this] { return active_ == 0; });
  sleeping_owner_ = false;
}

void ThreadPool::AwaitJob(uint64_t seen) {
  const auto ready = [&] { return stopping_ || generation_ != seen; };
  if (SpinUntil(ready)) return;
  std::unique_lock lock(mutex_);
  ++sleeping_workers_;
  start_.wait(lock, ready);
  --sleeping_workers_;
}

void ThreadPool::Work() {
  omp_set_num_threads(1);
  uint64_t seen = 0;
  while (true) {
    AwaitJob(seen);
    if (stopping_) return;
    seen = generation_;
    ++active_;
    if (open_) RunTasks();
    if (--active_ == 0 && sleeping_owner_) {
      { std::lock_guard lock(mutex_); }
      finished_.notify_all();
    }
  }
}

}  // namespace hearth
