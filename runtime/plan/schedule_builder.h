// Builds one schedule: order of tasks in schedule_builder.cpp, forward and backward in
// schedule_passes.cpp, the weights they need in schedule_weights.cpp, their gradients in
// schedule_gradients.cpp, the optimizer and what carries its result in schedule_updates.cpp.
#pragma once

#include <array>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/plan/boundary_places.h"
#include "runtime/plan/gradient_places.h"
#include "runtime/plan/memory_layout.h"
#include "runtime/plan/schedule.h"
#include "runtime/plan/schedule_order.h"

namespace hearth {

inline Access Read(ResourceKind kind, int index = 0) { return {kind, index, false}; }
inline Access Write(ResourceKind kind, int index = 0) { return {kind, index, true}; }

struct MicroBatchGroup {
  int begin = 0;
  int end = 0;
};

// Used once: Build ends it. `plan` and `spec` must outlive it.
class ScheduleBuilder {
 public:
  ScheduleBuilder(Phase phase, const Plan& plan, const ModelSpec& spec, int rank)
      : plan_(plan), spec_(spec), rank_(rank), places_(plan, spec), gradient_places_(plan, spec) {
    schedule_.phase = phase;
  }

  Schedule Build();

 private:
  int Units() const { return static_cast<int>(spec_.units.size()); }
  int Layers() const { return static_cast<int>(spec_.config.num_layers); }
  int MicroBatches() const { return static_cast<int>(plan_.micro_batches); }
  // Inside a box.
  bool Distributed() const { return plan_.RanksPerBox() > 1; }
  bool SeveralBoxes() const { return plan_.boxes > 1; }
  bool Training() const {
    return schedule_.phase == Phase::kTrain || schedule_.phase == Phase::kGradients;
  }
  // Of FP8 tensors, for the history of scales or the log.
  bool CollectsAmax() const { return plan_.precision.fp8 && schedule_.phase == Phase::kTrain; }
  // Only what trains takes part in the history.
  bool VerifiesScales() const {
    return plan_.precision.verified_scales && schedule_.phase == Phase::kTrain;
  }
  bool RankThenMicro() const {
    return plan_.numeric.reduction_order == ReductionOrder::kRankThenMicro;
  }
  const UnitSpec& Unit(int unit) const { return spec_.units[static_cast<size_t>(unit)]; }
  bool Quantized(int unit) const { return Fp8Elements(plan_, Unit(unit)) > 0; }
  bool InSlot(int unit) const { return plan_.WeightsInSlot(Unit(unit)); }
  ElementRange Updated(int unit) const { return plan_.Updated(Unit(unit), rank_); }
  ElementRange Whole(int unit) const { return {0, Unit(unit).elements}; }
  ElementRange Shard(int unit) const { return plan_.Shard(Unit(unit), rank_); }

  // Appends a task with the waits its accesses call for.
  int Add(Task task);
  void AddEnd();

  // All micro-batches at once: a step's tokens take less time than the start of a copy for each.
  void AddBatch();
  void AddForwardBackward();
  std::vector<MicroBatchGroup> Groups() const;
  void AddForward(const MicroBatchGroup& group);
  void AddEmbeddingForward(int mb);
  void AddBlockForward(int layer, int mb);
  void AddHead(int mb);
  void AddBackward(const MicroBatchGroup& group);
  void AddBlockBackward(int layer, int mb);
  void AddEmbeddingBackward(const MicroBatchGroup& group);
  void AddCollectAmax(int mb);
  // Where inputs wait on the host: to there as soon as they are made, and back those whose Order is
  // in (after, until].
  void AddStoreInput(int layer, int mb);
  void AddFetchInputs(const MicroBatchGroup& group, int after, int until);
  int64_t BoundaryBytes() const;

  // Brings a layer's weights into their slot, behind the last use of what is there, unless they are
  // there already. A layer that is none, or needs no slot, is passed over.
  void AddSlotWeights(int layer);
  // Whether a rank's update makes, in staging, all that a slot takes of a block's weights; and
  // whether it still is there from a carried one. They then need not come back from the host.
  bool StagesSlot(int unit) const;
  bool IsStaged(int unit) const;
  void AddSlotWeightsFromStaging(int layer);
  // Whether the unit's carried update is still to be added.
  bool AwaitsUpdate(int unit) const;
  // For the backward: the second FP8 copy of what is in the slot.
  void AddSlotTransposed(int layer);
  // What a task touches that computes with a block's weights.
  std::vector<Access> WeightAccesses(int unit) const;
  int64_t WeightBytes(int unit, const ElementRange& range) const;

