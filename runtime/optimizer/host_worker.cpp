#include "runtime/optimizer/host_worker.h"

#include <fmt/format.h>

#include "kernels/core/error.h"

namespace hearth {

HostWorker::HostWorker(std::chrono::milliseconds wait_timeout)
    : wait_timeout_(wait_timeout), thread_([this] { Run(); }) {}

HostWorker::~HostWorker() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void HostWorker::Enqueue(std::vector<SignalWait> waits, std::function<void()> work,
                         HostSignal& done, uint32_t done_value) {
  {
    std::lock_guard lock(mutex_);
    queue_.push_back({std::move(waits), std::move(work), &done, done_value});
  }
  changed_.notify_all();
}

void HostWorker::RunItem(const Item& item) {
  for (const SignalWait& wait : item.waits) {
    if (!wait.signal->WaitFor(wait.value, wait_timeout_)) {
      throw DeviceError(
          fmt::format("the host optimizer waited {} ms for the device", wait_timeout_.count()));
    }
  }
  item.work();
}

void HostWorker::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const Item item = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    if (!error_) {
      try {
        RunItem(item);
      } catch (...) {
        error_ = std::current_exception();
      }
    }
    if (error_) {
      item.done->Fail(error_);
    } else {
      item.done->Set(item.done_value);
    }
    lock.lock();
  }
}

}  // namespace hearth
