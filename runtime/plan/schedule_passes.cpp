#include "runtime/plan/schedule_builder.h"

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
  for (int mb = 0; mb < MicroBatches(); ++mb) {
    AddForward(mb);
    AddBackward(mb);
  }
}

void ScheduleBuilder::AddZeroGradients(int unit, int mb) {
  if (mb > 0 && !RankThenMicro()) return;
  Add({.kind = TaskKind::kZeroGradients,
       .unit = unit,
       .micro_batch = mb,
       .accesses = {Write(kGradients, unit)}});
}

void ScheduleBuilder::AddForward(int mb) {
  if (mb == 0) AddCarriedUpdatesFor(spec_.embedding_unit());
  Task embedding{.kind = TaskKind::kForward,
                 .unit = spec_.embedding_unit(),
                 .micro_batch = mb,
                 .accesses = {Read(kWeights, 0), Read(kBatch, mb), Write(kBoundary, 0)}};
  if (VerifiesScales()) {
    embedding.accesses.push_back(Read(kScales));
    for (int layer = 0; layer < Layers(); ++layer) {
      embedding.accesses.push_back(Write(kActivation, layer));
    }
  }
  Add(std::move(embedding));
  for (int layer = 0; layer < Layers(); ++layer) {
    double flops = 0;
    for (int s = 0; s < kSegmentCount; ++s) flops += Flops(static_cast<Segment>(s));
    const int unit = spec_.block_unit(layer);
    if (mb == 0) AddCarriedUpdatesFor(unit);
    Add({.kind = TaskKind::kForward,
         .unit = unit,
         .micro_batch = mb,
         .flops = flops,
         .accesses = {Read(kWeights, unit), Read(kBatch, mb), Read(kBoundary, layer),
                      Write(kBoundary, layer + 1), Write(kActivation, layer), Write(kWork)}});
  }
  AddHead(mb);
}

double ScheduleBuilder::Flops(Segment segment) const {
  return ForwardFlops(segment, spec_.config, plan_.tokens_per_micro_batch, plan_.sequence_len);
}

void ScheduleBuilder::AddHead(int mb) {
  const int head = spec_.head_unit();
  const int matrix_unit = spec_.HeadMatrix().unit;
  if (mb == 0) AddCarriedUpdatesFor(head);
  if (Training()) AddZeroGradients(head, mb);
  if (Training() && matrix_unit != head) AddZeroGradients(matrix_unit, mb);
  Task task{.kind = TaskKind::kHead,
            .unit = head,
            .micro_batch = mb,
            .flops = 2.0 *
                     static_cast<double>(plan_.tokens_per_micro_batch * spec_.config.hidden_size *
                                         spec_.padded_vocab_size()) *
                     (Training() ? 3 : 1),
            .accesses = {Read(kWeights, head), Read(kBatch, mb), Read(kBoundary, Layers()),
                         Write(kWork), Write(kSums)}};
  if (matrix_unit != head) task.accesses.push_back(Read(kWeights, matrix_unit));
  if (Training()) {
    task.accesses.push_back(Read(kControl));
    task.accesses.push_back(Write(kGradients, head));
    if (matrix_unit != head) task.accesses.push_back(Write(kGradients, matrix_unit));
  }
  Add(std::move(task));
  if (Training()) AddReduceGradients(head, mb);
}

void ScheduleBuilder::AddBackward(int mb) {
  for (int layer = Layers() - 1; layer >= 0; --layer) {
    const int unit = spec_.block_unit(layer);
    double flops = 0;
    for (int s = 0; s < kSegmentCount; ++s) flops += 2 * Flops(static_cast<Segment>(s));
    AddZeroGradients(unit, mb);
    for (Segment segment : plan_.recompute[static_cast<size_t>(layer)].segments) {
      Add({.kind = TaskKind::kRecompute,
           .unit = unit,
           .micro_batch = mb,
           .segment = segment,
           .flops = Flops(segment),
           .accesses = {Read(kWeights, unit), Read(kBatch, mb), Read(kBoundary, layer),
                        Write(kActivation, layer), Write(kWork)}});
    }
    Add({.kind = TaskKind::kBackward,
         .unit = unit,
         .micro_batch = mb,
         .flops = flops,
         .accesses = {Read(kWeights, unit), Read(kBatch, mb), Read(kBoundary, layer),
                      Write(kActivation, layer), Write(kWork), Write(kGradients, unit)}});
    AddReduceGradients(unit, mb);
  }
  const int embedding = spec_.embedding_unit();
  if (spec_.HeadMatrix().unit != embedding) AddZeroGradients(embedding, mb);
  Task task{.kind = TaskKind::kBackward,
            .unit = embedding,
            .micro_batch = mb,
            .accesses = {Read(kBatch, mb), Write(kWork), Write(kGradients, embedding)}};
  if (CollectsAmax()) {
    task.accesses.push_back(Write(kSums));
    for (int layer = 0; layer < Layers(); ++layer) {
      task.accesses.push_back(Read(kActivation, layer));
    }
  }
  Add(std::move(task));
  AddReduceGradients(embedding, mb);
}

void ScheduleBuilder::AddReduceGradients(int unit, int mb) {
  const bool last = mb + 1 == MicroBatches();
  if (RankThenMicro() || (Distributed() && last)) {
    Add({.kind = TaskKind::kReduceGradients,
         .stream = StreamId::kComm,
         .unit = unit,
         .micro_batch = mb,
         .elements = Shard(unit),
         .bytes = Unit(unit).elements * SizeOf(plan_.precision.gradient),
         .accesses = {Write(kGradients, unit)}});
  }
  if (last) AddFinalGradient(unit);
}

void ScheduleBuilder::AddFinalGradient(int unit) {
  const bool trains = schedule_.phase == Phase::kTrain;
  const bool reduced = Distributed() || RankThenMicro();
  if (trains) {
    // Beside the reduction, so that compute does not wait for it.
    Add({.kind = TaskKind::kSquareSum,
         .stream = reduced ? StreamId::kComm : StreamId::kCompute,
         .unit = unit,
         .elements = Shard(unit),
         .accesses = {Read(kGradients, unit), Write(kSums, 1)}});
  }
  if (reduced && (!trains || plan_.zero_stage == 0)) {
    Add({.kind = TaskKind::kGatherGradients,
         .stream = StreamId::kComm,
         .unit = unit,
         .elements = Shard(unit),
         .bytes = Unit(unit).elements * SizeOf(plan_.precision.gradient),
         .accesses = {Write(kGradients, unit)}});
  }
  if (!trains || !plan_.early_updates || plan_.IsDeferred(unit)) return;
  final_.push_back(unit);
  // What still has to be reduced is given the time of the next unit's backward.
  AddEarlyUpdates(reduced ? 1 : 0);
}

}  // namespace hearth
