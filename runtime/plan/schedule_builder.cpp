#include "runtime/plan/schedule_builder.h"

#include <algorithm>
#include <utility>

namespace hearth {

using enum ResourceKind;

Schedule ScheduleBuilder::Build() {
  Add({.kind = TaskKind::kBeginStep, .accesses = {Write(kSums), Write(kSums, 1), Write(kControl)}});
  switch (schedule_.phase) {
    case Phase::kTrain:
      AddForwardBackward();
      AddGatherGradients(0);
      AddEarlyUpdates(0);
      AddAwaitedHostUpdate();
      AddClip();
      for (int unit = 0; unit < Units() && !plan_.early_updates; ++unit) {
        if (!plan_.IsDeferred(unit)) AddUpdate(unit);
      }
      break;
    case Phase::kGradients:
      AddForwardBackward();
      AddGatherGradients(0);
      AddReduceSums();
      break;
    case Phase::kEvaluate:
      AddBatch();
      for (const MicroBatchGroup& group : Groups()) AddForward(group);
      AddReduceSums();
      break;
    case Phase::kPublish:
      for (int unit = 0; unit < Units(); ++unit) AddPublish(unit);
      break;
    case Phase::kDrain:
      for (int unit = 0; unit < Units(); ++unit) AddCarriedUpdate(unit);
      break;
  }
  AddEnd();
  return std::move(schedule_);
}

int ScheduleBuilder::Add(Task task) {
  task.id = static_cast<int>(schedule_.tasks.size());
  task.step_offset = step_offset_;
  const auto stream = static_cast<size_t>(task.stream);
  std::vector<int> candidates = task.waits;
  // A stream's first task waits for the step's first: the step before has then ended.
  if (!started_[stream] && task.id > 0) candidates.push_back(0);
  started_[stream] = true;
  for (const Access& access : task.accesses) history_.AppendConflicts(access, candidates);
  std::sort(candidates.rbegin(), candidates.rend());
  task.waits.clear();
  for (int candidate : candidates) {
    if (order_.Before(candidate, order_.ClockOf(task.stream, task.waits))) continue;
    task.waits.push_back(candidate);
  }
  order_.Add(task);
  for (const Access& access : task.accesses) history_.Add(access, task.id);
  last_[stream] = task.id;
  schedule_.tasks.push_back(std::move(task));
  return schedule_.tasks.back().id;
}

void ScheduleBuilder::AddEnd() {
  Task end{.kind = TaskKind::kEndStep,
           .source = Tier::kDevice,
           .destination = Tier::kHost,
           .accesses = {Read(kSums), Read(kSums, 1), Read(kControl)}};
  for (size_t stream = 1; stream < static_cast<size_t>(kStreamCount); ++stream) {
    if (last_[stream] >= 0) end.waits.push_back(last_[stream]);
  }
  Add(std::move(end));
}

Schedule BuildSchedule(Phase phase, const Plan& plan, const ModelSpec& spec, int rank) {
  Schedule schedule = ScheduleBuilder(phase, plan, spec, rank).Build();
  EnqueueEarly(&schedule);
  ValidateSchedule(schedule);
  return schedule;
}

}  // namespace hearth