  // Before a micro-batch adds to a unit's gradient, which a carried update may read until then, and
  // behind it.
  void BeginGradients(int unit, int mb);
  // The part of it that may come first: what the host has of the gradient.
  void AddFetchGradients(int unit, int mb);
  void EndGradients(int unit, int mb);
  // Behind the last task that adds to a unit's gradient.
  void AddFinalGradient(int unit);
  void AddStoreGradients(int unit, int mb);
  void AddEarlyUpdate(int unit);
  // What backward adds to, and what a reduction over the ranks leaves on the device.
  Access WholeGradient(int unit, bool write) const;
  Access SumOverRanks(int unit, bool write) const;
  // One writing access where both are the same.
  static std::vector<Access> FromTo(const Access& from, const Access& to);
  Task MoveGradients(TaskKind kind, int unit, const ElementRange& elements,
                     std::vector<Access> accesses) const;
  // Over the boxes, beside everything else.
  void AddExchangeShards(int unit);
  // Of the units whose reduced gradients every rank needs, but for the latest ones.
  void AddGatherGradients(size_t but);
  double Flops(Segment segment) const;

  void AddReduceSums();
  void AddClip();
  void AddUpdate(int unit);
  // AddUpdate but for the second copy of the weights, which compute makes behind the gather.
  void AddGatheredUpdate(int unit);
  void AddCarriedUpdate(int unit);
  // Ahead of a unit's first forward.
  void AddCarriedUpdatesFor(int unit);
  int UpdatesAhead() const;
  // Of the units whose gradients are final, but for the latest ones.
  void AddEarlyUpdates(size_t but);
  // On the device, piece by piece as its state comes and goes, with what follows for its weights.
  void AddDeviceUpdate(TaskKind kind, int unit, const std::vector<Access>& reads);
  Task MoveState(TaskKind kind, int unit, const ElementRange& piece, int slot,
                 std::vector<Access> accesses) const;
  // On the host optimizer's thread, and what makes working weights of its result. Compute would
  // wait for that: of an early update it comes when the next unit's backward has run.
  void AddHostUpdate(int unit);
  int NextHostSlot();
  void AddOnHost(TaskKind kind, int unit, std::vector<Access> accesses);
  void AddHostResult(int unit);
  void AddAwaitedHostUpdate();
  // Staging is about to hold the unit's weights.
  void MarkStaged(int unit);
  void AddPublish(int unit);
  void AddWeightsToDevice(int unit);
  void AddStoreWeights(int unit);
  // From a rank's new weights to everybody's working weights.
  void AddSharedWeights(int unit);
  void AddTransposedWeights(int unit);
  // A task that moves a unit's state or gradients between tiers.
  Task Move(TaskKind kind, StreamId stream, int unit, int64_t bytes,
            std::vector<Access> accesses) const;

  const Plan& plan_;
  const ModelSpec& spec_;
  const int rank_;
  const BoundaryPlaces places_;
  const GradientPlaces gradient_places_;
  Schedule schedule_;
  TaskOrder order_;
  AccessHistory history_;
  int step_offset_ = 0;                              // of the tasks that are being added
  int carried_units_ = 0;                            // whose carried updates have been added
  std::array<int, kUnitSlots> slot_layers_{-1, -1};  // whose weights are in the slots
  std::array<int, kStagingSlots> staged_{-1, -1};    // whose carried weights are in staging
  int transposed_layer_ = -1;
  std::pair<int, int> fetched_{-1, -1};  // unit and micro-batch of the last AddFetchGradients
  int state_piece_ = 0;                  // whose turn it is
  std::deque<int> final_;                // units whose updates are to run under the backward
  int host_slot_ = 0;                    // of the host's latest update
  std::optional<int> host_updated_;      // unit whose result is still to come from the host
  std::deque<int> reduced_;              // units whose gradients are to be gathered
  std::array<bool, kStreamCount> started_{};
  TaskOrder::Clock last_ = TaskOrder::Nothing();
};

}  // namespace hearth
