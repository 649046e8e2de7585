// Where a rank's bytes lie: nothing on top of anything that lives at the same time, and no byte
// that the table does not name.
#include "runtime/plan/memory_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/unit/plan/plan_test_support.h"

namespace hearth {
namespace {

using test::PlanCase;
using test::PlanCases;
using test::PlanOf;
using test::SmallConfig;

struct Span {
  int64_t begin = 0;
  int64_t end = 0;
  std::string name;
};

// The spans do not overlap, lie in [0, bytes) and are aligned.
void ExpectDisjoint(std::vector<Span> spans, int64_t bytes, const std::string& where) {
  std::erase_if(spans, [](const Span& span) { return span.begin == span.end; });
  std::sort(spans.begin(), spans.end(),
            [](const Span& a, const Span& b) { return a.begin < b.begin; });
  int64_t end = 0;
  const Span* previous = nullptr;
  for (const Span& span : spans) {
    ASSERT_GE(span.begin, end) << where << span.name << " on " << (previous ? previous->name : "-");
    ASSERT_EQ(span.begin % 16, 0) << where << span.name;
    end = span.end;
    previous = &span;
  }
  ASSERT_LE(end, bytes) << where;
}

void Add(std::vector<Span>& spans, int64_t offset, int64_t bytes, std::string name) {
  spans.push_back({offset, offset + bytes, std::move(name)});
}

// Everything but the tensors of the blocks.
class CommonSpans {
 public:
  CommonSpans(const Plan& plan, const ModelSpec& spec, int rank, const MemoryLayout& layout)
      : plan_(plan), spec_(spec), rank_(rank), layout_(layout) {
    for (size_t u = 0; u < spec.units.size(); ++u) {
      AddWeightsAndGradients(u);
      AddState(u);
    }
    AddStaging();
    AddBatches();
    AddHeadAndWords();
  }

  std::vector<Span> slab, arena, host;

 private:
  std::vector<Span>& In(Tier tier) { return tier == Tier::kDevice ? arena : host; }
  int64_t Storage() const { return SizeOf(plan_.precision.storage); }
  int64_t Gradient() const { return SizeOf(plan_.precision.gradient); }

  void AddWeightsAndGradients(size_t u) {
    const UnitSpec& unit = spec_.units[u];
    const UnitLayout& at = layout_.units[u];
    const bool is_fp8 =
        unit.kind == UnitKind::kHead ? plan_.precision.fp8_head : plan_.precision.fp8;
    const int64_t fp8 = is_fp8 ? unit.matmul_elements : 0;
    int64_t matrices = 0;
    for (const ParameterSpec& p : spec_.UnitParameters(static_cast<int>(u))) {
      matrices += p.fp8 && is_fp8 ? 1 : 0;
    }
    const std::string name = fmt::format(" of unit {}", u);
    EXPECT_EQ(at.dense_begin, fp8);
    const bool in_slot = unit.kind == UnitKind::kBlock &&
                         (plan_.weights.sharded || plan_.weights.tier == Tier::kHost);
    if (!in_slot || unit.layer < 2) {
      Add(slab, at.fp8_values, fp8, "fp8" + name);
      Add(slab, at.dense, (unit.elements - fp8) * Storage(), "dense" + name);
    } else {
      EXPECT_EQ(at.fp8_values, layout_.units[u - 2].fp8_values);
      EXPECT_EQ(at.dense, layout_.units[u - 2].dense);
    }
    Add(slab, at.amax, 4 * matrices, "amax" + name);
    AddGradients(u, name);
    if (!in_slot || unit.layer < 1) {
      Add(arena, at.fp8_transposed, fp8, "transposed" + name);
    } else {
      EXPECT_EQ(at.fp8_transposed, layout_.units[u - 1].fp8_transposed);
    }
    if (in_slot) AddHome(unit, at, fp8, name);
    if (fp8 > 0) largest_staged_ = std::max(largest_staged_, plan_.Updated(unit, rank_).count());
    Add(arena, at.scales, 16 * matrices, "scales" + name);
  }

