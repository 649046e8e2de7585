// What must not change a bit of a run, and what may change it within rounding.

#include <gtest/gtest.h>

#include "tests/support/backend_under_test.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

using Keys = TrainingKeys;

class EqualBits : public testing::TestWithParam<std::string> {
 protected:
  Keys Precision() const { return PrecisionKeys(GetParam()); }
  TrainingRunResult Train(int ranks, const Keys& keys, int threads = 1) const {
    return TrainInProcess({.ranks = ranks, .threads = threads, .keys = Join(Precision(), keys)});
  }
};

TEST_P(EqualBits, TrainingLearnsAndRepeats) {
  const Keys keys = Join(Precision(), {{"optimizer", "learning_rate: 0.01"}});
  const TrainingRunResult first = TrainInProcess({.keys = keys, .steps = 30});
  ASSERT_EQ(first.losses.size(), 30u);
  ASSERT_EQ(first.eval_losses.size(), 2u);
  EXPECT_LT(first.losses.back(), first.losses.front() - 0.1);
  ExpectSameBits(first, TrainInProcess({.keys = keys, .steps = 30}));
}

TEST_P(EqualBits, NumberOfThreads) {
  const TrainingRunResult one = Train(1, {}, 1);
  ExpectSameBits(one, Train(1, {}, 2));
  ExpectSameBits(one, Train(1, {}, 3));
}

TEST_P(EqualBits, ZeroStagesAndPlacementOnTwoAndFourRanks) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  for (int ranks : {2, 4}) {
    const TrainingRunResult stage1 = Train(ranks, {{"parallel", "zero_stage: 1"}});
    ExpectSameBits(stage1, Train(ranks, {{"parallel", "zero_stage: 0"}}));
    ExpectSameBits(stage1, Train(ranks, {{"memory", "offload: {optimizer: host}"}}));
  }
}

TEST_P(EqualBits, PlacementsAndOptimizers) {
  const TrainingRunResult device = Train(1, {});
  ExpectSameBits(device, Train(1, {{"memory", "offload: {optimizer: host}"}}));
  ExpectSameBits(device, Train(1, {{"memory", "offload: {optimizer: host}"},
                                   {"memory", "optimizer_device: gpu"}}));
  ExpectSameBits(device, Train(1, {{"memory", "offload: {m: host}"}}));
}

TEST_P(EqualBits, Recompute) {
  const TrainingRunResult kept = Train(1, {});
  for (const char* items : {"[swiglu]", "[norm]", "[ffn]", "[qkv]", "[attention]", "[block]",
                            "[qkv, attention, norm]"}) {
    SCOPED_TRACE(items);
    ExpectSameBits(kept, Train(1, {{"memory", std::string("recompute: ") + items}}));
  }
}

TEST_P(EqualBits, HeadChunks) {
  const Keys slabs = {{"memory", "head_slab_tokens: 16"}};
  const TrainingRunResult one = Train(1, slabs);
  ExpectSameBits(one, Train(1, Join(slabs, {{"memory", "lm_head_chunks: 3"}})));
  ExpectSameBits(one, Train(1, Join(slabs, {{"memory", "lm_head_chunks: 12"}})));
}

TEST_P(EqualBits, ReductionOrdersAgreeWithOneMicroBatch) {
  const Keys one_micro_batch = {{"training", "micro_batch_size: 4"}};
  const TrainingRunResult micro = Train(2, one_micro_batch);
  ExpectSameBits(
      micro, Train(2, Join(one_micro_batch, {{"parallel", "reduction_order: rank_then_micro"}})));
}

INSTANTIATE_TEST_SUITE_P(Precision, EqualBits, testing::ValuesIn(kPrecisions),
                         [](const auto& test) { return test.param; });

TEST(WithinRounding, RanksAndAccumulationSplits) {
  const Keys fp32 = {{"precision", "compute_dtype: fp32"},
                     {"optimizer", "m_dtype: fp32"},
                     {"optimizer", "v_dtype: fp32"}};
  const TrainingRunResult whole =
      TrainInProcess({.keys = Join(fp32, {{"training", "micro_batch_size: 8"}})});
  for (int ranks : {1, 2, 4}) {
    if (RanksUnderTest(ranks) != ranks) continue;
    for (const char* size : {"micro_batch_size: 1", "micro_batch_size: 2"}) {
      SCOPED_TRACE(size);
      const TrainingRunResult split =
          TrainInProcess({.ranks = ranks, .keys = Join(fp32, {{"training", size}})});
      EXPECT_LE(RelativeDifference(split.losses, whole.losses), 1e-5);
      EXPECT_LE(RelativeDifference(split.weights, whole.weights), 1e-5);
    }
  }
}

// A global batch that does not divide: three ranks share eight sequences as 2, 3 and 3.
TEST(WithinRounding, UnevenRanks) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  const Keys fp32 = {{"precision", "compute_dtype: fp32"}};
  const TrainingRunResult whole = TrainInProcess({.keys = fp32});
  const TrainingRunResult uneven = TrainInProcess({.ranks = 3, .keys = fp32});
  EXPECT_LE(RelativeDifference(uneven.losses, whole.losses), 1e-5);
}

TEST(WithinRounding, MaskedTargetsDoNotShrinkTheGradient) {
  const Keys fp32 = {{"precision", "compute_dtype: fp32"}};
  TrainingRunOptions options{.keys = Join(fp32, {{"training", "micro_batch_size: 8"}}),
                             .document_length = 9,
                             .masked_share = 0.6};
  const TrainingRunResult whole = TrainInProcess(options);
  options.keys = Join(fp32, {{"training", "micro_batch_size: 1"}});
  const TrainingRunResult split = TrainInProcess(options);
  EXPECT_LE(RelativeDifference(split.losses, whole.losses), 1e-5);
  EXPECT_LE(RelativeDifference(split.grad_norms, whole.grad_norms), 1e-4);
}

}  // namespace
}  // namespace hearth::test
