// The thread on which the host optimizer runs, in step with device streams.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/core/stream.h"

namespace hearth {

// A value that a signal must reach before an item starts.
struct SignalWait {
  const HostSignal* signal = nullptr;
  uint32_t value = 0;
};

// A FIFO of host work. After an error later items are dropped and their signals fail with it, so
// that the streams waiting for them end too.
class HostWorker {
 public:
  // `wait_timeout`: how long an item may wait for the device.
  explicit HostWorker(std::chrono::milliseconds wait_timeout);
  // Finishes what is queued.
  ~HostWorker();
  HostWorker(const HostWorker&) = delete;
  HostWorker& operator=(const HostWorker&) = delete;

  // Runs `work` after the items before it and after `waits`, then sets `done` to `done_value`. The
  // signals must outlive the item.
  void Enqueue(std::vector<SignalWait> waits, std::function<void()> work, HostSignal& done,
               uint32_t done_value);

 private:
  struct Item {
    std::vector<SignalWait> waits;
    std::function<void()> work;
    HostSignal* done = nullptr;
    uint32_t done_value = 0;
  };
  void Run();
  void RunItem(const Item& item);

  const std::chrono::milliseconds wait_timeout_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> queue_;
  bool stopping_ = false;
  std::exception_ptr error_;  // used by the thread alone
  std::thread thread_;
};

}  // namespace hearth
