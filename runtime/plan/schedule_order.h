// Which tasks of a schedule are known to come before which.
#pragma once

#include <array>
#include <vector>

#include "runtime/plan/schedule.h"

namespace hearth {

// Vector clocks over the streams: for each task, the last task of every stream that is certain to
// have finished before it starts (-1: none). Tasks are added in enqueueing order.
class TaskOrder {
 public:
  using Clock = std::array<int, kStreamCount>;
  static Clock Nothing() {
    Clock clock;
    clock.fill(-1);
    return clock;
  }

  // The clock of a next task on `stream` that waits for `waits`; CheckError when one of them has
  // not been added.
  Clock ClockOf(StreamId stream, const std::vector<int>& waits) const;
  void Add(const Task& task);
  // True when `earlier` has finished before a task with `clock` starts.
  bool Before(int earlier, const Clock& clock) const;

 private:
  struct Entry {
    StreamId stream;
    Clock clock;
  };
  std::vector<Entry> entries_;  // by task id
  Clock last_ = Nothing();
};

// Last writer and readers since, by resource.
class AccessHistory {
 public:
  // Appends the tasks that must have finished before `access` may happen.
  void AppendConflicts(const Access& access, std::vector<int>& tasks) const;
  void Add(const Access& access, int task);

 private:
  struct State {
    int writer = -1;
    std::vector<int> readers;
  };
  std::array<std::vector<State>, kResourceKindCount> states_;  // by kind and index
};

// Another order of the same tasks to enqueue them in: each that is not compute's as soon as those
// of its stream and those it waits for have come. A GPU's queues hold about a thousand launches,
// with small micro-batches fewer than a layer has: what is to run some layers ahead, like an update
// on the host, must not be reached only when compute is nearly there.
void EnqueueEarly(Schedule* schedule);

}  // namespace hearth
