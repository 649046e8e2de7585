// FP8 scales that come from the step before.

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

constexpr int kSteps = 30;
constexpr int kUsesOfAStep = 2 * 8;  // layers, scales of a layer; times micro-batches

TrainingRunResult Train(const std::string& precision, TrainingKeys more = {}, int ranks = 1) {
  TrainingKeys keys = PrecisionKeys(precision);
  keys.emplace_back("optimizer", "learning_rate: 0.01");
  keys.insert(keys.end(), more.begin(), more.end());
  return TrainInProcess({.ranks = ranks, .keys = keys, .steps = kSteps});
}

TEST(VerifiedScales, TheFirstStepUsesCurrentScalesAndLaterOnesDoNot) {
  const TrainingRunResult current = Train("fp8"), verified = Train("fp8_verified");
  EXPECT_TRUE(current.fp8_repairs.empty());
  ASSERT_EQ(std::ssize(verified.fp8_repairs), kSteps);
  EXPECT_EQ(verified.fp8_repairs.front(), 0);
  EXPECT_EQ(verified.losses.front(), current.losses.front());
  EXPECT_EQ(verified.grad_norms.front(), current.grad_norms.front());
  EXPECT_NE(verified.grad_norms[1], current.grad_norms[1]);
}

// An octave of headroom: even while a model learns fast, few tensors outgrow their scale.
TEST(VerifiedScales, FewAreRepaired) {
  const TrainingRunResult run = Train("fp8_verified", {{"training", "micro_batch_size: 2"}});
  const double repairs = std::accumulate(run.fp8_repairs.begin(), run.fp8_repairs.end(), 0.0);
  const double uses = kUsesOfAStep * 4.0 * kSteps;
  EXPECT_FALSE(!(repairs <= 0.05 * uses)) << repairs << " of " << uses;
}

// The amaxes of all ranks and micro-batches are one history.
TEST(VerifiedScales, RanksAndMicroBatchesShareAHistory) {
  const TrainingRunResult whole = Train("bf16");
  const auto loss_of = [](const TrainingRunResult& run) {
    return std::accumulate(run.losses.end() - 5, run.losses.end(), 0.0) / 5;
  };
  for (const int ranks : {1, 2, 3}) {
    const TrainingRunResult run =
        Train("fp8_verified", {{"training", "micro_batch_size: 1"}}, ranks);
    EXPECT_NEAR(loss_of(run) / loss_of(whole), 1, 0.02) << ranks << " ranks";
  }
}

TEST(VerifiedScales, OutputGradientsInE5M2) {
  const TrainingKeys hybrid = {{"precision", "fp8_format: hybrid"}};
  const TrainingRunResult run = Train("fp8_verified", hybrid);
  EXPECT_LT(run.losses.back(), run.losses.front() - 0.1);
  EXPECT_NE(run.losses.back(), Train("fp8_verified").losses.back());
  EXPECT_EQ(run.weights, Train("fp8_verified", hybrid).weights);
}

}  // namespace
}  // namespace hearth::test