  // Blocks with turns in two slots, embedding and head in a third one, unless a table is tied.
  void AddGradients(size_t u, const std::string& name) {
    const UnitSpec& unit = spec_.units[u];
    const UnitLayout& at = layout_.units[u];
    const bool on_host = plan_.gradients.tier == Tier::kHost;
    const bool ranks_first = plan_.numeric.reduction_order == ReductionOrder::kRankThenMicro;
    const int64_t shard = plan_.Shard(unit, rank_).count() * Gradient();
    const bool block = unit.kind == UnitKind::kBlock;
    const bool in_slot = !plan_.inference && (on_host || plan_.gradients.sharded) &&
                         (block || !spec_.config.tie_word_embeddings);
    if (!in_slot) {
      if (!plan_.inference) Add(slab, at.gradients, unit.elements * Gradient(), "gradients" + name);
      if (ranks_first) Add(arena, at.shard_gradients, shard, "sums" + name);
      return;
    }
    const int slot = block ? static_cast<int>(unit.layer % 2) : 2;
    int64_t elements = 0, largest_shard = 0;
    for (const UnitSpec& other : spec_.units) {
      if ((other.kind == UnitKind::kBlock) != block) continue;
      if (block && other.layer % 2 != slot) continue;
      elements = std::max(elements, other.elements);
      largest_shard = std::max(largest_shard, plan_.Shard(other, rank_).count());
    }
    if (!slots_.contains(slot)) {
      Add(slab, at.gradients, elements * Gradient(), "gradient slot" + name);
      if (on_host && ranks_first) {
        Add(arena, at.shard_gradients, largest_shard * Gradient(), "sum slot" + name);
      }
      slots_[slot] = at;
    }
    EXPECT_EQ(at.gradients, slots_[slot].gradients) << name;
    if (!on_host) Add(arena, at.shard_gradients, shard, "sums" + name);
    if (!on_host) return;
    if (ranks_first) {
      EXPECT_EQ(at.shard_gradients, slots_[slot].shard_gradients) << name;
    }
    const int64_t whole = unit.elements * Gradient();
    Add(host, at.host_gradients, plan_.gradients.sharded ? shard : whole, "sums" + name);
    const bool one_group = plan_.micro_batches <= plan_.micro_batches_per_group;
    EXPECT_EQ(plan_.gradients.sharded,
              plan_.world > 1 && plan_.zero_stage > 0 && (ranks_first || one_group));
  }

  void AddHome(const UnitSpec& unit, const UnitLayout& at, int64_t fp8, const std::string& name) {
    const ElementRange own = plan_.Updated(unit, rank_);
    const int64_t own_fp8 = std::max<int64_t>(0, std::min(own.end, fp8) - own.begin);
    Add(In(plan_.weights.tier), at.home_fp8, own_fp8, "fp8 at home" + name);
    Add(In(plan_.weights.tier), at.home_dense, (own.count() - own_fp8) * Storage(),
        "dense at home" + name);
    if (plan_.weights.tier == Tier::kDevice) return;
    outgoing_fp8_ = std::max(outgoing_fp8_, own_fp8);
    if (!plan_.optimizer.update_on_host) largest_staged_ = std::max(largest_staged_, own.count());
  }

  void AddState(size_t u) {
    const std::string name = fmt::format(" of unit {}", u);
    const int64_t own = plan_.Updated(spec_.units[u], rank_).count();
    largest_ = std::max(largest_, own);
    const bool read_on_host =
        plan_.gradients.tier == Tier::kHost && !plan_.inference &&
        (spec_.units[u].kind == UnitKind::kBlock || !spec_.config.tie_word_embeddings);
    if (!read_on_host) largest_moved_ = std::max(largest_moved_, own);
    const int64_t moments = plan_.inference ? 0 : own;
    const StateLayout& at = layout_.states[u];
    const OptimizerPlacement& place = plan_.optimizer;
    Add(In(place.master), at.master, own * SizeOf(plan_.state_types.master), "master" + name);
    Add(In(place.m), at.m, moments * SizeOf(plan_.state_types.m), "m" + name);
    Add(In(place.v), at.v, moments * SizeOf(plan_.state_types.v), "v" + name);
  }

  void AddStaging() {
    AddStateSlots();
    for (const StagingLayout& slot : layout_.staging) {
      Add(arena, slot.weights, largest_staged_ * Storage(), "staged weights");
      Add(arena, slot.fp8, outgoing_fp8_, "staged FP8 weights");
      if (!plan_.optimizer.update_on_host) continue;
      Add(host, slot.host_gradients, largest_moved_ * Gradient(), "host gradients");
      Add(host, slot.host_weights, largest_ * Storage(), "host weights");
      Add(host, slot.host_amax, 4 * 4, "host amax");
    }
  }

