// When the tasks of a schedule would run: streams in order, waits kept, shared resources divided.
// Pure.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "runtime/plan/cost_model.h"
#include "runtime/plan/schedule.h"

namespace hearth {

struct TaskSpan {
  double begin = 0;  // seconds from the start of the step
  double end = 0;
};

struct SimulatedStep {
  double seconds = 0;
  std::vector<TaskSpan> spans;  // by task
  std::array<double, kStreamCount> busy{};
  // Of `seconds`, by what ran on the chain of tasks that ends last: each began when the one before
  // it ended. Adds up to `seconds`; what is not compute's is exposed.
  std::array<double, kStreamCount> critical{};
};

// Each stream runs its tasks in order, a task once the tasks it waits for have ended. Where the
// tasks that run want more of a resource than there is, those that use it slow down alike, and what
// they then leave of other resources is the others'. `prices` by task.
SimulatedStep Simulate(const Schedule& schedule, const std::vector<TaskPrice>& prices);

}  // namespace hearth
