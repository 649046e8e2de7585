#include "runtime/plan/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "runtime/config/field_table.h"
#include "runtime/plan/plan_ladder.h"
#include "tests/unit/plan/plan_test_support.h"
#include "tests/unit/plan/slow_card.h"

namespace hearth::test {
namespace {

MemoryLimits Limits(int64_t device_bytes, int64_t host_bytes = int64_t{1} << 40) {
  return {.device = {.key = "memory.gpu_budget", .budget_bytes = device_bytes},
          .host = {.key = "memory.host_budget", .budget_bytes = host_bytes},
          .device_is_host = false};
}

std::vector<ResolvedConfig> AllSettings(const ResolvedConfig& resolved,
                                        const std::vector<Lever>& ladder) {
  std::vector<ResolvedConfig> settings = {resolved};
  for (const Lever& lever : ladder) {
    std::vector<ResolvedConfig> more;
    for (const ResolvedConfig& setting : settings) {
      for (size_t value = 0; value < lever.values.size(); ++value) {
        more.push_back(setting);
        Pull(lever, value, more.back().config);
      }
    }
    settings = std::move(more);
  }
  return settings;
}

// Every setting that is a run.
struct Tried {
  MemoryNeed need;
  double seconds = 0;
};

std::vector<Tried> TryAll(const ResolvedConfig& resolved, const ModelSpec& spec, int world) {
  std::vector<Tried> tried;
  for (const ResolvedConfig& setting :
       AllSettings(resolved, PlanLadder(resolved, spec, world, SlowCard()))) {
    try {
      const Plan plan = MakePlan(setting, spec, world);
      tried.push_back({NeedOf(plan, spec), EstimateStep(plan, spec, SlowCard()).seconds});
    } catch (const ConfigError&) {
    }
  }
  return tried;
}

double FastestThatFits(const std::vector<Tried>& tried, const MemoryLimits& limits) {
  double fastest = std::numeric_limits<double>::infinity();
  for (const Tried& each : tried) {
    if (Fits(each.need, limits)) fastest = std::min(fastest, each.seconds);
  }
  return fastest;
}

int64_t LeastDeviceBytes(const std::vector<Tried>& tried) {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const Tried& each : tried) least = std::min(least, each.need.device_bytes);
  return least;
}

PlanCase OpenCase(int world = 1, const std::string& more = "") {
  return {.name = "", .more = more, .training = "global_batch_size: 4", .world = world};
}

// Budgets from what the greediest takes down to what the thriftiest does, and below.
TEST(Planner, IsAsGoodAsTryingEverything) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  for (const int world : {1, 2}) {
    const ResolvedConfig resolved = ResolvedOf(OpenCase(world));
    const int64_t most = NeedOf(MakePlan(resolved, spec, world), spec).device_bytes;
    const std::vector<Tried> tried = TryAll(resolved, spec, world);
    const int64_t least = LeastDeviceBytes(tried);
    ASSERT_LT(least, most);
    for (const int64_t budget :
         {2 * most, most, (3 * most + least) / 4, (most + least) / 2, least}) {
      const MemoryLimits limits = Limits(budget);
      const double best = FastestThatFits(tried, limits);
      const ChosenPlan run = ChoosePlan({resolved, spec, world, limits, SlowCard()});
      ASSERT_TRUE(run.fits) << budget;
      EXPECT_TRUE(Fits(NeedOf(run.plan, spec), limits)) << budget;
      const double chosen = EstimateStep(run.plan, spec, SlowCard()).seconds;
      // One per cent is given away for simplicity, and a little to the rough clock.
      EXPECT_FALSE(!(chosen <= best * 1.015)) << budget << ": " << chosen << " for " << best;
    }
    EXPECT_FALSE(ChoosePlan({resolved, spec, world, Limits(least - 1), SlowCard()}).fits);
  }
}