  void AddStateSlots() {
    const Tier homes[] = {plan_.optimizer.master, plan_.optimizer.m, plan_.optimizer.v};
    const DType types[] = {plan_.state_types.master, plan_.state_types.m, plan_.state_types.v};
    int64_t largest = 0;
    for (int u = 0; u < static_cast<int>(spec_.units.size()); ++u) {
      for (const ElementRange& piece : StatePieces(plan_, spec_, u, rank_)) {
        largest = std::max(largest, piece.count());
      }
    }
    for (const StateSlotLayout& slot : layout_.state_slots) {
      for (int i = 0; i < 3; ++i) {
        const bool fetched = homes[i] == Tier::kHost && !plan_.optimizer.update_on_host;
        Add(arena, slot.state[i], fetched ? largest * SizeOf(types[i]) : 0, "staged state");
      }
    }
  }

  void AddBatches() {
    const int64_t n = plan_.tokens_per_micro_batch;
    for (int64_t mb = 0; mb < plan_.micro_batches; ++mb) {
      const BatchLayout& at = layout_.batch[static_cast<size_t>(mb)];
      const auto add = [&](std::vector<Span>& spans, int64_t begin) {
        Add(spans, begin + at.tokens, 4 * n, "tokens");
        Add(spans, begin + at.targets, 4 * n, "targets");
        Add(spans, begin + at.positions, 4 * n, "positions");
        Add(spans, begin + at.sequence_offsets, 4 * (plan_.max_sequences + 1), "sequence offsets");
      };
      add(arena, layout_.device_batch);
      for (int64_t slot : layout_.host_batch) add(host, slot);
    }
    for (int64_t piece : layout_.transfer) {
      Add(host, piece, layout_.transfer_piece_bytes, "transfer piece");
    }
  }

  void AddHeadAndWords() {
    const int64_t n = plan_.tokens_per_micro_batch, c = spec_.config.hidden_size;
    for (int64_t offset : layout_.boundaries) Add(arena, offset, n * c * Storage(), "boundary");
    for (int64_t at : layout_.host_boundaries) Add(host, at, n * c * Storage(), "on the host");
    Add(arena, layout_.head.rstd, 4 * n, "head rstd");
    const bool fp8_head = plan_.precision.fp8_head;
    Add(arena, layout_.head.normed, n * c * (fp8_head ? 1 : Storage()), "head normed");
    if (fp8_head) AddFp8Head();
    Add(arena, layout_.head.logits, plan_.head_chunk_tokens * spec_.padded_vocab_size() * Storage(),
        "logits");
    Add(arena, layout_.head.losses, 4 * n, "losses");
    Add(arena, layout_.head.d_normed, n * c * Storage(), "head d_normed");
    Add(arena, layout_.cos_sin, 4 * plan_.sequence_len * spec_.config.head_dim, "cos_sin");
    Add(arena, layout_.workspace, layout_.workspace_bytes, "workspace");
    Add(slab, layout_.words.sums, 88, "sums");
    const bool history = plan_.precision.verified_scales && !plan_.inference;
    const int64_t scales = history ? spec_.config.num_layers * 8 : 0;
    const bool amaxes = plan_.precision.fp8 && !plan_.inference;
    const int64_t amax_bytes = amaxes ? spec_.config.num_layers * 32 : 0;
    Add(slab, layout_.words.step_amax, amax_bytes, "step amax");
    Add(host, layout_.words.host_amax, amax_bytes, "host amax of the step");
    Add(arena, layout_.words.amax_history, 4 * scales, "amax history");
    Add(arena, layout_.words.step_scales, 16 * scales, "step scales");
    Add(arena, layout_.words.norm, 4, "norm");
    Add(arena, layout_.words.control, 8, "control");
    Add(arena, layout_.words.gradient_scale, 4, "gradient scale");
    Add(host, layout_.words.host, static_cast<int64_t>(sizeof(StepWords)), "host words");
  }

  void AddFp8Head() {
    const int64_t c = spec_.config.hidden_size, vocab = spec_.padded_vocab_size();
    const HeadLayout& head = layout_.head;
    Add(arena, head.normed_scale, 16, "head's scale");
    Add(arena, head.d_logits_scale, 16, "d_logits' scale");
    if (!plan_.inference) {
      const int64_t rows = std::min(plan_.numeric.head_slab_tokens, plan_.tokens_per_micro_batch);
      Add(arena, head.normed_transposed, rows * c, "head normed, transposed");
      Add(arena, head.d_logits, rows * vocab, "d_logits");
    }
    if (!spec_.config.tie_word_embeddings) return;
    Add(arena, layout_.tied_head.values, vocab * c, "tied head");
    Add(arena, layout_.tied_head.transposed, vocab * c, "tied head, transposed");
    Add(arena, layout_.tied_head.scale, 16, "tied head's scale");
  }

