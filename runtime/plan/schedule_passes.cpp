#include "runtime/plan/schedule_builder.h"

#include <algorithm>
#include <utility>

namespace hearth {

using enum ResourceKind;

void ScheduleBuilder::AddBatch() {
  Task task{.kind = TaskKind::kLoadBatch,
            .stream = StreamId::kToDevice,
            .source = Tier::kHost,
            .bytes = (3 * plan_.tokens_per_micro_batch + plan_.max_sequences + 1) * 4 *
                     plan_.micro_batches,
            .accesses = {}};
  for (int mb = 0; mb < MicroBatches(); ++mb) task.accesses.push_back(Write(kBatch, mb));
  Add(std::move(task));
}

void ScheduleBuilder::AddForwardBackward() {
  AddBatch();
  for (const MicroBatchGroup& group : Groups()) {
    AddForward(group);
    AddBackward(group);
  }
  if (DelaysEmbedding(plan_, spec_)) AddEmbeddingBackward({0, MicroBatches()});
}

std::vector<MicroBatchGroup> ScheduleBuilder::Groups() const {
  std::vector<MicroBatchGroup> groups;
  const int size = static_cast<int>(plan_.micro_batches_per_group);
  for (int begin = 0; begin < MicroBatches(); begin += size) {
    groups.push_back({begin, std::min(begin + size, MicroBatches())});
  }
  return groups;
}

void ScheduleBuilder::AddForward(const MicroBatchGroup& group) {
  const bool first = group.begin == 0;
  if (first) AddCarriedUpdatesFor(spec_.embedding_unit());
  if (!AwaitsUpdate(spec_.block_unit(0))) AddSlotWeights(0);
  for (int mb = group.begin; mb < group.end; ++mb) AddEmbeddingForward(mb);
  for (int layer = 0; layer < Layers(); ++layer) {
    if (first) AddCarriedUpdatesFor(spec_.block_unit(layer));
    AddSlotWeights(layer);
    if (layer + 1 < Layers() && !AwaitsUpdate(spec_.block_unit(layer + 1))) {
      AddSlotWeights(layer + 1);
    }
    for (int mb = group.begin; mb < group.end; ++mb) AddBlockForward(layer, mb);
  }
  if (first) AddCarriedUpdatesFor(spec_.head_unit());
  // Ahead of the head, so that what comes back first comes under it.
  if (Training()) AddFetchInputs(group, -1, places_.lead() - 1);
  if (!Training() && group.end < MicroBatches()) AddSlotWeights(0);
  for (int mb = group.begin; mb < group.end; ++mb) AddHead(mb);
}

void ScheduleBuilder::AddEmbeddingForward(int mb) {
  Task task{
      .kind = TaskKind::kForward,
      .unit = spec_.embedding_unit(),
      .micro_batch = mb,
      .accesses = {Read(kWeights, 0), Read(kBatch, mb), Write(kBoundary, places_.Input(0, mb))}};
  if (VerifiesScales()) {
    task.accesses.push_back(Read(kScales));
    for (int layer = 0; layer < Layers(); ++layer) {
      task.accesses.push_back(Write(kActivation, places_.Kept(layer, mb)));
    }
  }
  Add(std::move(task));
  AddStoreInput(0, mb);
}

void ScheduleBuilder::AddBlockForward(int layer, int mb) {
  double flops = 0;
  for (int s = 0; s < kSegmentCount; ++s) flops += Flops(static_cast<Segment>(s));
  const int unit = spec_.block_unit(layer);
  Task task{.kind = TaskKind::kForward,
            .unit = unit,
            .micro_batch = mb,
            .flops = flops,
            .accesses = WeightAccesses(unit)};
  for (const Access& access : {Read(kBatch, mb), Read(kBoundary, places_.Input(layer, mb)),
                               Write(kBoundary, places_.Input(layer + 1, mb)),
                               Write(kActivation, places_.Kept(layer, mb)), Write(kWork)}) {
    task.accesses.push_back(access);
  }
  Add(std::move(task));
  AddStoreInput(layer + 1, mb);
}

int64_t ScheduleBuilder::BoundaryBytes() const {
  return plan_.tokens_per_micro_batch * spec_.config.hidden_size * SizeOf(plan_.precision.storage);
}

void ScheduleBuilder::AddStoreInput(int layer, int mb) {
  if (!Training() || !places_.Offloaded(layer)) return;
  Add({.kind = TaskKind::kStoreInput,
       .stream = StreamId::kInputs,
       .unit = spec_.block_unit(layer),
       .micro_batch = mb,
       .source = Tier::kDevice,
       .destination = Tier::kHost,
       .bytes = BoundaryBytes(),
       .accesses = {Read(kBoundary, places_.Input(layer, mb)),
                    Write(kHostInput, places_.Host(layer, mb))}});
}

void ScheduleBuilder::AddFetchInputs(const MicroBatchGroup& group, int after, int until) {
  for (int layer = Layers() - 1; layer >= 0; --layer) {
    for (int mb = group.begin; mb < group.end; ++mb) {
      const int order = places_.Order(layer, mb);
      if (!places_.Offloaded(layer) || order <= after || order > until) continue;
      Add({.kind = TaskKind::kFetchInput,
           .stream = StreamId::kInputs,
           .unit = spec_.block_unit(layer),
           .micro_batch = mb,
           .source = Tier::kHost,
           .destination = Tier::kDevice,
           .bytes = BoundaryBytes(),
           .accesses = {Read(kHostInput, places_.Host(layer, mb)),
                        Write(kBoundary, places_.BackwardInput(layer, mb))}});
    }
  }
}

double ScheduleBuilder::Flops(Segment segment) const {
  return ForwardFlops(segment, spec_.config, plan_.tokens_per_micro_batch, plan_.sequence_len);
}

void ScheduleBuilder::AddHead(int mb) {
  const int head = spec_.head_unit();
  const int matrix_unit = spec_.HeadMatrix().unit;
  Task task{.kind = TaskKind::kHead,
            .unit = head,
            .micro_batch = mb,
            .flops = 2.0 *
                     static_cast<double>(plan_.tokens_per_micro_batch * spec_.config.hidden_size *
                                         spec_.padded_vocab_size()) *
                     (Training() ? 3 : 1),
            .accesses = {Read(kWeights, head), Read(kBatch, mb),
                         Read(kBoundary, places_.Input(Layers(), mb)), Write(kWork), Write(kSums)}};
  if (matrix_unit != head) task.accesses.push_back(Read(kWeights, matrix_unit));
  if (Training()) {
    BeginGradients(head, mb);
    if (matrix_unit != head) BeginGradients(matrix_unit, mb);
    task.accesses.push_back(Write(kBoundary, places_.Gradient(mb)));
    task.accesses.push_back(Read(kControl));
    task.accesses.push_back(WholeGradient(head, true));
    if (matrix_unit != head) task.accesses.push_back(WholeGradient(matrix_unit, true));
  }
  Add(std::move(task));
  if (Training()) EndGradients(head, mb);
}

void ScheduleBuilder::AddBackward(const MicroBatchGroup& group) {
  int fetched = places_.lead() - 1;
  for (int layer = Layers() - 1; layer >= 0; --layer) {
    // Ahead of weights that wait for the end of the layer before, on the same stream.
    AddFetchGradients(spec_.block_unit(layer), group.begin);
    AddSlotWeights(layer);
    AddSlotWeights(layer - 1);
    for (int mb = group.begin; mb < group.end; ++mb) {
      AddBlockBackward(layer, mb);
      // Ahead of the reduction of what this layer leaves, which is in no hurry.
      if (plan_.SharesUpdates() && mb + 1 == group.end) AddSlotWeights(layer - kUnitSlots);
      EndGradients(spec_.block_unit(layer), mb);
      const int until = places_.Order(layer, mb) + places_.lead();
      AddFetchInputs(group, fetched, until);
      fetched = until;
    }
  }
  for (int mb = group.begin; mb < group.end; ++mb) AddCollectAmax(mb);
  if (!DelaysEmbedding(plan_, spec_)) AddEmbeddingBackward(group);
}

void ScheduleBuilder::AddBlockBackward(int layer, int mb) {
  const int unit = spec_.block_unit(layer);
  double flops = 0;
  for (int s = 0; s < kSegmentCount; ++s) flops += 2 * Flops(static_cast<Segment>(s));
  std::vector<Access> accesses = WeightAccesses(unit);
  for (const Access& access : {Read(kBatch, mb), Read(kBoundary, places_.BackwardInput(layer, mb)),
                               Write(kActivation, places_.Kept(layer, mb)), Write(kWork)}) {
    accesses.push_back(access);
  }
  for (Segment segment : plan_.recompute[static_cast<size_t>(layer)].segments) {
    Add({.kind = TaskKind::kRecompute,
         .unit = unit,
         .micro_batch = mb,
         .segment = segment,
         .flops = Flops(segment),
         .accesses = accesses});
  }
  BeginGradients(unit, mb);
  AddSlotTransposed(layer);
  if (InSlot(unit) && Quantized(unit)) accesses.push_back(Read(kTransposed));
  accesses.push_back(Write(kBoundary, places_.Gradient(mb)));
  accesses.push_back(WholeGradient(unit, true));
  Add({.kind = TaskKind::kBackward,
       .unit = unit,
       .micro_batch = mb,
       .flops = flops,
       .accesses = std::move(accesses)});
}

void ScheduleBuilder::AddCollectAmax(int mb) {
  if (!CollectsAmax()) return;
  Task task{.kind = TaskKind::kCollectAmax, .micro_batch = mb, .accesses = {Write(kSums)}};
  for (int layer = 0; layer < Layers(); ++layer) {
    task.accesses.push_back(Read(kActivation, places_.Kept(layer, mb)));
  }
  Add(std::move(task));
}

void ScheduleBuilder::AddEmbeddingBackward(const MicroBatchGroup& group) {
  const int unit = spec_.embedding_unit();
  for (int mb = group.begin; mb < group.end; ++mb) {
    if (spec_.HeadMatrix().unit != unit) BeginGradients(unit, mb);
    Add({.kind = TaskKind::kBackward,
         .unit = unit,
         .micro_batch = mb,
         .accesses = {Read(kBatch, mb), Read(kBoundary, places_.Gradient(mb)), Write(kWork),
                      WholeGradient(unit, true)}});
    EndGradients(unit, mb);
  }
}

}  // namespace hearth
