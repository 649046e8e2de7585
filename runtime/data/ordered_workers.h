// Work shared out to threads, results taken in the order of the work.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/core/error.h"

namespace hearth {

// Calls work(item) for each item that `next` gives and consume(result) in the order of the items,
// whatever the number of threads. `next` and `consume` run on the calling thread. At most two items
// a thread are under way, which bounds the memory. What `work` throws is thrown here when the turn
// of its item has come, so that the first failure in order is the one that is told; IoError when
// one item takes more than ten minutes.
template <typename Item, typename Result>
class OrderedWorkers {
 public:
  using Work = std::function<Result(const Item&)>;

  // One function for each thread, so that each can have memory of its own; at least one. A single
  // one runs on the calling thread.
  explicit OrderedWorkers(std::vector<Work> works) : works_(std::move(works)) {}

  void Run(const std::function<std::optional<Item>()>& next,
           const std::function<void(Result)>& consume) {
    if (works_.size() == 1) {
      while (std::optional<Item> item = next()) consume(works_.front()(*item));
      return;
    }
    std::vector<std::jthread> threads;
    for (const Work& work : works_) {
      threads.emplace_back([this, &work](std::stop_token stop) { Serve(stop, work); });
    }
    std::deque<std::shared_ptr<Job>> under_way;
    bool more = true;
    while (more || !under_way.empty()) {
      while (more && under_way.size() < 2 * works_.size()) {
        std::optional<Item> item = next();
        more = item.has_value();
        if (more) under_way.push_back(Enqueue(std::move(*item)));
      }
      if (under_way.empty()) break;
      const std::shared_ptr<Job> first = std::move(under_way.front());
      under_way.pop_front();
      Await(*first);
      if (first->failure) std::rethrow_exception(first->failure);
      consume(std::move(*first->result));
    }
  }

 private:
  struct Job {
    Item item;
    std::optional<Result> result;
    std::exception_ptr failure;
    bool done = false;
  };

  std::shared_ptr<Job> Enqueue(Item item) {
    auto job = std::make_shared<Job>(Job{.item = std::move(item)});
    const std::lock_guard lock(mutex_);
    queue_.push_back(job);
    work_there_.notify_one();
    return job;
  }

  void Await(const Job& job) {
    std::unique_lock lock(mutex_);
    if (!job_done_.wait_for(lock, std::chrono::minutes(10), [&] { return job.done; })) {
      throw IoError("error: one piece of the input has been encoded for ten minutes; stopped");
    }
  }

  void Serve(const std::stop_token& stop, const Work& work) {
    std::unique_lock lock(mutex_);
    while (work_there_.wait(lock, stop, [&] { return !queue_.empty(); }) &&
           !stop.stop_requested()) {
      const std::shared_ptr<Job> job = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      try {
        job->result = work(job->item);
      } catch (...) {
        job->failure = std::current_exception();
      }
      lock.lock();
      job->done = true;
      job_done_.notify_all();
    }
  }

  std::vector<Work> works_;
  std::mutex mutex_;
  std::condition_variable_any work_there_;
  std::condition_variable job_done_;
  std::deque<std::shared_ptr<Job>> queue_;
};

}  // namespace hearth