  const Plan& plan_;
  const ModelSpec& spec_;
  const int rank_;
  const MemoryLayout& layout_;
  int64_t largest_ = 0;         // elements of a unit that this rank updates
  int64_t largest_staged_ = 0;  // of those that are quantised, or go to the host from the device
  int64_t outgoing_fp8_ = 0;
  int64_t largest_moved_ = 0;        // and whose gradient goes to the host for it
  std::map<int, UnitLayout> slots_;  // by the first unit in them
};

// The tensors of a layer that share nothing, and those that outlive it.
bool Outlives(const BlockTensorSpec& tensor, const RecomputeSet& recompute) {
  return tensor.lifetime == Lifetime::kAlways ||
         (tensor.lifetime == Lifetime::kSaved && !recompute.Drops(tensor.tensor));
}

// While layer `present` is computed: its own tensors, and what the others keep.
std::vector<Span> BlockSpans(const Plan& plan, const ModelSpec& spec, const MemoryLayout& layout,
                             int64_t present) {
  std::vector<Span> spans;
  const auto table = BlockTensors(spec.config, plan.precision, plan.tokens_per_micro_batch);
  for (int64_t layer = 0; layer < spec.config.num_layers; ++layer) {
    for (size_t t = 0; t < table.size(); ++t) {
      const int64_t offset = layout.block_tensors[static_cast<size_t>(layer)][t];
      const BlockTensorSpec& tensor = table[t];
      if (tensor.lifetime == Lifetime::kAbsent || tensor.lifetime == Lifetime::kBoundary) continue;
      if (plan.inference && tensor.lifetime == Lifetime::kBackward) continue;
      EXPECT_GE(offset, 0);
      const bool outlives = Outlives(tensor, plan.recompute[static_cast<size_t>(layer)]);
      if (layer != present && !outlives) continue;
      Add(spans, offset, tensor.bytes(), fmt::format("{} of layer {}", Name(tensor.tensor), layer));
    }
  }
  return spans;
}

int64_t PoolBytes(const MemoryLayout& layout, Tier tier, std::string_view name) {
  int64_t bytes = 0;
  for (const MemoryPool& pool : layout.pools) {
    if (pool.tier == tier && pool.name == name) bytes += pool.bytes;
  }
  return bytes;
}

TEST(MemoryLayout, NothingLiesOnWhatLivesAtTheSameTime) {
  const ModelSpec untied = BuildModelSpec(SmallConfig());
  const ModelSpec tied = BuildModelSpec(SmallConfig(/*tied=*/true));
  for (const PlanCase& c : PlanCases({1, 3})) {
    for (bool inference : {false, true}) {
      const ModelSpec& spec = inference ? tied : untied;
      Plan plan = PlanOf(c, spec);
      plan.inference = inference;
      const int rank = c.world - 1;
      const MemoryLayout layout = MakeMemoryLayout(plan, spec, rank);
      const CommonSpans common(plan, spec, rank, layout);
      ExpectDisjoint(common.slab, layout.slab_bytes, c.name);
      ExpectDisjoint(common.host, layout.host_bytes, c.name);
      for (int64_t layer = 0; layer < spec.config.num_layers; ++layer) {
        std::vector<Span> arena = common.arena;
        const std::vector<Span> block = BlockSpans(plan, spec, layout, layer);
        arena.insert(arena.end(), block.begin(), block.end());
        ExpectDisjoint(arena, layout.arena_bytes, c.name);
      }
    }
  }
}

// To the byte: an FP8 head takes the place of half of what it reads, and a slab's FP8 gradient.
TEST(MemoryLayout, WhatAnFp8HeadTakes) {
  const auto bytes = [](bool tied, const std::string& more) {
    const ModelSpec spec = BuildModelSpec(SmallConfig(tied));
    const MemoryLayout layout = MakeMemoryLayout(
        PlanOf({.more = "precision: {fp8_lm_head: " + more + "}\n"}, spec), spec, 0);
    return std::map<std::string, int64_t>{
        {"weights", PoolBytes(layout, Tier::kDevice, "weights")},
        {"transposed", PoolBytes(layout, Tier::kDevice, "transposed weights")},
        {"logits", PoolBytes(layout, Tier::kDevice, "logits")},
        {"all", layout.slab_bytes + layout.arena_bytes},
        {"host", layout.host_bytes}};
  };
  constexpr int64_t kMatrix = 96 * 48;
  for (const bool tied : {false, true}) {
    std::map<std::string, int64_t> with = bytes(tied, "true"), without = bytes(tied, "false");
    // Every tensor starts at a multiple of 256, every unit on a page.
    constexpr int64_t kGap = 4096 + 256;
    const int64_t weights = tied ? kMatrix : -kMatrix;
    EXPECT_LE(std::abs(with["weights"] - without["weights"] - weights), kGap) << tied;
    EXPECT_LE(std::abs(with["transposed"] - without["transposed"] - kMatrix), kGap) << tied;
    EXPECT_LE(std::abs(with["logits"] - without["logits"] - 48 * 96), 256) << tied;
    EXPECT_EQ(with["host"], without["host"]);
    EXPECT_NE(with["all"], without["all"]);
  }
}

// One copy sets the records of all layers.
TEST(MemoryLayout, ScaleRecordsOfAllLayersLieTogether) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const Plan plan = PlanOf({.more = "precision: {compute_dtype: fp8}\n"}, spec);
  const MemoryLayout layout = MakeMemoryLayout(plan, spec, 0);
  for (int64_t layer = 0; layer < spec.config.num_layers; ++layer) {
    EXPECT_EQ(
        layout.block_tensors[static_cast<size_t>(layer)][static_cast<size_t>(BlockTensor::kScales)],
        layout.scale_records + layer * 128);
  }
}

TEST(MemoryLayout, TheTableAddsUpToTheAllocations) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  for (const PlanCase& c : PlanCases({1, 3})) {
    Plan plan = PlanOf(c, spec);
    // An odd number of shared bytes: a rank's part is rounded up.
    plan.communicator = {.device_bytes = 100 * c.world, .pinned_bytes = 20, .shared_bytes = 7};
    plan.ranks_per_host = 3;
    const MemoryLayout layout = MakeMemoryLayout(plan, spec, 0);
    std::map<Tier, int64_t> sums;
    std::map<std::pair<Tier, std::string>, int> lines;
    for (const MemoryPool& pool : layout.pools) {
      EXPECT_FALSE(pool.name.empty());
      EXPECT_EQ(++lines[std::pair(pool.tier, pool.name)], 1) << pool.name;
      sums[pool.tier] += pool.bytes;
    }
    EXPECT_EQ(sums[Tier::kDevice], layout.slab_bytes + layout.arena_bytes + 100 * c.world)
        << c.name;
    EXPECT_EQ(sums[Tier::kHost], layout.host_bytes + 20 + 3) << c.name;
  }
}

