#include "runtime/plan/schedule_builder.h"

#include <algorithm>
#include <utility>

namespace hearth {

using enum ResourceKind;

void ScheduleBuilder::AddReduceSums() {
  Task task{.kind = TaskKind::kReduceSums,
            .stream = StreamId::kComm,
            .bytes = static_cast<int64_t>(sizeof(StepWords::sums)) +
                     (CollectsAmax() ? CountBlockScales(plan_, spec_) * 4 : 0),
            .accesses = {Write(kSums), Write(kSums, 1)}};
  if (Distributed()) Add(task);
  if (!SeveralBoxes()) return;
  task.kind = TaskKind::kExchangeSums;
  task.stream = StreamId::kNetwork;
  task.accesses.push_back(Write(kNetwork));
  Add(std::move(task));
}

void ScheduleBuilder::AddClip() {
  AddReduceSums();
  Task clip{.kind = TaskKind::kClip, .accesses = {Read(kSums), Read(kSums, 1), Write(kControl)}};
  if (VerifiesScales()) clip.accesses.push_back(Write(kScales));
  Add(std::move(clip));
}

Task ScheduleBuilder::Move(TaskKind kind, StreamId stream, int unit, int64_t bytes,
                           std::vector<Access> accesses) const {
  const bool to_host = stream == StreamId::kToHost;
  return {.kind = kind,
          .stream = stream,
          .unit = unit,
          .elements = Updated(unit),
          .slot = StagingSlot(unit),
          .source = to_host ? Tier::kDevice : Tier::kHost,
          .destination = to_host ? Tier::kHost : Tier::kDevice,
          .bytes = bytes,
          .accesses = std::move(accesses)};
}

void ScheduleBuilder::AddUpdate(int unit) {
  AddGatheredUpdate(unit);
  AddTransposedWeights(unit);
}

void ScheduleBuilder::AddCarriedUpdate(int unit) {
  if (!plan_.IsDeferred(unit)) return;
  step_offset_ = 1;
  AddUpdate(unit);
  step_offset_ = 0;
}

// So that the gather of a unit runs under the forward of the one before; and what is then fetched
// from home has to be there by that time.
int ScheduleBuilder::UpdatesAhead() const {
  for (int layer = 0; layer < Layers(); ++layer) {
    const int unit = spec_.block_unit(layer);
    if (InSlot(unit) && !StagesSlot(unit)) return 2;
  }
  return plan_.SharesUpdates() ? 1 : 0;
}

void ScheduleBuilder::AddCarriedUpdatesFor(int unit) {
  if (schedule_.phase != Phase::kTrain) return;
  step_offset_ = 1;
  for (; carried_units_ <= std::min(unit + UpdatesAhead(), Units() - 1); ++carried_units_) {
    if (plan_.IsDeferred(carried_units_)) AddGatheredUpdate(carried_units_);
  }
  if (plan_.IsDeferred(unit)) AddTransposedWeights(unit);
  step_offset_ = 0;
}

void ScheduleBuilder::AddEarlyUpdates(size_t but) {
  for (; final_.size() > but; final_.pop_front()) {
    const int unit = final_.front();
    if (!plan_.PlacementOf(unit).update_on_host) {
      AddUpdate(unit);
      continue;
    }
    AddAwaitedHostUpdate();
    AddHostUpdate(unit);
    host_updated_ = unit;
  }
}

void ScheduleBuilder::AddAwaitedHostUpdate() {
  if (!host_updated_) return;
  const int unit = *host_updated_;
  host_updated_.reset();
  AddHostResult(unit);
  AddTransposedWeights(unit);
}

void ScheduleBuilder::AddGatheredUpdate(int unit) {
  if (plan_.PlacementOf(unit).update_on_host) {
    AddHostUpdate(unit);
    return AddHostResult(unit);
  }
  const bool gradient_on_host = gradient_places_.OnHost(unit);
  if (gradient_on_host && !gradient_places_.StaysInSlot(unit)) {
    Add(MoveGradients(TaskKind::kFetchGradients, unit, Updated(unit),
                      {Read(kGradients, unit), WholeGradient(unit, true)}));
  }
  AddDeviceUpdate(
      TaskKind::kUpdate, unit,
      {Read(kControl), gradient_on_host ? WholeGradient(unit, false) : Read(kGradients, unit)});
}

void ScheduleBuilder::AddDeviceUpdate(TaskKind kind, int unit, const std::vector<Access>& reads) {
  const bool update = kind == TaskKind::kUpdate;
  const bool fetches =
      FetchesState(plan_, unit) && (update || plan_.PlacementOf(unit).master == Tier::kHost);
  MarkStaged(unit);
  std::deque<Task> stores;
  int index = unit;  // of the piece's state
  for (const ElementRange& piece : StatePieces(plan_, spec_, unit, rank_)) {
    const int slot = state_piece_++ % kStateSlots;
    if (std::ssize(stores) == kStateSlots) {
      Add(std::move(stores.front()));
      stores.pop_front();
    }
    if (fetches) {
      Add(MoveState(TaskKind::kFetchState, unit, piece, slot,
                    {Read(kState, index), Write(kStateSlot, slot)}));
    }
    Task task{.kind = kind, .unit = unit, .elements = piece, .slot = slot, .accesses = reads};
    for (const Access& access : {Access{kState, index, update}, Write(kStaging, StagingSlot(unit)),
                                 Write(kWeights, unit), Write(kAmax, unit)}) {
      task.accesses.push_back(access);
    }
    if (fetches) task.accesses.push_back(Access{kStateSlot, slot, update});
    Add(std::move(task));
    if (fetches && update) {
      stores.push_back(MoveState(TaskKind::kStoreState, unit, piece, slot,
                                 {Read(kStateSlot, slot), Write(kState, index)}));
    }
    index += Units();
  }
  // First what a forward waits for.
  AddSharedWeights(unit);
  for (Task& store : stores) Add(std::move(store));
}

Task ScheduleBuilder::MoveState(TaskKind kind, int unit, const ElementRange& piece, int slot,
                                std::vector<Access> accesses) const {
  const OptimizerPlacement& place = plan_.PlacementOf(unit);
  const StateTypes& types = plan_.state_types;
  const int64_t per_element = (place.master == Tier::kHost ? SizeOf(types.master) : 0) +
                              (place.m == Tier::kHost ? SizeOf(types.m) : 0) +
                              (place.v == Tier::kHost ? SizeOf(types.v) : 0);
  const bool fetch = kind == TaskKind::kFetchState;
  Task task = Move(kind, fetch ? StreamId::kToDevice : StreamId::kToHost, unit,
                   piece.count() * per_element, std::move(accesses));
  task.elements = piece;
  task.slot = slot;
  return task;
}

void ScheduleBuilder::MarkStaged(int unit) {
  staged_[static_cast<size_t>(StagingSlot(unit))] = step_offset_ != 0 ? unit : -1;
}

// In turns, whatever units the host updates: it then is two of them ahead.
int ScheduleBuilder::NextHostSlot() {
  host_slot_ = (host_slot_ + 1) % kStagingSlots;
  return host_slot_;
}

void ScheduleBuilder::AddHostUpdate(int unit) {
  const int slot = NextHostSlot();
  std::vector<Access> accesses = {Read(kControl), Write(kHostStaging, slot), Write(kState, unit)};
  if (gradient_places_.OnHost(unit)) {
    accesses.push_back(Read(kGradients, unit));
  } else {
    Task task = Move(TaskKind::kGradientsToHost, StreamId::kToHost, unit,
                     Updated(unit).count() * SizeOf(plan_.precision.gradient),
                     {Read(kGradients, unit), Write(kHostStaging, slot)});
    task.slot = slot;
    Add(std::move(task));
  }
  AddOnHost(TaskKind::kUpdate, unit, std::move(accesses));
}

void ScheduleBuilder::AddOnHost(TaskKind kind, int unit, std::vector<Access> accesses) {
  if (UpdatesWeightsAtHome(plan_, spec_, unit)) {
    accesses.insert(accesses.end(), {Write(kWeights, unit), Write(kHomeWeights, unit)});
  }
  Add({.kind = kind,
       .stream = StreamId::kHostOptimizer,
       .unit = unit,
       .elements = Updated(unit),
       .slot = host_slot_,
       .accesses = std::move(accesses)});
}

void ScheduleBuilder::AddHostResult(int unit) {
  MarkStaged(unit);
  if (!UpdatesWeightsAtHome(plan_, spec_, unit)) AddWeightsToDevice(unit);
  AddSharedWeights(unit);
}

void ScheduleBuilder::AddWeightsToDevice(int unit) {
  Task task = Move(TaskKind::kWeightsToDevice, StreamId::kToDevice, unit,
                   Updated(unit).count() * SizeOf(plan_.precision.storage),
                   {Read(kControl), Read(kHostStaging, host_slot_),
                    Write(kStaging, StagingSlot(unit)), Write(kWeights, unit), Write(kAmax, unit)});
  task.slot = host_slot_;
  Add(std::move(task));
}

void ScheduleBuilder::AddPublish(int unit) {
  if (plan_.PlacementOf(unit).update_on_host) {
    AddOnHost(TaskKind::kCastMaster, unit,
              {Read(kState, unit), Write(kHostStaging, NextHostSlot())});
    AddHostResult(unit);
  } else {
    AddDeviceUpdate(TaskKind::kCastMaster, unit, {});
  }
  AddTransposedWeights(unit);
}

void ScheduleBuilder::AddSharedWeights(int unit) {
  if (Quantized(unit)) {
    if (plan_.SharesUpdates()) {
      Add({.kind = TaskKind::kReduceAmax,
           .stream = StreamId::kComm,
           .unit = unit,
           .bytes = 4 * CountFp8(spec_, unit),
           .accesses = {Write(kAmax, unit)}});
    }
    const int slot = StagingSlot(unit);
    Task task{.kind = TaskKind::kQuantizeWeights,
              .unit = unit,
              .elements = Updated(unit),
              .slot = slot,
              .accesses = {Read(kAmax, unit), Read(kStaging, slot), Write(kWeights, unit)}};
    if (InSlot(unit)) task.accesses.push_back(Write(kNewWeights, slot));
    Add(std::move(task));
  }
  if (InSlot(unit)) return AddStoreWeights(unit);
  if (plan_.SharesUpdates()) {
    Add({.kind = TaskKind::kGatherWeights,
         .stream = StreamId::kComm,
         .unit = unit,
         .elements = Shard(unit),
         .bytes = WeightBytes(unit, {0, Unit(unit).elements}),
         .accesses = {Write(kWeights, unit)}});
  }
}

void ScheduleBuilder::AddStoreWeights(int unit) {
  if (plan_.weights.tier == Tier::kDevice || UpdatesWeightsAtHome(plan_, spec_, unit)) return;
  const int slot = StagingSlot(unit);
  Add(Move(TaskKind::kStoreWeights, StreamId::kToHost, unit, WeightBytes(unit, Updated(unit)),
           {Read(kStaging, slot), Read(kNewWeights, slot), Write(kHomeWeights, unit)}));
}

void ScheduleBuilder::AddTransposedWeights(int unit) {
  if (InSlot(unit)) return;  // made in the slot, for each backward
  const bool tied_head = unit == spec_.embedding_unit() && HasTiedFp8Head(plan_, spec_);
  if (Quantized(unit) || tied_head) {
    Add({.kind = TaskKind::kTransposeWeights, .unit = unit, .accesses = {Write(kWeights, unit)}});
  }
}

}  // namespace hearth
