// The rules by which a plan is chosen.
#include "runtime/plan/plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/core/error.h"
#include "runtime/plan/memory_layout.h"
#include "tests/unit/plan/plan_test_support.h"

namespace hearth {
namespace {

using test::PlanCase;
using test::PlanOf;
using test::ResolvedOf;
using test::SmallConfig;

Plan SmallPlan(const PlanCase& c) { return PlanOf(c, BuildModelSpec(SmallConfig())); }

std::string PlanError(const PlanCase& c) {
  try {
    SmallPlan(c);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Plan, TheMicroBatchIsTheLargestOfAtMostEightThatDividesEveryRanksShare) {
  for (int64_t global = 1; global <= 40; ++global) {
    for (int world = 1; world <= 7 && world <= global; ++world) {
      const Plan plan =
          SmallPlan({.training = fmt::format("global_batch_size: {}", global), .world = world});
      // Shares differ by at most one: both floor and ceiling occur unless world divides.
      const int64_t low = global / world, high = low + (global % world != 0 ? 1 : 0);
      int64_t best = 1;
      for (int64_t size = 2; size <= 8; ++size) {
        if (low % size == 0 && high % size == 0) best = size;
      }
      EXPECT_EQ(plan.numeric.micro_batch_size, best) << global << " over " << world;
      EXPECT_EQ(plan.micro_batches, high / best + (high % best != 0 ? 1 : 0));
    }
  }
}

TEST(Plan, AMicroBatchThatDoesNotDivideIsTakenAndTheRestIsPadded) {
  const Plan plan = SmallPlan({.training = "global_batch_size: 7, micro_batch_size: 2"});
  EXPECT_EQ(plan.numeric.micro_batch_size, 2);
  EXPECT_EQ(plan.micro_batches, 4);
  // Ranks of 3 and 4 sequences: both run as many micro-batches as the larger needs.
  EXPECT_EQ(SmallPlan({.training = "global_batch_size: 7, micro_batch_size: 2", .world = 2})
                .micro_batches,
            2);
}

TEST(Plan, AccumulationStepsAreOfEachRank) {
  const Plan plan =
      SmallPlan({.training = "gradient_accumulation_steps: 3, micro_batch_size: 2", .world = 4});
  EXPECT_EQ(plan.global_batch_size, 24);
  EXPECT_EQ(plan.micro_batches, 3);
}

TEST(Plan, TokensArePaddedToSixteen) {
  // 24 tokens a sequence: three sequences are 72, padded to 80.
  const Plan plan = SmallPlan({.training = "global_batch_size: 3, micro_batch_size: 3"});
  EXPECT_EQ(plan.tokens_per_micro_batch, 80);
  EXPECT_EQ(plan.max_sequences, 72);
}

TEST(Plan, WithoutPackingARowIsASequence) {
  EXPECT_TRUE(SmallPlan({.training = "global_batch_size: 3, micro_batch_size: 3"}).packed);
  const Plan plan = SmallPlan(
      {.training = "global_batch_size: 3, micro_batch_size: 3", .data = ", sample_packing: false"});
  EXPECT_FALSE(plan.packed);
  EXPECT_EQ(plan.max_sequences, 3);
  EXPECT_EQ(plan.tokens_per_micro_batch, 80);
}

TEST(Plan, MoreRanksThanSequencesAreRefusedAtTheirPlace) {
  const std::string message =
      PlanError({.training = "global_batch_size: 1, micro_batch_size: 1", .world = 2});
  EXPECT_TRUE(message.starts_with("run.yaml:3:31: error: ")) << message;
  EXPECT_NE(message.find("global_batch_size 1"), std::string::npos) << message;
  EXPECT_NE(message.find("ranks 2"), std::string::npos) << message;
  EXPECT_EQ(PlanError({.training = "global_batch_size: 2", .world = 2}), "no error");
}

TEST(Plan, SequencesBeyondTheModelsPositionsAreRefusedAtTheirPlace) {
  ModelConfig config = SmallConfig();
  config.max_position_embeddings = 23;
  try {
    PlanOf({}, BuildModelSpec(config));
    FAIL() << "24 tokens in a model of 23 positions";
  } catch (const ConfigError& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("run.yaml:2:")) << error.what();
    EXPECT_NE(std::string(error.what()).find("23 positions"), std::string::npos) << error.what();
  }
  config.max_position_embeddings = 24;
  EXPECT_NO_THROW(PlanOf({}, BuildModelSpec(config)));
}

TEST(Plan, SizesThatFp8CannotTakeAreRefusedAtTheirPlace) {
  ModelConfig config = SmallConfig();
  config.intermediate_size = 77;
  const ModelSpec spec = BuildModelSpec(config);
  try {
    PlanOf({.name = "fp8", .more = "precision: {compute_dtype: fp8}\n"}, spec);
    FAIL() << "planned";
  } catch (const ConfigError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.rfind("run.yaml:4:", 0), 0u) << message;
    EXPECT_NE(message.find("intermediate_size = 77"), std::string::npos) << message;
  }
  PlanOf({.name = "bf16", .more = "precision: {compute_dtype: bf16}\n"}, spec);
}

TEST(Plan, SlabsThatAnFp8HeadCannotTakeAreRefusedAtTheirPlace) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const auto plan = [&](const std::string& head) {
    return PlanOf(
        {.name = "slabs",
         .more = "precision: {fp8_lm_head: " + head + "}\nmemory: {head_slab_tokens: 24}\n"},
        spec);
  };
  EXPECT_EQ(plan("false").precision.fp8_head, false);
  try {
    plan("true");
    FAIL() << "planned";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(
        error.what(),
        "run.yaml:5:28: error: memory.head_slab_tokens: an FP8 head sums its gradient over "
        "slabs in multiples of 16 tokens, not 24; write 32, or fp8_lm_head: false");
  }
}

