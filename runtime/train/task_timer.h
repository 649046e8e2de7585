// When the tasks of a step ran, by the clock of the device.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/core/device.h"

namespace hearth {

// Seconds since the step began; a task that was not run is left at zero.
struct TaskTime {
  double begin = 0;
  double end = 0;
};

// Two timed events a task, made once. One step at a time; the host's part may come from another
// thread.
class TaskTimer {
 public:
  TaskTimer(Device& device, size_t tasks);

  // The step begins now. `stream` has nothing to do; blocks until the device has seen it.
  void Start(Stream& stream, std::chrono::milliseconds timeout);
  // Around the work of a task on a stream, behind its waits.
  void Begin(int task, Stream& stream);
  void End(int task, Stream& stream);
  // Around the work of a task that a thread of the host does.
  void BeginOnHost(int task);
  void EndOnHost(int task);
  // By task. All of the step's work has finished.
  std::vector<TaskTime> Times() const;

 private:
  struct Entry {
    std::unique_ptr<Event> begin;
    std::unique_ptr<Event> end;
    bool on_device = false;  // in this step
    TaskTime on_host;
  };
  double SecondsSinceStart() const;
  Entry& Of(int task) { return entries_.at(static_cast<size_t>(task)); }

  std::unique_ptr<Event> start_;
  std::chrono::steady_clock::time_point host_start_;
  mutable std::mutex mutex_;  // guards `on_host`
  std::vector<Entry> entries_;
};

}  // namespace hearth
