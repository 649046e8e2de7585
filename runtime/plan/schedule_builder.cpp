#include <algorithm>
#include <array>

#include "kernels/core/check.h"
#include "runtime/plan/memory_layout.h"
#include "runtime/plan/schedule.h"
#include "runtime/plan/schedule_order.h"

namespace hearth {

namespace {

using enum ResourceKind;

Access Read(ResourceKind kind, int index = 0) { return {kind, index, false}; }
Access Write(ResourceKind kind, int index = 0) { return {kind, index, true}; }

class ScheduleBuilder {
 public:
  ScheduleBuilder(Phase phase, const Plan& plan, const ModelSpec& spec, int rank)
      : plan_(plan), spec_(spec), rank_(rank) {
    schedule_.phase = phase;
  }

  Schedule Build() {
    Add({.kind = TaskKind::kBeginStep, .accesses = {Write(kSums), Write(kControl)}});
    switch (schedule_.phase) {
      case Phase::kTrain:
        AddForwardBackward();
        AddClip();
        for (int unit = 0; unit < Units(); ++unit) AddUpdate(unit);
        break;
      case Phase::kGradients:
        AddForwardBackward();
        if (Distributed()) AddReduceSums();
        break;
      case Phase::kEvaluate:
        AddBatch();
        for (int mb = 0; mb < MicroBatches(); ++mb) AddForward(mb);
        if (Distributed()) AddReduceSums();
        break;
      case Phase::kPublish:
        for (int unit = 0; unit < Units(); ++unit) AddPublish(unit);
        break;
    }
    AddEnd();
    return std::move(schedule_);
  }

 private:
  int Units() const { return static_cast<int>(spec_.units.size()); }
  int Layers() const { return static_cast<int>(spec_.config.num_layers); }
  int MicroBatches() const { return static_cast<int>(plan_.micro_batches); }
  bool Distributed() const { return plan_.world > 1; }
  bool Training() const {
    return schedule_.phase == Phase::kTrain || schedule_.phase == Phase::kGradients;
  }
  // Only what trains takes part in the history of scales.
  bool VerifiesScales() const {
    return plan_.precision.verified_scales && schedule_.phase == Phase::kTrain;
  }
  bool RankThenMicro() const {
    return plan_.numeric.reduction_order == ReductionOrder::kRankThenMicro;
  }
  const UnitSpec& Unit(int unit) const { return spec_.units[static_cast<size_t>(unit)]; }
  // The new weights pass through staging, to be quantised.
  bool Staged(int unit) const { return Fp8Elements(plan_, Unit(unit)) > 0; }
  ElementRange Updated(int unit) const { return plan_.Updated(Unit(unit), rank_); }
  ElementRange Shard(int unit) const { return plan_.Shard(Unit(unit), rank_); }

  // Appends a task with the waits its accesses call for.
  int Add(Task task) {
    task.id = static_cast<int>(schedule_.tasks.size());
    const auto stream = static_cast<size_t>(task.stream);
    std::vector<int> candidates = task.waits;
    // A stream's first task waits for the step's first: the step before has then ended.
    if (!started_[stream] && task.id > 0) candidates.push_back(0);
    started_[stream] = true;
    for (const Access& access : task.accesses) {
      for (int conflict : history_.Conflicts(access)) candidates.push_back(conflict);
    }
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

  // All micro-batches at once: a step's tokens take less time than the start of a copy for each.
  void AddBatch() {
    Task task{.kind = TaskKind::kLoadBatch,
              .stream = StreamId::kToDevice,
              .source = Tier::kHost,
              .bytes = (3 * plan_.tokens_per_micro_batch + plan_.max_sequences + 1) * 4 *
                       plan_.micro_batches,
              .accesses = {}};
    for (int mb = 0; mb < MicroBatches(); ++mb) task.accesses.push_back(Write(kBatch, mb));
    Add(std::move(task));
  }

  void AddForwardBackward() {
    AddBatch();
    for (int mb = 0; mb < MicroBatches(); ++mb) {
      if (mb == 0 || RankThenMicro()) {
        for (int unit = 0; unit < Units(); ++unit) {
          Add({.kind = TaskKind::kZeroGradients,
               .unit = unit,
               .micro_batch = mb,
               .accesses = {Write(kGradients, unit)}});
        }
      }
      AddForward(mb);
      AddBackward(mb);
    }
    if (!Distributed() && !RankThenMicro()) return;
    const bool gather = schedule_.phase == Phase::kGradients || plan_.zero_stage == 0;
    for (int unit = Units() - 1; gather && unit >= 0; --unit) {
      Add({.kind = TaskKind::kGatherGradients,
           .stream = StreamId::kComm,
           .unit = unit,
           .elements = Shard(unit),
           .bytes = Unit(unit).elements * SizeOf(plan_.precision.gradient),
           .accesses = {Write(kGradients, unit)}});
    }
  }

  void AddForward(int mb) {
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
      Add({.kind = TaskKind::kForward,
           .unit = unit,
           .micro_batch = mb,
           .flops = flops,
           .accesses = {Read(kWeights, unit), Read(kBatch, mb), Read(kBoundary, layer),
                        Write(kBoundary, layer + 1), Write(kActivation, layer), Write(kWork)}});
    }
    AddHead(mb);
  }