TEST(Plan, ChunksOfTheHeadAreWholeSlabs) {
  // 3 sequences of 24 tokens, padded to 80; slabs of 16: five.
  for (int chunks = 1; chunks <= 9; ++chunks) {
    const Plan plan = SmallPlan(
        {.more = fmt::format("memory: {{head_slab_tokens: 16, lm_head_chunks: {}}}\n", chunks),
         .training = "global_batch_size: 3, micro_batch_size: 3"});
    EXPECT_EQ(plan.head_chunk_tokens % 16, 0) << chunks;
    const int64_t slabs = static_cast<int64_t>(std::ceil(5.0 / std::min(chunks, 5)));
    EXPECT_EQ(plan.head_chunk_tokens, 16 * slabs) << chunks;
  }
  // A slab larger than the micro-batch: one chunk of all its rows.
  EXPECT_EQ(SmallPlan({.training = "global_batch_size: 3, micro_batch_size: 3"}).head_chunk_tokens,
            80);
}

TEST(Plan, TheOptimizerIsPlacedAsAskedFor) {
  EXPECT_EQ(SmallPlan({}).optimizer, OptimizerPlacement{});
  const auto host = [](const char* more) {
    return SmallPlan({.more = fmt::format("memory: {{{}}}\n", more)}).optimizer;
  };
  EXPECT_EQ(host("offload: {m: host}"), (OptimizerPlacement{.m = Tier::kHost}));
  const OptimizerPlacement all{
      .master = Tier::kHost, .m = Tier::kHost, .v = Tier::kHost, .update_on_host = true};
  EXPECT_EQ(host("offload: {optimizer: host}"), all);
  EXPECT_EQ(host("offload: {optimizer: host}, optimizer_device: cpu"), all);
  OptimizerPlacement on_device = all;
  on_device.update_on_host = false;
  EXPECT_EQ(host("offload: {optimizer: host}, optimizer_device: gpu"), on_device);
}

TEST(Plan, AHostOptimizerBringsItsStateToTheHost) {
  EXPECT_EQ(
      SmallPlan({.more = "memory: {optimizer_device: cpu}\n"}).optimizer,
      (OptimizerPlacement{
          .master = Tier::kHost, .m = Tier::kHost, .v = Tier::kHost, .update_on_host = true}));
  EXPECT_TRUE(PlanError({.more = "memory: {optimizer_device: cpu, offload: {m: none}}\n"})
                  .starts_with("run.yaml:4:"));
}

