// What a run will do and where everything will live, decided once before it starts. Pure data, a
// pure function of model, configuration and machine; written to plan.yaml.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "comm/api/communicator_memory.h"
#include "runtime/config/resolved_config.h"
#include "runtime/model/activation_table.h"
#include "runtime/model/model_spec.h"

namespace hearth {

enum class Tier : uint8_t { kDevice, kHost };
std::string_view Name(Tier tier);

// Elements of a unit; boundaries are multiples of kParameterAlignment.
struct ElementRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t count() const { return end - begin; }
  bool operator==(const ElementRange&) const = default;
};

// Everything that decides the bits of a run besides its configuration and its number of ranks:
// chosen once, kept on resume and by re-planning.
struct NumericConfiguration {
  int64_t micro_batch_size = 1;  // sequences
  int64_t head_slab_tokens = 4096;
  ReductionOrder reduction_order = ReductionOrder::kMicroThenRank;  // never kAuto
  bool operator==(const NumericConfiguration&) const = default;
};

// Where a unit's optimizer state lives and who updates it.
struct OptimizerPlacement {
  Tier master = Tier::kDevice;
  Tier m = Tier::kDevice;
  Tier v = Tier::kDevice;
  bool update_on_host = false;  // then all three are on the host
  bool operator==(const OptimizerPlacement&) const = default;
};

// Where something of a plan's units is between its uses. Unless that is whole on the device, units
// take turns in slots there.
struct Residence {
  Tier tier = Tier::kDevice;
  bool sharded = false;  // each rank has its shard alone
  bool in_slots() const { return sharded || tier == Tier::kHost; }
  bool operator==(const Residence&) const = default;
};

// Blocks take turns in so many slots: one is filled or emptied while the other is computed with.
constexpr int kUnitSlots = 2;
constexpr int UnitSlot(int layer) { return layer % kUnitSlots; }

// The element types of the optimizer state.
struct StateTypes {
  DType master = DType::kF32;
  DType m = DType::kBF16;
  DType v = DType::kBF16;
  bool operator==(const StateTypes&) const = default;
};

// Ranks in all, of which each box has as many: rank r is number r % ranks-per-box of its box.
struct RankGrid {
  RankGrid(int ranks_in, int boxes_in = 1) : ranks(ranks_in), boxes(boxes_in) {}
  int ranks;
  int boxes;
};

struct Plan {
  bool inference = false;        // forward only: no gradients, no moments
  bool saves_from_copy = false;  // a save copies the state to the host and writes while steps go on
  int world = 1;
  // Replicas of each other: what is sharded is so inside a box, and the boxes exchange each unit's
  // gradient once per step.
  int boxes = 1;
  int zero_stage = 1;
  Precision precision;
  StateTypes state_types;
  NumericConfiguration numeric;
  int64_t sequence_len = 0;
  int64_t global_batch_size = 0;        // sequences of a step, all ranks
  int64_t micro_batches = 1;            // of a step and rank; ranks with less work get masked ones
  int64_t tokens_per_micro_batch = 0;   // with padding to a multiple of 16
  bool packed = true;                   // sequences of any length; otherwise all of sequence_len
  int64_t max_sequences = 0;            // in a micro-batch, at most
  int64_t head_chunk_tokens = 0;        // rows of the logits buffer
  std::vector<RecomputeSet> recompute;  // by layer
  // So many pass a layer, forward and backward, before the next layer: 1 is the horizontal order,
  // all of them the vertical one.
  int64_t micro_batches_per_group = 1;
  Tier residual = Tier::kDevice;  // where the inputs of blocks wait for the backward
  OptimizerPlacement optimizer;
  // Of the units for which it is another one: with all on the device beside others' on the host, or
  // updated on the host beside others that the device updates.
  std::map<int, OptimizerPlacement> optimizer_of;
  Residence weights;  // of the blocks, in the form they are computed with; the others' are whole
  Residence gradients;
  float z_loss = 0.0f;
  double max_grad_norm = 1.0;  // 0: no clipping
  // The share of the units whose update is carried into the next step, where it runs just ahead of
  // the forward that reads the unit. In [0, 1].
  double deferred_share = 0.0;
  // The other updates run under the backward, as soon as a unit's gradient is final: what nothing
  // scales needs no norm. A gradient that is not finite is then found behind some updates, so it
  // ends the run.
  bool early_updates = false;
  // What the communicator takes: not the plan's to decide, set by who knows the communicator. For
  // limits it counts as outside of the arenas.
  CommunicatorMemory communicator;
  std::string exchange;    // in words, how the ranks exchange; "" where nobody has said
  int ranks_per_host = 1;  // that share its shared memory

  const OptimizerPlacement& PlacementOf(int unit) const;
  // Whether the host updates any unit.
  bool UpdatesOnHost() const;
  // Whether each micro-batch is added over the ranks before micro-batches are.
  bool RanksFirst() const { return numeric.reduction_order == ReductionOrder::kRankThenMicro; }
  // Of a step; a unit's gradient is computed group by group.
  int64_t GroupsOfMicroBatches() const;
  int RanksPerBox() const { return world / boxes; }
  // Of ranks of one box, the first has the first shard. Rank r's part of a unit: what it reduces,
  // updates under ZeRO 1, and, in the first box, saves.
  ElementRange Shard(const UnitSpec& unit, int rank) const;
  // What rank r updates: its shard, or everything under ZeRO 0.
  ElementRange Updated(const UnitSpec& unit, int rank) const;
  // Whether that is not everything, so that each rank's new weights have to reach the others.
  bool SharesUpdates() const { return RanksPerBox() > 1 && zero_stage > 0; }
  // Whether the unit's weights are on the device only while they are used. At home, in the tier of
  // `weights`, a rank then has what it updates.
  bool WeightsInSlot(const UnitSpec& unit) const {
    return unit.kind == UnitKind::kBlock && weights.in_slots();
  }
  // The part of a shard whose sum over the boxes that box's rank makes, relative to the shard.
  ElementRange ExchangedPart(const ElementRange& shard, int box) const;
  // The first box has everything.
  bool Saves(int rank) const { return rank < RanksPerBox(); }
  // Whether the unit's update is carried; they are spread evenly.
  bool IsDeferred(int unit) const;
};

// Sequences of a step, by all ranks.
int64_t GlobalBatchSize(const TrainingSection& training, int ranks);

// The largest micro-batch of at most eight sequences that divides every rank's share, unless the
// configuration names one. ConfigError where the batch cannot be formed.
Plan MakePlan(const ResolvedConfig& resolved, const ModelSpec& spec, const RankGrid& grid);

// The text of plan.yaml, memory table included.
std::string PlanYaml(const Plan& plan, const ModelSpec& spec);

}  // namespace hearth