// Collectives name ranges by one offset for all ranks.
TEST(MemoryLayout, TheSlabIsTheSameOnEveryRank) {
  const ModelSpec spec = BuildModelSpec(SmallConfig(/*tied=*/true));
  for (const PlanCase& c : PlanCases({2, 7})) {
    const Plan plan = PlanOf(c, spec);
    const MemoryLayout first = MakeMemoryLayout(plan, spec, 0);
    for (int rank = 1; rank < c.world; ++rank) {
      const MemoryLayout other = MakeMemoryLayout(plan, spec, rank);
      EXPECT_EQ(other.slab_bytes, first.slab_bytes) << c.name;
      EXPECT_EQ(other.words.sums, first.words.sums) << c.name;
      EXPECT_EQ(other.words.step_amax, first.words.step_amax) << c.name;
      for (size_t u = 0; u < spec.units.size(); ++u) {
        EXPECT_EQ(other.units[u].fp8_values, first.units[u].fp8_values) << c.name;
        EXPECT_EQ(other.units[u].dense, first.units[u].dense) << c.name;
        EXPECT_EQ(other.units[u].gradients, first.units[u].gradients) << c.name;
        EXPECT_EQ(other.units[u].amax, first.units[u].amax) << c.name;
      }
    }
  }
}

TEST(MemoryLayout, InferenceHasNoGradientsAndNoMoments) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  Plan plan = PlanOf({}, spec);
  const MemoryLayout training = MakeMemoryLayout(plan, spec, 0);
  plan.inference = true;
  const MemoryLayout inference = MakeMemoryLayout(plan, spec, 0);
  EXPECT_GE(PoolBytes(training, Tier::kDevice, "gradients"), spec.StoredElements() * 2);
  EXPECT_LT(PoolBytes(inference, Tier::kDevice, "gradients"), 4096);
  // fp32 master and two bf16 moments, against the master alone; every unit starts on a page.
  const auto pages = static_cast<int64_t>(3 * spec.units.size()) * 4096;
  const int64_t states = PoolBytes(training, Tier::kDevice, "optimizer state");
  EXPECT_GE(states, spec.StoredElements() * 8);
  EXPECT_LE(states, spec.StoredElements() * 8 + pages);
  EXPECT_LE(PoolBytes(inference, Tier::kDevice, "optimizer state"),
            spec.StoredElements() * 4 + pages);
}

