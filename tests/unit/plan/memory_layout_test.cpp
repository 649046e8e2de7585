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

struct Spans {
  std::vector<Span> slab, arena, host;
};

// Everything but the tensors of the blocks.
Spans CommonSpans(const Plan& plan, const ModelSpec& spec, int rank, const MemoryLayout& layout) {
  Spans s;
  const int64_t storage = SizeOf(plan.precision.storage),
                gradient = SizeOf(plan.precision.gradient);
  const auto region = [&](Tier tier) -> std::vector<Span>& {
    return tier == Tier::kDevice ? s.arena : s.host;
  };
  int64_t largest = 0;
  for (size_t u = 0; u < spec.units.size(); ++u) {
    const UnitSpec& unit = spec.units[u];
    const UnitLayout& at = layout.units[u];
    const int64_t fp8 = plan.precision.fp8 ? unit.matmul_elements : 0;
    int64_t matrices = 0;
    for (const ParameterSpec& p : spec.UnitParameters(static_cast<int>(u))) {
      matrices += p.fp8 && plan.precision.fp8 ? 1 : 0;
    }
    const std::string name = fmt::format(" of unit {}", u);
    EXPECT_EQ(at.dense_begin, fp8);
    Add(s.slab, at.fp8_values, fp8, "fp8" + name);
    Add(s.slab, at.dense, (unit.elements - fp8) * storage, "dense" + name);
    Add(s.slab, at.amax, 4 * matrices, "amax" + name);
    if (!plan.inference) Add(s.slab, at.gradients, unit.elements * gradient, "gradients" + name);
    Add(s.arena, at.fp8_transposed, fp8, "transposed" + name);
    Add(s.arena, at.scales, 16 * matrices, "scales" + name);
    const bool sums = plan.numeric.reduction_order == ReductionOrder::kRankThenMicro;
    Add(s.arena, at.shard_gradients, sums ? plan.Shard(unit, rank).count() * gradient : 0,
        "sums" + name);
    const int64_t own = plan.Updated(unit, rank).count();
    largest = std::max(largest, own);
    const int64_t moments = plan.inference ? 0 : own;
    const StateLayout& state = layout.states[u];
    Add(region(plan.optimizer.master), state.master, own * SizeOf(plan.state_types.master),
        "master" + name);
    Add(region(plan.optimizer.m), state.m, moments * SizeOf(plan.state_types.m), "m" + name);
    Add(region(plan.optimizer.v), state.v, moments * SizeOf(plan.state_types.v), "v" + name);
  }
  const Tier homes[] = {plan.optimizer.master, plan.optimizer.m, plan.optimizer.v};
  const DType types[] = {plan.state_types.master, plan.state_types.m, plan.state_types.v};
  for (const StagingLayout& slot : layout.staging) {
    Add(s.arena, slot.weights, largest * storage, "staged weights");
    for (int i = 0; i < 3; ++i) {
      const bool fetched = homes[i] == Tier::kHost && !plan.optimizer.update_on_host;
      Add(s.arena, slot.state[i], fetched ? largest * SizeOf(types[i]) : 0, "staged state");
    }
    if (!plan.optimizer.update_on_host) continue;
    Add(s.host, slot.host_gradients, largest * gradient, "host gradients");
    Add(s.host, slot.host_weights, largest * storage, "host weights");
    Add(s.host, slot.host_amax, 4 * 4, "host amax");
  }
  const int64_t n = plan.tokens_per_micro_batch, c = spec.config.hidden_size;
  for (int64_t mb = 0; mb < plan.micro_batches; ++mb) {
    for (bool host : {false, true}) {
      std::vector<Span>& spans = host ? s.host : s.arena;
      const BatchLayout& at = (host ? layout.host_batch : layout.batch)[static_cast<size_t>(mb)];
      Add(spans, at.tokens, 4 * n, "tokens");
      Add(spans, at.targets, 4 * n, "targets");
      Add(spans, at.positions, 4 * n, "positions");
      Add(spans, at.sequence_offsets, 4 * (plan.max_sequences + 1), "sequence offsets");
    }
  }
  for (int64_t offset : layout.boundaries) Add(s.arena, offset, n * c * storage, "boundary");
  Add(s.arena, layout.d_stream, n * c * storage, "d_stream");
  Add(s.arena, layout.head.rstd, 4 * n, "head rstd");
  Add(s.arena, layout.head.normed, n * c * storage, "head normed");
  Add(s.arena, layout.head.logits, plan.head_chunk_tokens * spec.padded_vocab_size() * storage,
      "logits");
  Add(s.arena, layout.head.losses, 4 * n, "losses");
  Add(s.arena, layout.head.d_normed, n * c * storage, "head d_normed");
  Add(s.arena, layout.cos_sin, 4 * plan.sequence_len * spec.config.head_dim, "cos_sin");
  Add(s.arena, layout.workspace, layout.workspace_bytes, "workspace");
  Add(s.slab, layout.words.sums, 80, "sums");
  Add(s.arena, layout.words.norm, 4, "norm");
  Add(s.arena, layout.words.control, 8, "control");
  Add(s.arena, layout.words.gradient_scale, 4, "gradient scale");
  Add(s.host, layout.words.host, static_cast<int64_t>(sizeof(StepWords)), "host words");
  return s;
}

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

TEST(MemoryLayout, NothingLiesOnWhatLivesAtTheSameTime) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  for (const PlanCase& c : PlanCases({1, 3})) {
    for (bool inference : {false, true}) {
      Plan plan = PlanOf(c, spec);
      plan.inference = inference;
      const int rank = c.world - 1;
      const MemoryLayout layout = MakeMemoryLayout(plan, spec, rank);
      const Spans common = CommonSpans(plan, spec, rank, layout);
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

TEST(MemoryLayout, TheTableAddsUpToTheAllocations) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  for (const PlanCase& c : PlanCases({1, 3})) {
    const MemoryLayout layout = MakeMemoryLayout(PlanOf(c, spec), spec, 0);
    std::map<Tier, int64_t> sums;
    std::map<std::pair<Tier, std::string>, int> lines;
    for (const MemoryPool& pool : layout.pools) {
      EXPECT_FALSE(pool.name.empty());
      EXPECT_EQ(++lines[std::pair(pool.tier, pool.name)], 1) << pool.name;
      sums[pool.tier] += pool.bytes;
    }
    EXPECT_EQ(sums[Tier::kDevice], layout.slab_bytes + layout.arena_bytes) << c.name;
    EXPECT_EQ(sums[Tier::kHost], layout.host_bytes) << c.name;
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
      for (size_t u = 0; u < spec.units.size(); ++u) {
        EXPECT_EQ(other.units[u].fp8_values, first.units[u].fp8_values) << c.name;
        EXPECT_EQ(other.units[u].dense, first.units[u].dense) << c.name;
        EXPECT_EQ(other.units[u].gradients, first.units[u].gradients) << c.name;
        EXPECT_EQ(other.units[u].amax, first.units[u].amax) << c.name;
      }
    }
  }
}

int64_t PoolBytes(const MemoryLayout& layout, Tier tier, std::string_view name) {
  int64_t bytes = 0;
  for (const MemoryPool& pool : layout.pools) {
    if (pool.tier == tier && pool.name == name) bytes += pool.bytes;
  }
  return bytes;
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
