#include "kernels/core/worker_pool.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <utility>

#include "kernels/core/check.h"

namespace hearth {

namespace {

// The last thread to finish a range then keeps the others waiting for a fraction of their time.
constexpr int64_t kPartsOfAThread = 4;

// Keeps what the first task, by number, has thrown. Tasks are begun in order, and those before one
// that failed run to their end, so which one is first does not depend on the threads.
class FirstFailure {
 public:
  bool any() const { return index_.load(std::memory_order_relaxed) != kNone; }

  void Keep(int64_t index, std::exception_ptr error) {
    std::lock_guard lock(mutex_);
    if (index >= index_.load(std::memory_order_relaxed)) return;
    index_.store(index, std::memory_order_relaxed);
    error_ = std::move(error);
  }

  void Rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

  std::mutex mutex_;
  std::atomic<int64_t> index_{kNone};
  std::exception_ptr error_;
};

}  // namespace

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

void WorkerPool::ForEachPart(int64_t count, const PartSize& size, const PartWork& work) {
  CHECK(count >= 0 && size.least > 0 && size.most >= size.least, "{} elements in parts of {} to {}",
        count, size.least, size.most);
  const int64_t part = std::clamp(DivUp(count, kPartsOfAThread * threads()), size.least, size.most);
  const int64_t parts = DivUp(count, part);
  std::atomic<int64_t> next{0};
  FirstFailure failure;
  ForEach(std::min<int64_t>(threads(), parts), [&](int64_t thread) {
    while (!failure.any()) {
      const int64_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= parts) return;
      try {
        work(thread, index * part, std::min((index + 1) * part, count));
      } catch (...) {
        failure.Keep(index, std::current_exception());
      }
    }
  });
  failure.Rethrow();
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
