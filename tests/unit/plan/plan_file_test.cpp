#include "runtime/plan/plan_file.h"

#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "tests/unit/plan/plan_test_support.h"
#include "tests/unit/plan/slow_card.h"

namespace hearth::test {
namespace {

const PlanCase kOpen{.name = "", .training = "global_batch_size: 8"};

std::string ErrorOf(const std::string& text, const PlanCase& c = kOpen) {
  ResolvedConfig resolved = ResolvedOf(c);
  try {
    ApplyPlanFile(text, "p.yaml", {}, &resolved);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

void ExpectStart(const std::string& text, const std::string& start) {
  EXPECT_EQ(text.substr(0, start.size()), start);
}

TEST(PlanFile, ChoicesArePassedBack) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const ResolvedConfig open = ResolvedOf(kOpen);
  const int64_t most = NeedOf(MakePlan(open, spec, 1), spec).device_bytes;
  const MemoryLimits limits{
      .device = {.key = "memory.gpu_budget", .budget_bytes = most - most / 200},
      .host = {.key = "memory.host_budget"},
      .device_is_host = false};
  const HardwareProfile card = SlowCard();
  const ChosenPlan run = ChoosePlan({open, spec, 1, limits, card});
  ASSERT_TRUE(run.fits);
  ASSERT_NE(run.values, run.usual);
  const std::string text = PlanFileText({.resolved = run.resolved,
                                         .plan = run.plan,
                                         .spec = spec,
                                         .explanation = DescribeChoice(run, limits),
                                         .estimate = EstimateStep(run.plan, spec, card)});
  ResolvedConfig again = open;
  ApplyPlanFile(text, "p.yaml", {}, &again);
  EXPECT_EQ(again.config, run.resolved.config) << text;
  // Nothing is open any more: whatever there is room for, the same plan comes out.
  const MemoryLimits room{.device = {.key = ""}, .host = {.key = ""}, .device_is_host = false};
  EXPECT_EQ(ChoosePlan({again, spec, 1, room, card}).resolved.config, run.resolved.config);
  EXPECT_EQ(again.origins.at("memory.offload.m").text.substr(0, 7), "p.yaml:");
}

TEST(PlanFile, ChoicesMayBeEditedAndLeftOut) {
  ResolvedConfig resolved = ResolvedOf(kOpen);
  ApplyPlanFile("plan_version: 1\nchoices:\n  memory.recompute: [block]\nworld: 7\n", "p.yaml", {},
                &resolved);
  EXPECT_EQ(resolved.config.memory.recompute, std::vector{RecomputeItem::kBlock});
  EXPECT_FALSE(resolved.config.training.micro_batch_size);
}

TEST(PlanFile, WhatIsWrongIsNamedWithItsPlace) {
  ExpectStart(ErrorOf("world: 1\n"), "p.yaml: error: not a plan: it has no plan_version");
  ExpectStart(ErrorOf("[1]\n"), "p.yaml: error: not a plan");
  ExpectStart(ErrorOf("plan_version: 2\nchoices: {}\n"), "p.yaml:1:15: error: plan_version");
  ExpectStart(ErrorOf("plan_version: 1\nchoices:\n  memory.recompte: none\n"),
              "p.yaml:3:3: error: 'memory.recompte' is not a planner's choice; did you mean "
              "'memory.recompute'?");
  ExpectStart(ErrorOf("plan_version: 1\nchoices:\n  optimizer.learning_rate: 1\n"),
              "p.yaml:3:3: error: 'optimizer.learning_rate' is not a planner's choice; ");
  ExpectStart(ErrorOf("plan_version: 1\nchoices:\n  memory.schedule: diagonal\n"),
              "p.yaml:3:20: error: ");
  ExpectStart(ErrorOf("plan_version: 1\nchoices:\n  memory.offload.m: ssd\n"), "p.yaml:3: error: ");
  ExpectStart(ErrorOf("plan_version: 1\nchoices:\n  training.micro_batch_size: 4\n",
                      {.name = "", .training = "global_batch_size: 8, micro_batch_size: 2"}),
              "p.yaml:3:30: error: training.micro_batch_size is 4 here and 2 in the configuration "
              "(run.yaml:3); leave one of them out");
}

}  // namespace
}  // namespace hearth::test
