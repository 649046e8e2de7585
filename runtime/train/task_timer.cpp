#include "runtime/train/task_timer.h"

namespace hearth {

TaskTimer::TaskTimer(Device& device, size_t tasks)
    : start_(device.CreateTimedEvent()), entries_(tasks) {
  for (Entry& entry : entries_) {
    entry.begin = device.CreateTimedEvent();
    entry.end = device.CreateTimedEvent();
  }
}

void TaskTimer::Start(Stream& stream, std::chrono::milliseconds timeout) {
  for (Entry& entry : entries_) {
    entry.on_device = false;
    entry.on_host = {};
  }
  stream.Record(*start_);
  // The host's clock is set by the device's: they differ by how long the host takes to notice.
  stream.Synchronize(timeout);
  host_start_ = std::chrono::steady_clock::now();
}

void TaskTimer::Begin(int task, Stream& stream) { stream.Record(*Of(task).begin); }

void TaskTimer::End(int task, Stream& stream) {
  stream.Record(*Of(task).end);
  Of(task).on_device = true;
}

double TaskTimer::SecondsSinceStart() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - host_start_).count();
}

void TaskTimer::BeginOnHost(int task) {
  const double now = SecondsSinceStart();
  std::lock_guard lock(mutex_);
  Of(task).on_host.begin = now;
}

void TaskTimer::EndOnHost(int task) {
  const double now = SecondsSinceStart();
  std::lock_guard lock(mutex_);
  Of(task).on_host.end = now;
}

std::vector<TaskTime> TaskTimer::Times() const {
  std::lock_guard lock(mutex_);
  std::vector<TaskTime> times;
  for (const Entry& entry : entries_) {
    times.push_back(entry.on_device ? TaskTime{.begin = entry.begin->SecondsSince(*start_),
                                               .end = entry.end->SecondsSince(*start_)}
                                    : entry.on_host);
  }
  return times;
}

}  // namespace hearth
