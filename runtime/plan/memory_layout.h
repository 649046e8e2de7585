// Where every byte of a rank lies: the offsets of all tensors in three allocations (the exchange
// slab and the arena on the device, the pinned slab on the host), known before anything is
// allocated. What the communicator takes is in the table beside them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/fixed_point.h"
#include "runtime/plan/plan.h"

namespace hearth {

// A line of the memory table.
struct MemoryPool {
  Tier tier = Tier::kDevice;
  std::string name;
  int64_t bytes = 0;
};

// A unit's working weights and gradients. Under FP8 the matmul prefix is one byte per element and
// the rest is dense; without it everything is dense.
struct UnitLayout {
  int64_t fp8_values = 0;      // slab: Fp8Elements bytes
  int64_t dense = 0;           // slab: the elements that are not FP8, in the storage type
  int64_t dense_begin = 0;     // first dense element of the unit
  int64_t gradients = 0;       // slab: elements in the gradient type, or a slot
  int64_t fp8_transposed = 0;  // arena: Fp8Elements bytes, each matrix transposed in place
  int64_t scales = 0;          // arena: one ScaleRecord per FP8 matrix
  int64_t amax = 0;            // slab: one float per FP8 matrix
  // As GradientPlaces says, in the gradient type:
  int64_t shard_gradients = 0;  // arena: the ranks' sum of the shard, or a slot
  int64_t host_gradients = 0;   // host: the sum
  // With Plan::WeightsInSlot the first two above and the transposed copy are those of a slot, and
  // what this rank updates lies here in between, arena or host:
  int64_t home_fp8 = 0;
  int64_t home_dense = 0;
};

// A rank's optimizer state of one unit, each in its own tier's allocation.
struct StateLayout {
  int64_t master = 0;
  int64_t m = 0;
  int64_t v = 0;
};

// Buffers that units take turns in.
struct StagingLayout {
  int64_t weights = 0;         // arena: new weights in the storage type, before quantisation
  int64_t fp8 = 0;             // arena: the FP8 ones on their way to the host
  int64_t host_gradients = 0;  // host: for the host optimizer, where gradients live on the device
  int64_t host_weights = 0;    // host: its new weights in the storage type
  int64_t host_amax = 0;       // host: one float per FP8 matrix of a block
};
constexpr int kStagingSlots = 2;
constexpr int StagingSlot(int unit) { return unit % kStagingSlots; }

// State that a device updates and the host keeps passes through the device in pieces, a few for
// every block, that take turns in slots. One more slot than a block has pieces: the next block's
// come while the last of this one are still on their way back.
constexpr int kStatePiecesOfBlock = 4;
constexpr int kStateSlots = kStatePiecesOfBlock + 1;
struct StateSlotLayout {
  int64_t state[3] = {};  // arena: master, m, v
};

// One micro-batch of tokens, relative to the step's batch.
struct BatchLayout {
  int64_t tokens = 0;            // [N] i32
  int64_t targets = 0;           // [N] i32
  int64_t positions = 0;         // [N] i32
  int64_t sequence_offsets = 0;  // [max_sequences + 1] i32
};

// Pinned copies of a batch: one is filled while the other is read. Pieces of pinned memory through
// which tensors pass to and from ordinary memory, in turns.
constexpr int kBatchSlots = 2;
constexpr int kTransferPieces = 2;

struct HeadLayout {
  int64_t rstd = 0;
  int64_t normed = 0;
  int64_t logits = 0;
  int64_t losses = 0;
  int64_t d_normed = 0;
  // With an FP8 head; the last two are one slab's, in training only.
  int64_t normed_scale = 0;
  int64_t d_logits_scale = 0;
  int64_t normed_transposed = 0;
  int64_t d_logits = 0;
};

// The FP8 forms of the embedding's table that a tied FP8 head reads. Arena.
struct TiedHeadLayout {
  int64_t values = 0;
  int64_t transposed = 0;
  int64_t scale = 0;
};

// What a step adds up over micro-batches and ranks: two FixedPointSums, squares then losses, and
// the number of tensors whose FP8 scale did not hold.
constexpr int64_t kStepSumWords = 2 * kFixedPointWords + 1;

// Small words.
struct WordLayout {
  int64_t sums = 0;            // slab: [kStepSumWords] i64
  int64_t norm = 0;            // arena: [1] f32
  int64_t control = 0;         // arena: UpdateControl
  int64_t gradient_scale = 0;  // arena: [1] f32
  int64_t host = 0;            // host: what the end of a step reports (StepWords)
  // Under FP8, a row for each scale of each layer:
  int64_t step_amax = 0;  // slab: [n] f32, of the step under way
  int64_t host_amax = 0;  // host: [n] f32, its copy where the step is asked for it
  // With verified scales besides:
  int64_t amax_history = 0;  // arena: [n] f32, of the last step that was not skipped
  int64_t step_scales = 0;   // arena: [n, 4] f32, ScaleRecords that follow from the history
};

// What the device reports at the end of a step, and what the host feeds it at the beginning.
struct StepWords {
  int64_t sums[kStepSumWords] = {};
  float norm = 0;
  float clip_factor = 1;
  uint32_t skip = 0;
  float gradient_scale = 0;
};

struct MemoryLayout {
  int64_t slab_bytes = 0;
  int64_t arena_bytes = 0;
  int64_t host_bytes = 0;
  std::vector<MemoryPool> pools;

