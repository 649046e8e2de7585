#include "runtime/plan/run_stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "tests/unit/plan/plan_test_support.h"

namespace hearth::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

RunStage Stage(double ratio, int64_t total, int64_t step) {
  return StageOf({.bf16_finish_ratio = ratio}, total, step);
}

TEST(RunStage, EveryStepHasOne) {
  for (int64_t step = 1; step <= 11; ++step) {
    SCOPED_TRACE(step);
    EXPECT_EQ(Stage(0.2, 10, step).in_bf16, step > 8);
    EXPECT_EQ(Stage(0.2, 10, step).last_step, step > 8 ? 10 : 8);
    EXPECT_FALSE(Stage(0, 10, step).in_bf16);
    EXPECT_EQ(Stage(0, 10, step).last_step, 10);
  }
  const PrecisionSection bf16{.compute_dtype = ComputeDtype::kBf16, .bf16_finish_ratio = 0.2};
  EXPECT_EQ(StageOf(bf16, 10, 1).last_step, 10);
}

TEST(RunStage, IsPlannedInItsPrecision) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const ResolvedConfig run =
      ResolvedOf({.more = "precision: {bf16_finish_ratio: 0.1, fp8_lm_head: true, fp8_recipe: "
                          "tensorwise_verified, fp8_fast_accumulation: true, grad_dtype: fp32}\n"});
  const Plan first = MakePlan(StageConfig(run, {.last_step = 9}), spec, 2);
  EXPECT_EQ(first.precision, MakePrecision(run.config.precision));
  const Plan last = MakePlan(StageConfig(run, {.last_step = 10, .in_bf16 = true}), spec, 2);
  EXPECT_EQ(last.precision,
            MakePrecision({.compute_dtype = ComputeDtype::kBf16, .grad_dtype = FloatDtype::kFp32}));
  for (const UnitSpec& unit : spec.units) EXPECT_EQ(Fp8Elements(last, unit), 0);
}

// Under ZeRO 2 the order of sums follows from the groups, unless a plan before has decided.
TEST(RunStage, TheFinishKeepsTheNumerics) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const ResolvedConfig run = ResolvedOf({.more = "precision: {bf16_finish_ratio: 0.1}\n"
                                                 "parallel: {zero_stage: 2}\n",
                                         .training = "global_batch_size: 8"});
  EXPECT_NE(MakePlan(run, spec, 2).numeric.micro_batch_size, 2);
  const NumericConfiguration numeric{.micro_batch_size = 2,
                                     .head_slab_tokens = 64,
                                     .reduction_order = ReductionOrder::kMicroThenRank};
  const Plan finish = MakePlan(FinishConfig(run, numeric), spec, 2);
  EXPECT_EQ(finish.numeric, numeric);
  EXPECT_FALSE(finish.precision.fp8);
}

TEST(RunStage, ARefusalSaysWhichStepsDoNotFit) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  // The activations of eight micro-batches outweigh the second copies of weights in FP8.
  const ResolvedConfig run =
      ResolvedOf({.more = "precision: {bf16_finish_ratio: 0.1}\nmemory: {gpu_budget: 1MiB, "
                          "schedule: vertical, micro_batches_per_group: 8}\n",
                  .training = "micro_batch_size: 8, global_batch_size: 64"});
  const Plan plan = MakePlan(run, spec, 1);
  const ResolvedConfig finish = FinishConfig(run, plan.numeric);
  const Plan last = MakePlan(finish, spec, 1);
  const int64_t need = NeedOf(last, spec).device_bytes;
  ASSERT_GT(need, NeedOf(plan, spec).device_bytes);
  const auto error = [&](int64_t budget) -> std::string {
    try {
      RequireFinishFits(finish, last, spec,
                        {.device = {.key = "memory.gpu_budget", .budget_bytes = budget},
                         .host = {.key = "memory.host_budget"},
                         .device_is_host = false});
    } catch (const BudgetError& refusal) {
      return refusal.what();
    }
    return "no error";
  };
  EXPECT_EQ(error(need), "no error");
  EXPECT_THAT(error(need - 1), StartsWith("run.yaml:5:22: error: memory.gpu_budget: "));
  EXPECT_THAT(error(need - 1), HasSubstr("; these are the last steps, in bf16: "
                                         "precision.bf16_finish_ratio: 0 leaves them in FP8"));
}

}  // namespace
}  // namespace hearth::test
