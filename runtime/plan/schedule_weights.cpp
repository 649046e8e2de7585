// Weights of blocks that are not whole on the device: from home to the slots that layers take turns
// in.
#include "runtime/plan/schedule_builder.h"

#include <algorithm>

namespace hearth {

using enum ResourceKind;

void ScheduleBuilder::AddSlotWeights(int layer) {
  if (layer < 0 || layer >= Layers()) return;
  const int unit = spec_.block_unit(layer), slot = UnitSlot(layer);
  int& present = slot_layers_[static_cast<size_t>(slot)];
  if (!InSlot(unit) || present == layer) return;
  present = layer;
  if (IsStaged(unit)) return AddSlotWeightsFromStaging(layer);
  const bool from_host = plan_.weights.tier == Tier::kHost;
  // What ranks wait for each other with is kept in one order, that of its use.
  const bool beside_transfers = from_host && !plan_.SharesUpdates();
  Add({.kind = TaskKind::kFetchWeights,
       .stream = beside_transfers ? StreamId::kToDevice : StreamId::kComm,
       .unit = unit,
       .elements = Updated(unit),
       .slot = slot,
       .source = plan_.weights.tier,
       .bytes = from_host ? WeightBytes(unit, Updated(unit)) : 0,
       .accesses = {Read(kWeights, unit), Read(kHomeWeights, unit), Write(kWeightSlot, slot)}});
  if (!plan_.SharesUpdates()) return;
  Add({.kind = TaskKind::kGatherWeights,
       .stream = StreamId::kComm,
       .unit = unit,
       .elements = Shard(unit),
       .slot = slot,
       .bytes = WeightBytes(unit, {0, Unit(unit).elements}),
       .accesses = {Write(kWeightSlot, slot)}});
}

bool ScheduleBuilder::StagesSlot(int unit) const {
  return !plan_.SharesUpdates() && plan_.weights.tier == Tier::kHost &&
         StagesWeights(plan_, spec_, unit);
}

bool ScheduleBuilder::IsStaged(int unit) const {
  return StagesSlot(unit) && staged_.at(static_cast<size_t>(StagingSlot(unit))) == unit;
}

void ScheduleBuilder::AddSlotWeightsFromStaging(int layer) {
  const int unit = spec_.block_unit(layer), slot = UnitSlot(layer), staging = StagingSlot(unit);
  Task task{.kind = TaskKind::kFetchWeights,
            .unit = unit,
            .elements = Updated(unit),
            .slot = slot,
            .accesses = {Read(kWeights, unit), Read(kStaging, staging), Write(kWeightSlot, slot)}};
  // In a step to which nothing was carried it takes them from home, where nothing writes then.
  if (Quantized(unit)) task.accesses.push_back(Read(kNewWeights, staging));
  Add(std::move(task));
}

bool ScheduleBuilder::AwaitsUpdate(int unit) const {
  return schedule_.phase == Phase::kTrain && unit >= carried_units_ && plan_.IsDeferred(unit);
}

void ScheduleBuilder::AddSlotTransposed(int layer) {
  const int unit = spec_.block_unit(layer);
  if (!InSlot(unit) || !Quantized(unit) || transposed_layer_ == layer) return;
  transposed_layer_ = layer;
  Add({.kind = TaskKind::kTransposeWeights,
       .unit = unit,
       .slot = UnitSlot(layer),
       .accesses = {Read(kWeightSlot, UnitSlot(layer)), Write(kTransposed)}});
}

std::vector<Access> ScheduleBuilder::WeightAccesses(int unit) const {
  if (!InSlot(unit)) return {Read(kWeights, unit)};
  return {Read(kWeights, unit), Read(kWeightSlot, UnitSlot(Unit(unit).layer))};
}

int64_t ScheduleBuilder::WeightBytes(int unit, const ElementRange& range) const {
  const int64_t fp8 =
      std::max<int64_t>(0, std::min(range.end, Fp8Elements(plan_, Unit(unit))) - range.begin);
  return fp8 + (range.count() - fp8) * SizeOf(plan_.precision.storage);
}

}  // namespace hearth