  std::vector<UnitLayout> units;
  std::vector<StateLayout> states;
  StagingLayout staging[kStagingSlots];
  StateSlotLayout state_slots[kStateSlots];
  // The step's micro-batches lie alike on both sides, so that one copy moves them all.
  std::vector<BatchLayout> batch;  // by micro-batch
  int64_t batch_bytes = 0;
  int64_t device_batch = 0;                // arena
  int64_t host_batch[kBatchSlots] = {};    // host
  int64_t transfer[kTransferPieces] = {};  // host
  int64_t transfer_piece_bytes = 0;
  // Arena offsets of a block's tensors by BoundaryPlaces::Kept; -1 where absent. Tensors that are
  // not kept share the work area; what lies between blocks is in `boundaries`.
  std::vector<std::vector<int64_t>> block_tensors;
  // Arena: kScales of all layers, one behind the other, for one micro-batch of a group behind the
  // other.
  int64_t scale_records = 0;
  std::vector<int64_t> boundaries;       // arena, by place (BoundaryPlaces)
  std::vector<int64_t> host_boundaries;  // host, by BoundaryPlaces::Host
  int64_t workspace = 0;
  int64_t workspace_bytes = 0;
  int64_t cos_sin = 0;
  HeadLayout head;
  TiedHeadLayout tied_head;
  WordLayout words;
  int64_t network = 0;  // arena: the words of a step between boxes
  int64_t network_bytes = 0;
  int64_t save_copy = 0;  // host: the state of this rank's shards while it is written
  int64_t save_copy_bytes = 0;
};

// The elements of a unit's prefix whose working weights are FP8 and nothing else.
int64_t Fp8Elements(const Plan& plan, const UnitSpec& unit);
// The others, in the storage type.
int64_t DenseElements(const Plan& plan, const UnitSpec& unit);
// Whether a unit's state comes to the device for its update.
bool FetchesState(const Plan& plan, int unit);
// What a rank updates of a unit, in the pieces its state comes in; one where it does not. As many
// on every rank, some of them empty where a rank has little.
std::vector<ElementRange> StatePieces(const Plan& plan, const ModelSpec& spec, int unit, int rank);
// Whether an update leaves the unit's new weights in staging: to be quantised, or for the host.
bool StagesWeights(const Plan& plan, const ModelSpec& spec, int unit);
// Whether the host optimizer writes them where they stay: no kernel has to see them.
bool UpdatesWeightsAtHome(const Plan& plan, const ModelSpec& spec, int unit);
// The matrices of a unit that may be FP8.
int CountFp8(const ModelSpec& spec, int unit);
// Whether the embedding's table has FP8 copies for the head besides.
bool HasTiedFp8Head(const Plan& plan, const ModelSpec& spec);
// Tokens that one call of the head takes at most.
int64_t HeadSlabTokens(const Plan& plan);
// The FP8 scales of all blocks: what a step's amaxes are collected by. 0 without FP8 and in plans
// that do not train.
int64_t CountBlockScales(const Plan& plan, const ModelSpec& spec);
// Those whose history a plan keeps; 0 where it keeps none.
int64_t CountVerifiedScales(const Plan& plan, const ModelSpec& spec);

MemoryLayout MakeMemoryLayout(const Plan& plan, const ModelSpec& spec, int rank);

}  // namespace hearth
