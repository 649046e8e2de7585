// Gradients from the first micro-batch that adds to them to where they wait for the update.
#include <utility>

#include "runtime/plan/schedule_builder.h"

namespace hearth {

using enum ResourceKind;

Access ScheduleBuilder::WholeGradient(int unit, bool write) const {
  if (!gradient_places_.InSlot(unit)) return {kGradients, unit, write};
  return {kGradientSlot, gradient_places_.Slot(unit), write};
}

Access ScheduleBuilder::SumOverRanks(int unit, bool write) const {
  if (!gradient_places_.HasShardSum(unit)) return WholeGradient(unit, write);
  if (!gradient_places_.OnHost(unit)) return {kGradients, unit, write};
  return {kGradientSumSlot, gradient_places_.Slot(unit), write};
}

std::vector<Access> ScheduleBuilder::FromTo(const Access& from, const Access& to) {
  if (from.kind == to.kind && from.index == to.index) return {to};
  return {from, to};
}

Task ScheduleBuilder::MoveGradients(TaskKind kind, int unit, const ElementRange& elements,
                                    std::vector<Access> accesses) const {
  const bool to_host = kind == TaskKind::kStoreGradients;
  return {.kind = kind,
          .stream = to_host ? StreamId::kToHost : StreamId::kToDevice,
          .unit = unit,
          .elements = elements,
          .slot = gradient_places_.Slot(unit),
          .source = to_host ? Tier::kDevice : Tier::kHost,
          .destination = to_host ? Tier::kHost : Tier::kDevice,
          .bytes = elements.count() * SizeOf(plan_.precision.gradient),
          .accesses = std::move(accesses)};
}

void ScheduleBuilder::AddFetchGradients(int unit, int mb) {
  const std::pair<int, int> wanted(unit, mb);
  const bool goes_on = RankThenMicro() || mb % plan_.micro_batches_per_group == 0;
  if (!gradient_places_.OnHost(unit) || mb == 0 || !goes_on || fetched_ == wanted) return;
  fetched_ = wanted;
  Task task =
      MoveGradients(TaskKind::kFetchGradients, unit, RankThenMicro() ? Shard(unit) : Whole(unit),
                    {Read(kGradients, unit),
                     RankThenMicro() ? SumOverRanks(unit, true) : WholeGradient(unit, true)});
  task.micro_batch = mb;
  Add(std::move(task));
}

void ScheduleBuilder::BeginGradients(int unit, int mb) {
  AddFetchGradients(unit, mb);
  if (mb > 0 && !RankThenMicro()) return;
  Add({.kind = TaskKind::kZeroGradients,
       .unit = unit,
       .micro_batch = mb,
       .accesses = {WholeGradient(unit, true)}});
}

void ScheduleBuilder::EndGradients(int unit, int mb) {
  const bool last = mb + 1 == MicroBatches();
  if (RankThenMicro() || (Distributed() && last)) {
    Add({.kind = TaskKind::kReduceGradients,
         .stream = StreamId::kComm,
         .unit = unit,
         .micro_batch = mb,
         .elements = Shard(unit),
         .bytes = Unit(unit).elements * SizeOf(plan_.precision.gradient),
         .accesses = FromTo(WholeGradient(unit, false), SumOverRanks(unit, true))});
  }
  if (last) AddFinalGradient(unit);
  AddStoreGradients(unit, mb);
  if (last) AddEarlyUpdate(unit);
}

void ScheduleBuilder::AddFinalGradient(int unit) {
  const bool trains = schedule_.phase == Phase::kTrain;
  const bool reduced = Distributed() || RankThenMicro();
  if (SeveralBoxes()) AddExchangeShards(unit);
  if (trains) {
    // Beside the reduction, so that compute does not wait for it.
    const StreamId stream = reduced ? StreamId::kComm : StreamId::kCompute;
    Add({.kind = TaskKind::kSquareSum,
         .stream = SeveralBoxes() ? StreamId::kNetwork : stream,
         .unit = unit,
         .elements = Shard(unit),
         .accesses = {SumOverRanks(unit, false), Write(kSums, 1)}});
  }
  const bool others_read_it = !trains && !gradient_places_.InSlot(unit);
  if (!reduced || (plan_.zero_stage > 0 && !others_read_it)) return;
  reduced_.push_back(unit);
  // The next unit's reduction does not wait for the network.
  AddGatherGradients(SeveralBoxes() && !gradient_places_.OnHost(unit) ? 1 : 0);
}

void ScheduleBuilder::AddExchangeShards(int unit) {
  Add({.kind = TaskKind::kExchangeShards,
       .stream = StreamId::kNetwork,
       .unit = unit,
       .elements = Shard(unit),
       .bytes = 2 * Shard(unit).count() * SizeOf(plan_.precision.gradient) * (plan_.boxes - 1) /
                plan_.boxes,
       .accesses = {SumOverRanks(unit, true), Write(kNetwork)}});
}

void ScheduleBuilder::AddGatherGradients(size_t but) {
  for (; reduced_.size() > but; reduced_.pop_front()) {
    const int unit = reduced_.front();
    Add({.kind = TaskKind::kGatherGradients,
         .stream = StreamId::kComm,
         .unit = unit,
         .elements = Shard(unit),
         .bytes = Unit(unit).elements * SizeOf(plan_.precision.gradient),
         .accesses = FromTo(SumOverRanks(unit, false), WholeGradient(unit, true))});
  }
}

void ScheduleBuilder::AddStoreGradients(int unit, int mb) {
  if (!gradient_places_.OnHost(unit)) return;
  const bool last = mb + 1 == MicroBatches();
  if (!last && !RankThenMicro() && (mb + 1) % plan_.micro_batches_per_group != 0) return;
  if (last && schedule_.phase == Phase::kTrain && gradient_places_.StaysInSlot(unit)) return;
  const bool gathered = last && plan_.zero_stage == 0;
  const bool summed = !gathered && (last || RankThenMicro());
  Task task = MoveGradients(
      TaskKind::kStoreGradients, unit, summed ? Shard(unit) : Whole(unit),
      {summed ? SumOverRanks(unit, false) : WholeGradient(unit, false), Write(kGradients, unit)});
  task.micro_batch = mb;
  Add(std::move(task));
}

void ScheduleBuilder::AddEarlyUpdate(int unit) {
  const bool trains = schedule_.phase == Phase::kTrain;
  if (!trains || !plan_.early_updates) return;
  // The others have had that time, and their slots are about to be taken.
  if (plan_.IsDeferred(unit)) return AddEarlyUpdates(0);
  final_.push_back(unit);
  // What still has to be reduced, or moved, is given the time of the next unit's backward.
  const bool travels = plan_.world > 1 || RankThenMicro() || gradient_places_.OnHost(unit);
  AddEarlyUpdates(travels ? 1 : 0);
}

}  // namespace hearth