TEST(MemoryLayout, WhatIsOffloadedLeavesTheDevice) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const MemoryLayout layout =
      MakeMemoryLayout(PlanOf({.more = "memory: {offload: {optimizer: host}}\n"}, spec), spec, 0);
  EXPECT_LT(PoolBytes(layout, Tier::kDevice, "optimizer state"), 4096);
  EXPECT_GE(PoolBytes(layout, Tier::kHost, "optimizer state"), spec.StoredElements() * 8);
}

// All but the last layer's wait on the host; on the device are two arrays with one to spare.
TEST(MemoryLayout, BlockInputsOnTheHost) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  for (const int64_t group : {1, 2, 4}) {
    const Plan plan = PlanOf({.more = fmt::format("memory: {{recompute: [block], offload: "
                                                  "{{residual: host}}, "
                                                  "micro_batches_per_group: {}}}\n",
                                                  group)},
                             spec);
    const MemoryLayout layout = MakeMemoryLayout(plan, spec, 0);
    const int64_t bytes = 48 * int64_t{48} * 2;  // of one, in bf16
    const int64_t device = PoolBytes(layout, Tier::kDevice, "block inputs");
    const int64_t host = PoolBytes(layout, Tier::kHost, "block inputs");
    EXPECT_GE(device, 2 * (group + 1) * bytes);
    EXPECT_LE(device, 2 * (group + 1) * (bytes + 256));
    EXPECT_GE(host, group * (spec.config.num_layers - 1) * bytes);
    EXPECT_LE(host, group * (spec.config.num_layers - 1) * (bytes + 4096));
  }
}

// Of three blocks two slots stay on the device, and one transposed copy.
TEST(MemoryLayout, WeightsOfBlocksThatAreNotWholeOnTheDevice) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const int64_t block = spec.units[1].elements, fp8 = spec.units[1].matmul_elements;
  const int64_t bytes = fp8 + 2 * (block - fp8);
  constexpr int64_t kGap = 8 * 4096;
  for (const bool host : {false, true}) {
    Plan plan =
        PlanOf({.more = host ? "memory: {offload: {weights: host}}\n" : "", .world = 3}, spec);
    const MemoryLayout whole = MakeMemoryLayout(PlanOf({.world = 3}, spec), spec, 1);
    plan.weights.sharded = true;
    const MemoryLayout layout = MakeMemoryLayout(plan, spec, 1);
    const int64_t freed =
        PoolBytes(whole, Tier::kDevice, "weights") - PoolBytes(layout, Tier::kDevice, "weights");
    EXPECT_LE(std::abs(freed - 3 * bytes + (host ? 0 : bytes)), kGap) << host;
    EXPECT_LE(std::abs(PoolBytes(layout, Tier::kHost, "weights") - (host ? bytes : 0)), kGap);
    EXPECT_LE(std::abs(PoolBytes(layout, Tier::kDevice, "weight slots") - 2 * bytes - fp8), kGap);
    EXPECT_EQ(PoolBytes(layout, Tier::kDevice, "transposed weights"), 0);
  }
}

TEST(MemoryLayout, RecomputeFreesWhatItDrops) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const auto activations = [&](const char* recompute) {
    const Plan plan = PlanOf({.more = fmt::format("memory: {{recompute: {}}}\n", recompute)}, spec);
    return PoolBytes(MakeMemoryLayout(plan, spec, 0), Tier::kDevice, "activations");
  };
  EXPECT_LT(activations("[swiglu]"), activations("none"));
  EXPECT_LT(activations("[swiglu, norm]"), activations("[swiglu]"));
  EXPECT_LT(activations("[block]"), activations("none") / 8);
}

}  // namespace
}  // namespace hearth
