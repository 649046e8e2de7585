#include "runtime/plan/schedule.h"

#include <fmt/format.h>

#include <array>

#include "kernels/core/check.h"
#include "runtime/plan/schedule_order.h"

namespace hearth {

namespace {

constexpr std::array<std::string_view, 32> kTaskNames = {"begin_step",
                                                         "load_batch",
                                                         "zero_gradients",
                                                         "forward",
                                                         "head",
                                                         "store_input",
                                                         "fetch_input",
                                                         "recompute",
                                                         "backward",
                                                         "collect_amax",
                                                         "fetch_weights",
                                                         "reduce_gradients",
                                                         "exchange_shards",
                                                         "square_sum",
                                                         "reduce_sums",
                                                         "exchange_sums",
                                                         "clip",
                                                         "gather_gradients",
                                                         "fetch_gradients",
                                                         "store_gradients",
                                                         "fetch_state",
                                                         "gradients_to_host",
                                                         "update",
                                                         "store_state",
                                                         "weights_to_device",
                                                         "cast_master",
                                                         "reduce_amax",
                                                         "quantize_weights",
                                                         "store_weights",
                                                         "gather_weights",
                                                         "transpose_weights",
                                                         "end_step"};
constexpr std::array<std::string_view, kStreamCount> kStreamNames = {
    "compute", "comm", "to_device", "to_host", "inputs", "host_optimizer", "network"};
constexpr std::array<std::string_view, kPhaseCount> kPhaseNames = {"train", "gradients", "evaluate",
                                                                   "publish", "drain"};

std::string Describe(const Task& task) {
  std::string text =
      fmt::format("{:>4} {:<14} {:<17}", task.id, Name(task.stream), Name(task.kind));
  if (task.unit >= 0) text += fmt::format(" unit {}", task.unit);
  if (task.kind == TaskKind::kRecompute) text += fmt::format(" {}", Name(task.segment));
  if (task.micro_batch >= 0) text += fmt::format(" micro-batch {}", task.micro_batch);
  if (task.elements.count() > 0) {
    text += fmt::format(" elements {}..{}", task.elements.begin, task.elements.end);
  }
  if (task.slot >= 0) text += fmt::format(" slot {}", task.slot);
  if (task.step_offset != 0) text += " carried";
  if (task.bytes > 0) text += fmt::format(" {} bytes", task.bytes);
  if (task.flops > 0) text += fmt::format(" {:.3g} flop", task.flops);
  if (!task.waits.empty()) text += fmt::format(" after {}", fmt::join(task.waits, ","));
  return text;
}

}  // namespace

std::string_view Name(TaskKind kind) { return kTaskNames[static_cast<size_t>(kind)]; }
std::string_view Name(StreamId stream) { return kStreamNames[static_cast<size_t>(stream)]; }
std::string_view Name(Phase phase) { return kPhaseNames[static_cast<size_t>(phase)]; }

void ValidateSchedule(const Schedule& schedule) {
  const std::vector<Task>& tasks = schedule.tasks;
  CHECK(tasks.size() >= 2 && tasks.front().kind == TaskKind::kBeginStep &&
            tasks.back().kind == TaskKind::kEndStep,
        "a schedule begins with begin_step and ends with end_step");
  TaskOrder order;
  AccessHistory history;
  std::array<bool, kStreamCount> started{};
  std::vector<int> conflicts;
  for (const Task& task : tasks) {
    const TaskOrder::Clock clock = order.ClockOf(task.stream, task.waits);
    order.Add(task);
    for (const Access& access : task.accesses) {
      conflicts.clear();
      history.AppendConflicts(access, conflicts);
      for (int conflict : conflicts) {
        CHECK(order.Before(conflict, clock),
              "{} and {} touch the same resource and are not ordered",
              Describe(tasks[static_cast<size_t>(conflict)]), Describe(task));
      }
    }
    for (const Access& access : task.accesses) history.Add(access, task.id);
    bool& first = started[static_cast<size_t>(task.stream)];
    CHECK(first || task.id == 0 || order.Before(0, clock), "{} may start before the step does",
          Describe(task));
    first = true;
  }
  const Task& end = tasks.back();
  const TaskOrder::Clock clock = order.ClockOf(end.stream, end.waits);
  for (const Task& task : tasks) {
    CHECK(task.id == end.id || order.Before(task.id, clock), "{} may outlast the step",
          Describe(task));
  }
}

LinkBytes SumLinkBytes(const Schedule& schedule, std::optional<TaskKind> kind) {
  LinkBytes sum;
  for (const Task& task : schedule.tasks) {
    if (task.source == task.destination || (kind && task.kind != *kind)) continue;
    (task.destination == Tier::kHost ? sum.to_host : sum.to_device) += task.bytes;
  }
  return sum;
}

std::string PrintSchedule(const Schedule& schedule) {
  std::string text =
      fmt::format("schedule {}: {} tasks\n", Name(schedule.phase), schedule.tasks.size());
  for (const Task& task : schedule.tasks) text += Describe(task) + "\n";
  return text;
}

}  // namespace hearth