TEST(Plan, ShardsTileEveryUnitInWholeBlocks) {
  for (bool tied : {false, true}) {
    const ModelSpec spec = BuildModelSpec(SmallConfig(tied));
    for (int world = 1; world <= 7; ++world) {
      const Plan plan = PlanOf({.world = world}, spec);
      for (const UnitSpec& unit : spec.units) {
        int64_t end = 0, least = unit.elements, most = 0;
        for (int rank = 0; rank < world; ++rank) {
          const ElementRange shard = plan.Shard(unit, rank);
          EXPECT_EQ(shard.begin, end);
          EXPECT_GE(shard.end, shard.begin);
          EXPECT_EQ(shard.begin % 1024, 0);
          EXPECT_EQ(shard.end % 1024, 0);
          least = std::min(least, shard.count());
          most = std::max(most, shard.count());
          end = shard.end;
          EXPECT_EQ(plan.Updated(unit, rank), shard);
        }
        EXPECT_EQ(end, unit.elements);
        EXPECT_LE(most - least, 1024);
      }
    }
    const Plan whole = PlanOf({.more = "parallel: {zero_stage: 0}\n", .world = 3}, spec);
    EXPECT_EQ(whole.Updated(spec.units[1], 2), (ElementRange{0, spec.units[1].elements}));
  }
}

TEST(Plan, TypesAndOrderAreTheConfigurations) {
  const Plan plan = SmallPlan({.more = "optimizer: {m_dtype: fp32, master_dtype: bf16_stochastic}\n"
                                       "parallel: {reduction_order: rank_then_micro}\n"});
  EXPECT_EQ(plan.state_types,
            (StateTypes{.master = DType::kBF16, .m = DType::kF32, .v = DType::kBF16}));
  EXPECT_EQ(plan.numeric.reduction_order, ReductionOrder::kRankThenMicro);
  EXPECT_EQ(SmallPlan({}).numeric.reduction_order, ReductionOrder::kMicroThenRank);
  EXPECT_TRUE(SmallPlan({}).precision.fp8);
}

TEST(Plan, GroupsAreAsAskedFor) {
  const auto group = [](const std::string& memory, int world = 1) {
    return SmallPlan({.more = fmt::format("memory: {{{}}}\n", memory), .world = world})
        .micro_batches_per_group;
  };
  EXPECT_EQ(group("schedule: auto"), 1);
  EXPECT_EQ(group("schedule: horizontal"), 1);
  EXPECT_EQ(group("schedule: vertical"), 4);
  const std::string streamed = "recompute: [block], offload: {residual: host}";
  EXPECT_EQ(group(streamed), 4);
  EXPECT_EQ(group(streamed + ", schedule: horizontal"), 1);
  EXPECT_EQ(group(streamed + ", micro_batches_per_group: 2"), 2);
  EXPECT_EQ(group("recompute: [block]"), 1);
  EXPECT_EQ(group("recompute: [ffn], offload: {residual: host}"), 1);
  EXPECT_EQ(group("schedule: vertical", 2), 2);
  EXPECT_EQ(group("micro_batches_per_group: 3"), 3);
  EXPECT_EQ(group("schedule: vertical, micro_batches_per_group: 2"), 2);
  EXPECT_EQ(SmallPlan({}).residual, Tier::kDevice);
  EXPECT_EQ(SmallPlan({.more = "memory: {offload: {residual: host}}\n"}).residual, Tier::kHost);
}

TEST(Plan, GroupsThatCannotBeAreRefusedAtTheirPlace) {
  EXPECT_EQ(PlanError({.more = "memory: {micro_batches_per_group: 5}\n"}),
            "run.yaml:4:35: error: memory.micro_batches_per_group: a step has 4 micro-batches, not "
            "5; write at most 4, or auto");
  EXPECT_EQ(PlanError({.more = "memory: {schedule: horizontal, micro_batches_per_group: 2}\n"}),
            "run.yaml:4:57: error: memory.micro_batches_per_group: the horizontal schedule has one "
            "micro-batch per group; write 1, "
            "or schedule: vertical");
  const PlanCase ranks_first{.more =
                                 "parallel: {reduction_order: rank_then_micro}\n"
                                 "memory: {schedule: vertical}\n",
                             .world = 2};
  EXPECT_EQ(PlanError(ranks_first), "no error");
  EXPECT_THROW(PlanOf(ranks_first, BuildModelSpec(SmallConfig(/*tied=*/true))), ConfigError);
}

TEST(Plan, TheTextNamesEveryPoolOfRankZero) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const Plan plan = PlanOf({.world = 2}, spec);
  const std::string text = PlanYaml(plan, spec);
  for (const MemoryPool& pool : MakeMemoryLayout(plan, spec, 0).pools) {
    EXPECT_NE(text.find(fmt::format("pool: {}, bytes: {}}}", pool.name, pool.bytes)),
              std::string::npos)
        << pool.name;
  }
  EXPECT_EQ(text, PlanYaml(plan, spec));
}

}  // namespace
}  // namespace hearth
