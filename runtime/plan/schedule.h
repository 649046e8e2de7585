// A step as data: tasks with their streams, the tasks they wait for and the resources they touch.
// One truth for what is printed, checked, priced and executed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plan/plan.h"

namespace hearth {

enum class TaskKind : uint8_t {
  kBeginStep,         // zero the sums and amaxes; feed the gradient scale
  kLoadBatch,         // the step's micro-batches, host to device
  kZeroGradients,     // of a unit
  kForward,           // the embedding (and the blocks' first FP8 scales), or a block
  kHead,              // final norm, logits, loss, and in training their backward
  kStoreInput,        // a block's input to the host, for its backward
  kFetchInput,        // and back
  kRecompute,         // one segment of a block again
  kBackward,          // a block, or the embedding
  kCollectAmax,       // the blocks' amaxes of a micro-batch
  kFetchWeights,      // of a unit, from home or its carried update to the slot it takes its turn in
  kReduceGradients,   // a unit's partial gradients to their shards
  kExchangeShards,    // a unit's reduced shards over the boxes
  kSquareSum,         // of a unit's reduced shard
  kReduceSums,        // squares, losses and amaxes over the ranks of a box
  kExchangeSums,      // losses and amaxes over the boxes, whose squares are equal
  kClip,              // norm, clip factor, skip flag; the FP8 scales of the next step
  kGatherGradients,   // a unit's reduced shards to every rank
  kFetchGradients,    // a unit's sum from the host, to be added to or for its update
  kStoreGradients,    // back to the host
  kFetchState,        // a unit's optimizer state, host to device
  kGradientsToHost,   // a unit's reduced gradients, for the host optimizer
  kUpdate,            // AdamW on a unit
  kStoreState,        // back to the host
  kWeightsToDevice,   // what the host optimizer wrote
  kCastMaster,        // the master weights to the storage type, as an update would leave them
  kReduceAmax,        // of a unit's FP8 matrices over the ranks
  kQuantizeWeights,   // staging to FP8 values and dense weights
  kStoreWeights,      // a unit's new weights home to the host
  kGatherWeights,     // a unit's shards to every rank
  kTransposeWeights,  // the second FP8 copy; of the embedding's table, for a tied head, both
  kEndStep,           // the step's words to the host
};
std::string_view Name(TaskKind kind);

// kComm: between the ranks of a box; kNetwork: between boxes.
enum class StreamId : uint8_t {
  kCompute,
  kComm,
  kToDevice,
  kToHost,
  // Block inputs, both ways: they keep step with compute, and nothing else shall wait behind them.
  kInputs,
  kHostOptimizer,
  kNetwork
};
constexpr int kStreamCount = 7;
std::string_view Name(StreamId stream);

// What tasks read and write. Two tasks that touch the same resource, one of them writing, are
// ordered by the schedule.
enum class ResourceKind : uint8_t {
  kBatch,            // by micro-batch
  kBoundary,         // by place: a layer's input or its gradient
  kHostInput,        // a layer's input on the host
  kActivation,       // what a layer keeps of a micro-batch between forward and backward
  kWork,             // the area that layers take turns in, head buffers and workspace included
  kWeights,          // of a unit, with their FP8 scales; at home on the device where in slots
  kHomeWeights,      // of a unit that takes turns in slots: its copy in host memory
  kWeightSlot,       // by slot
  kTransposed,       // the second FP8 copy that blocks in slots take turns in
  kGradients,        // of a unit: where its sum is between its uses (GradientPlaces)
  kGradientSlot,     // by slot: a whole gradient
  kGradientSumSlot,  // by slot: the ranks' sum, on its way to the host
  kState,            // of a piece of a unit, in its home tier
  kStaging,          // by slot: device side
  kStateSlot,        // by slot: a piece of state on the device
  kHostStaging,      // by slot: host side
  kNewWeights,       // by slot: FP8 weights on their way to the host
  kAmax,             // of a unit
  kSums,             // 0: losses and the amaxes of the step; 1: squares of gradients
  kControl,
  kScales,   // FP8 scales from one step to the next
  kNetwork,  // what is on its way between boxes
};
constexpr int kResourceKindCount = static_cast<int>(ResourceKind::kNetwork) + 1;

struct Access {
  ResourceKind kind = ResourceKind::kWork;
  int index = 0;
  bool write = false;
  bool operator==(const Access&) const = default;
};

struct Task {
  int id = 0;
  TaskKind kind = TaskKind::kBeginStep;
  StreamId stream = StreamId::kCompute;
  int unit = -1;
  int micro_batch = -1;
  Segment segment = Segment::kNorm1;  // of kRecompute
  ElementRange elements;              // of the unit, where a part of it is meant
  int slot = -1;                      // staging slot
  int step_offset = 0;                // 0: of this step; +1: of the one before, carried into it
  Tier source = Tier::kDevice;
  Tier destination = Tier::kDevice;
  int64_t bytes = 0;       // moved between tiers or ranks
  double flops = 0;        // of matmuls and attention
  std::vector<int> waits;  // tasks of other streams; earlier tasks of the same stream come for free
  std::vector<Access> accesses;
};

enum class Phase : uint8_t {
  kTrain,      // a whole step
  kGradients,  // forward and backward, gradients reduced and gathered, no update
  kEvaluate,   // forward and loss of one batch
  kPublish,    // working weights from the master weights, before the first step
  kDrain,      // the updates that the next step would have begun with
};
constexpr int kPhaseCount = 5;
std::string_view Name(Phase phase);

struct Schedule {
  Phase phase = Phase::kTrain;
  std::vector<Task> tasks;  // in the order the host enqueues them; every rank has the same
};

// For each group of micro-batches forward, then backward, layer by layer; the waits follow from the
// accesses. `rank` only enters element ranges and byte counts.
Schedule BuildSchedule(Phase phase, const Plan& plan, const ModelSpec& spec, int rank);

// Proves that every conflicting pair of accesses is ordered by streams and waits, that waits point
// backwards, and that the step begins and ends as the executor expects. CheckError names the pair.
void ValidateSchedule(const Schedule& schedule);

// Bytes between device and host, over all tasks or those of one kind.
struct LinkBytes {
  int64_t to_device = 0;
  int64_t to_host = 0;
  int64_t sum() const { return to_device + to_host; }
};
LinkBytes SumLinkBytes(const Schedule& schedule, std::optional<TaskKind> kind = {});

// One line a task, for people.
std::string PrintSchedule(const Schedule& schedule);

}  // namespace hearth
