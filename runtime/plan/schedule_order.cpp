#include "runtime/plan/schedule_order.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "kernels/core/check.h"

namespace hearth {

TaskOrder::Clock TaskOrder::ClockOf(StreamId stream, const std::vector<int>& waits) const {
  Clock clock = Nothing();
  const auto merge = [&](int task) {
    const Entry& entry = entries_[static_cast<size_t>(task)];
    for (size_t s = 0; s < clock.size(); ++s) clock[s] = std::max(clock[s], entry.clock[s]);
    int& own = clock[static_cast<size_t>(entry.stream)];
    own = std::max(own, task);
  };
  const int previous = last_[static_cast<size_t>(stream)];
  if (previous >= 0) merge(previous);
  for (int wait : waits) {
    CHECK(wait >= 0 && wait < static_cast<int>(entries_.size()), "task {} waits for task {}",
          entries_.size(), wait);
    merge(wait);
  }
  return clock;
}

void TaskOrder::Add(const Task& task) {
  CHECK(task.id == static_cast<int>(entries_.size()), "task {} added as number {}", task.id,
        entries_.size());
  entries_.push_back({task.stream, ClockOf(task.stream, task.waits)});
  last_[static_cast<size_t>(task.stream)] = task.id;
}

bool TaskOrder::Before(int earlier, const Clock& clock) const {
  const StreamId stream = entries_[static_cast<size_t>(earlier)].stream;
  return clock[static_cast<size_t>(stream)] >= earlier;
}

void AccessHistory::AppendConflicts(const Access& access, std::vector<int>& tasks) const {
  const std::vector<State>& states = states_[static_cast<size_t>(access.kind)];
  if (access.index >= std::ssize(states)) return;
  const State& state = states[static_cast<size_t>(access.index)];
  if (access.write) tasks.insert(tasks.end(), state.readers.begin(), state.readers.end());
  if (state.writer >= 0) tasks.push_back(state.writer);
}

void AccessHistory::Add(const Access& access, int task) {
  std::vector<State>& states = states_[static_cast<size_t>(access.kind)];
  if (access.index >= std::ssize(states)) states.resize(static_cast<size_t>(access.index) + 1);
  State& state = states[static_cast<size_t>(access.index)];
  if (access.write) {
    state.writer = task;
    state.readers.clear();
  } else {
    state.readers.push_back(task);
  }
}

void EnqueueEarly(Schedule* schedule) {
  std::vector<Task>& tasks = schedule->tasks;
  // By task, the last one of compute's that has to be enqueued before it.
  std::vector<int> behind(tasks.size());
  std::array<int, kStreamCount> latest{};
  for (const Task& task : tasks) {
    int& place = latest[static_cast<size_t>(task.stream)];
    if (task.stream == StreamId::kCompute) place = task.id;
    for (int wait : task.waits) place = std::max(place, behind[static_cast<size_t>(wait)]);
    behind[static_cast<size_t>(task.id)] = place;
  }
  std::vector<int> order(tasks.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return behind[static_cast<size_t>(a)] < behind[static_cast<size_t>(b)];
  });
  std::vector<int> number(tasks.size());
  for (size_t i = 0; i < order.size(); ++i) {
    number[static_cast<size_t>(order[i])] = static_cast<int>(i);
  }
  std::vector<Task> ordered;
  ordered.reserve(tasks.size());
  for (int old : order) {
    Task& task = ordered.emplace_back(std::move(tasks[static_cast<size_t>(old)]));
    task.id = number[static_cast<size_t>(old)];
    for (int& wait : task.waits) wait = number[static_cast<size_t>(wait)];
  }
  tasks = std::move(ordered);
}

}  // namespace hearth