TEST(Planner, WithRoomNothingIsGivenAway) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const ResolvedConfig resolved = ResolvedOf(OpenCase());
  const ChosenPlan run = ChoosePlan({resolved, spec, 1, Limits(int64_t{1} << 40), SlowCard()});
  EXPECT_TRUE(run.fits);
  EXPECT_TRUE(run.plan.recompute.front().segments.empty());
  EXPECT_EQ(run.plan.optimizer, OptimizerPlacement{});
  EXPECT_EQ(run.resolved.origins.at("memory.recompute").kind, OriginKind::kPlanner);
}

TEST(Planner, WhatIsGivenStays) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const ResolvedConfig resolved =
      ResolvedOf({.name = "",
                  .more = "memory: {recompute: [norm], offload: {m: host}}\n",
                  .training = "global_batch_size: 8, micro_batch_size: 2"});
  for (const Lever& lever : PlanLadder(resolved, spec, 1, SlowCard())) {
    for (const std::string& path : lever.paths) {
      EXPECT_NE(path, "training.micro_batch_size");
      EXPECT_NE(path, "memory.recompute");
    }
  }
  const ChosenPlan run = ChoosePlan({resolved, spec, 1, Limits(int64_t{1} << 40), SlowCard()});
  EXPECT_EQ(run.plan.numeric.micro_batch_size, 2);
  EXPECT_EQ(run.plan.optimizer.m, Tier::kHost);
  EXPECT_EQ(run.resolved.origins.at("memory.offload.m").kind, OriginKind::kFile);
}

TEST(Planner, ManualChoosesNothing) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const ResolvedConfig resolved = ResolvedOf(OpenCase(1, "memory: {plan: manual}\n"));
  const ChosenPlan run = ChoosePlan({resolved, spec, 1, Limits(1), SlowCard()});
  EXPECT_FALSE(run.fits);
  EXPECT_TRUE(run.values.empty());
  EXPECT_EQ(run.resolved.config, resolved.config);
}

TEST(Planner, SaysWhatWasTriedAndWhy) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const ResolvedConfig resolved = ResolvedOf(OpenCase());
  const int64_t most = NeedOf(MakePlan(resolved, spec, 1), spec).device_bytes;
  const MemoryLimits limits = Limits(most - most / 200);
  const ChosenPlan run = ChoosePlan({resolved, spec, 1, limits, SlowCard()});
  const std::string text = DescribeChoice(run, limits);
  EXPECT_EQ(text.substr(0, 10), "Chosen of ");
  EXPECT_NE(text.find("Instead "), std::string::npos) << text;
  EXPECT_NE(text.find("% slower"), std::string::npos) << text;
}

// Not a matter of the clock: so few are simulated, and each of a few layers and micro-batches.
TEST(Planner, LargeModelsAreAsQuick) {
  ModelConfig config;
  config.family = ModelFamily::kQwen2;
  config.vocab_size = 152064;
  config.hidden_size = 8192;
  config.intermediate_size = 29568;
  config.num_layers = 80;
  config.num_heads = 64;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.max_position_embeddings = 32768;
  config.qkv_bias = true;
  const ModelSpec spec = BuildModelSpec(config);
  ResolvedConfig resolved = ResolvedOf(OpenCase());
  resolved.config.data.sequence_len = 1024;
  resolved.config.training.global_batch_size = 128;
  for (const int64_t gibibytes : {24, 180, 400, 1000, 4000}) {
    const MemoryLimits limits = Limits(gibibytes << 30, int64_t{1} << 42);
    const ChosenPlan run = ChoosePlan({resolved, spec, 1, limits, SlowCard()});
    EXPECT_LE(run.simulated, 450) << gibibytes;
    EXPECT_LE(run.looked_at, 16000) << gibibytes;
    EXPECT_TRUE(run.fits || gibibytes < 400) << gibibytes;
  }
}

}  // namespace
}  // namespace hearth::test
