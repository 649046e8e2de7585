// The LM head in FP8. What it must not change a bit of is in equal_bits_test.cpp, for a head of its
// own; here a tied one, and what it changes.

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/support/backend_under_test.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

std::string TiedModel() {
  std::string model = SmallModel();
  const std::string untied = "tie_word_embeddings: false";
  model.replace(model.find(untied), untied.size(), "tie_word_embeddings: true");
  return model;
}

TrainingRunResult Train(const TrainingKeys& more, int ranks = 1, int64_t steps = 4,
                        const std::string& model = TiedModel()) {
  TrainingKeys keys = {{"precision", "compute_dtype: fp8"},
                       {"optimizer", "learning_rate: 0.003"},
                       {"memory", "head_slab_tokens: 16"}};
  keys.insert(keys.end(), more.begin(), more.end());
  return TrainInProcess({.ranks = ranks, .model = model, .keys = keys, .steps = steps});
}

TrainingKeys Head(const TrainingKeys& more = {}) {
  TrainingKeys keys = {{"precision", "fp8_lm_head: true"}};
  keys.insert(keys.end(), more.begin(), more.end());
  return keys;
}

TEST(Fp8Head, ATiedOneHasTheSameBitsWhereverItsStateIs) {
  for (const char* recipe : {"fp8_recipe: tensorwise_current", "fp8_recipe: tensorwise_verified"}) {
    SCOPED_TRACE(recipe);
    const TrainingKeys keys = Head({{"precision", recipe}});
    const auto with = [&](const TrainingKeys& more, int ranks = 1) {
      TrainingKeys all = keys;
      all.insert(all.end(), more.begin(), more.end());
      return Train(all, ranks);
    };
    const TrainingRunResult run = with({});
    ExpectSameBits(run, with({{"memory", "lm_head_chunks: 3"}}));
    ExpectSameBits(run, with({{"memory", "offload: {optimizer: host}"}}));
    ExpectSameBits(run, with({{"memory", "recompute: [block]"}}));
    if (!WhyNotSeveralRanks().empty()) continue;
    const TrainingRunResult two = with({}, 2);
    ExpectSameBits(two, with({{"parallel", "zero_stage: 0"}}, 2));
    ExpectSameBits(two, with({{"memory", "offload: {optimizer: host}"}}, 2));
  }
}

// One micro-batch per rank and one rank with two of them: the scale of the head's input is that of
// a micro-batch, so its sums differ by their rounding alone.
TEST(Fp8Head, RanksAgreeWithMicroBatches) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  const TrainingKeys keys = Head({{"training", "micro_batch_size: 4"}});
  const TrainingRunResult one = Train(keys, 1), two = Train(keys, 2);
  EXPECT_EQ(one.losses.front(), two.losses.front());
  EXPECT_FALSE(!(RelativeDifference(one.losses, two.losses) <= 2e-3));
}

// Averages, since FP8 runs drift apart in single steps.
TEST(Fp8Head, LearnsAsWellAsABf16Head) {
  constexpr int64_t kSteps = 60;
  const auto mean = [](const TrainingRunResult& run) {
    return std::accumulate(run.losses.begin(), run.losses.end(), 0.0) / kSteps;
  };
  for (const std::string& model : {SmallModel(), TiedModel()}) {
    const TrainingRunResult bf16 = Train({}, 1, kSteps, model);
    const TrainingRunResult fp8 = Train(Head(), 1, kSteps, model);
    EXPECT_NE(fp8.losses, bf16.losses);
    EXPECT_LT(fp8.losses.back(), fp8.losses.front() - 0.3);
    const double difference = std::abs(mean(fp8) / mean(bf16) - 1);
    EXPECT_FALSE(!(difference <= 2e-3)) << difference;
    RecordProperty("difference", std::to_string(difference));
  }
}

// The scale of the gradient leaves room for it.
TEST(Fp8Head, ZLoss) {
  const TrainingKeys keys = {{"training", "z_loss: 0.01"}};
  const TrainingRunResult bf16 = Train(keys), fp8 = Train(Head(keys));
  EXPECT_FALSE(!(RelativeDifference(fp8.losses, bf16.losses) <= 0.01));
  EXPECT_FALSE(!(RelativeDifference(fp8.grad_norms, bf16.grad_norms) <= 0.05));
}

}  // namespace
}  // namespace hearth::test