  double Flops(Segment segment) const {
    return ForwardFlops(segment, spec_.config, plan_.tokens_per_micro_batch, plan_.sequence_len);
  }

  void AddHead(int mb) {
    const int head = spec_.head_unit();
    const int matrix_unit = spec_.HeadMatrix().unit;
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

  void AddBackward(int mb) {
    for (int layer = Layers() - 1; layer >= 0; --layer) {
      const int unit = spec_.block_unit(layer);
      double flops = 0;
      for (int s = 0; s < kSegmentCount; ++s) flops += 2 * Flops(static_cast<Segment>(s));
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
    Task task{.kind = TaskKind::kBackward,
              .unit = embedding,
              .micro_batch = mb,
              .accesses = {Read(kBatch, mb), Write(kWork), Write(kGradients, embedding)}};
    if (VerifiesScales()) {
      task.accesses.push_back(Write(kSums));
      for (int layer = 0; layer < Layers(); ++layer) {
        task.accesses.push_back(Read(kActivation, layer));
      }
    }
    Add(std::move(task));
    AddReduceGradients(embedding, mb);
  }

  // After the last micro-batch, or after each where ranks are added first.
  void AddReduceGradients(int unit, int mb) {
    if (!RankThenMicro() && (!Distributed() || mb + 1 < MicroBatches())) return;
    Add({.kind = TaskKind::kReduceGradients,
         .stream = StreamId::kComm,
         .unit = unit,
         .micro_batch = mb,
         .elements = Shard(unit),
         .bytes = Unit(unit).elements * SizeOf(plan_.precision.gradient),
         .accesses = {Write(kGradients, unit)}});
  }

  void AddReduceSums() {
    Add({.kind = TaskKind::kReduceSums,
         .stream = StreamId::kComm,
         .bytes = static_cast<int64_t>(sizeof(StepWords::sums)) +
                  (VerifiesScales() ? CountVerifiedScales(plan_, spec_) * 4 : 0),
         .accesses = {Write(kSums)}});
  }

  void AddClip() {
    for (int unit = 0; unit < Units(); ++unit) {
      Add({.kind = TaskKind::kSquareSum,
           .unit = unit,
           .elements = Shard(unit),
           .accesses = {Read(kGradients, unit), Write(kSums)}});
    }
    if (Distributed()) AddReduceSums();
    Task clip{.kind = TaskKind::kClip, .accesses = {Read(kSums), Write(kControl)}};
    if (VerifiesScales()) clip.accesses.push_back(Write(kScales));
    Add(std::move(clip));
  }

  int64_t StateBytes(int unit, Tier tier) const {
    const OptimizerPlacement& place = plan_.optimizer;
    const int64_t per_element = (place.master == tier ? SizeOf(plan_.state_types.master) : 0) +
                                (place.m == tier ? SizeOf(plan_.state_types.m) : 0) +
                                (place.v == tier ? SizeOf(plan_.state_types.v) : 0);
    return Updated(unit).count() * per_element;
  }

  // Also where this rank has nothing of the unit, so that all ranks have the same tasks.
  bool FetchesState() const {
    const OptimizerPlacement& place = plan_.optimizer;
    return place.master == Tier::kHost || place.m == Tier::kHost || place.v == Tier::kHost;
  }

  // A task that moves a unit's state or gradients between tiers.
  Task Move(TaskKind kind, StreamId stream, int unit, int64_t bytes,
            std::vector<Access> accesses) const {
    const bool to_host = stream == StreamId::kToHost;
    return {.kind = kind,
            .stream = stream,
            .unit = unit,
            .elements = Updated(unit),
            .slot = unit % kStagingSlots,
            .source = to_host ? Tier::kDevice : Tier::kHost,
            .destination = to_host ? Tier::kHost : Tier::kDevice,
            .bytes = bytes,
            .accesses = std::move(accesses)};
  }

  void AddUpdate(int unit) {
    const int slot = unit % kStagingSlots;
    if (plan_.optimizer.update_on_host) {
      Add(Move(TaskKind::kGradientsToHost, StreamId::kToHost, unit,
               Updated(unit).count() * SizeOf(plan_.precision.gradient),
               {Read(kGradients, unit), Write(kHostStaging, slot)}));
      Add({.kind = TaskKind::kUpdate,
           .stream = StreamId::kHostOptimizer,
           .unit = unit,
           .elements = Updated(unit),
           .slot = slot,
           .accesses = {Read(kControl), Write(kHostStaging, slot), Write(kState, unit)}});
      AddWeightsToDevice(unit);
    } else {
      if (FetchesState()) {
        Add(Move(TaskKind::kFetchState, StreamId::kToDevice, unit, StateBytes(unit, Tier::kHost),
                 {Read(kState, unit), Write(kStaging, slot)}));
      }
      Add({.kind = TaskKind::kUpdate,
           .unit = unit,
           .elements = Updated(unit),
           .slot = slot,
           .accesses = {Read(kControl), Read(kGradients, unit), Write(kStaging, slot),
                        Write(kState, unit), Write(kWeights, unit), Write(kAmax, unit)}});
      if (FetchesState()) {
        Add(Move(TaskKind::kStoreState, StreamId::kToHost, unit, StateBytes(unit, Tier::kHost),
                 {Read(kStaging, slot), Write(kState, unit)}));
      }
    }
    AddWeightTail(unit);
  }

  void AddWeightsToDevice(int unit) {
    const int slot = unit % kStagingSlots;
    Add(Move(TaskKind::kWeightsToDevice, StreamId::kToDevice, unit,
             Updated(unit).count() * SizeOf(plan_.precision.storage),
             {Read(kControl), Read(kHostStaging, slot), Write(kStaging, slot),
              Write(kWeights, unit), Write(kAmax, unit)}));
  }

  void AddPublish(int unit) {
    const int slot = unit % kStagingSlots;
    if (plan_.optimizer.update_on_host) {
      Add({.kind = TaskKind::kCastMaster,
           .stream = StreamId::kHostOptimizer,
           .unit = unit,
           .elements = Updated(unit),
           .slot = slot,
           .accesses = {Read(kState, unit), Write(kHostStaging, slot)}});
      AddWeightsToDevice(unit);
    } else {
      if (plan_.optimizer.master == Tier::kHost) {
        Add(Move(TaskKind::kFetchState, StreamId::kToDevice, unit, StateBytes(unit, Tier::kHost),
                 {Read(kState, unit), Write(kStaging, slot)}));
      }
      Add({.kind = TaskKind::kCastMaster,
           .unit = unit,
           .elements = Updated(unit),
           .slot = slot,
           .accesses = {Read(kState, unit), Write(kStaging, slot), Write(kWeights, unit),
                        Write(kAmax, unit)}});
    }
    AddWeightTail(unit);
  }

  // From a rank's new weights to everybody's working weights.
  void AddWeightTail(int unit) {
    const int slot = unit % kStagingSlots;
    const bool sharded = Distributed() && plan_.zero_stage > 0;
    if (Staged(unit)) {
      if (sharded) {
        Add({.kind = TaskKind::kReduceAmax,
             .stream = StreamId::kComm,
             .unit = unit,
             .bytes = 4 * CountFp8(spec_, unit),
             .accesses = {Write(kAmax, unit)}});
      }
      Add({.kind = TaskKind::kQuantizeWeights,
           .unit = unit,
           .elements = Updated(unit),
           .slot = slot,
           .accesses = {Read(kAmax, unit), Read(kStaging, slot), Write(kWeights, unit)}});
    }
    if (sharded) {
      Add({.kind = TaskKind::kGatherWeights,
           .stream = StreamId::kComm,
           .unit = unit,
           .elements = Shard(unit),
           .bytes = DenseElements(plan_, Unit(unit)) * SizeOf(plan_.precision.storage) +
                    (Staged(unit) ? Unit(unit).matmul_elements : 0),
           .accesses = {Write(kWeights, unit)}});
    }
    const bool tied_head = unit == spec_.embedding_unit() && HasTiedFp8Head(plan_, spec_);
    if (Staged(unit) || tied_head) {
      Add({.kind = TaskKind::kTransposeWeights, .unit = unit, .accesses = {Write(kWeights, unit)}});
    }
  }

  void AddEnd() {
    Task end{.kind = TaskKind::kEndStep,
             .source = Tier::kDevice,
             .destination = Tier::kHost,
             .accesses = {Read(kSums), Read(kControl)}};
    for (size_t stream = 1; stream < static_cast<size_t>(kStreamCount); ++stream) {
      if (last_[stream] >= 0) end.waits.push_back(last_[stream]);
    }
    Add(std::move(end));
  }

  const Plan& plan_;
  const ModelSpec& spec_;
  const int rank_;
  Schedule schedule_;
  TaskOrder order_;
  AccessHistory history_;
  std::array<bool, kStreamCount> started_{};
  std::array<int, kStreamCount> last_{-1, -1, -1, -1, -1};
};

}  // namespace

Schedule BuildSchedule(Phase phase, const Plan& plan, const ModelSpec& spec, int rank) {
  Schedule schedule = ScheduleBuilder(phase, plan, spec, rank).Build();
  ValidateSchedule(schedule);
  return schedule;
}

}  // namespace hearth
