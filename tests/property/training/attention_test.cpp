// Attention over whole sequences: what it must not change, and by cuDNN.

#include <gtest/gtest.h>

#include "tests/support/backend_under_test.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

TrainingRunResult Train(const std::string& precision, const TrainingKeys& more,
                        const std::string& model = "") {
  TrainingKeys keys = PrecisionKeys(precision);
  keys.insert(keys.end(), more.begin(), more.end());
  return TrainInProcess({.model = model, .keys = keys});
}

// With one document a sample is one sequence, packed or not; micro-batches of three leave the last
// one with sequences that are missing.
TEST(WholeSequences, HaveTheBitsOfPackedOnes) {
  for (const char* precision : {"fp32", "bf16", "fp8"}) {
    for (const char* micro_batch : {"micro_batch_size: 2", "micro_batch_size: 3"}) {
      SCOPED_TRACE(std::string(precision) + ", " + micro_batch);
      const auto run = [&](const char* packing) {
        return Train(precision, {{"data", packing},
                                 {"training", micro_batch},
                                 {"precision", "attention_provider: own"}});
      };
      const TrainingRunResult packed = run("sample_packing: true");
      const TrainingRunResult whole = run("sample_packing: false");
      ASSERT_FALSE(packed.losses.empty());
      EXPECT_EQ(packed.losses, whole.losses);
      EXPECT_EQ(packed.grad_norms, whole.grad_norms);
      EXPECT_EQ(packed.eval_losses, whole.eval_losses);
      EXPECT_EQ(packed.weights, whole.weights);
    }
  }
}

std::string ModelWithTrainedHeads() {
  std::string model = SmallModel();
  const size_t at = model.find("head_dim: ");
  model.replace(at, model.find('\n', at) - at, "head_dim: 64");
  return model;
}

TEST(WholeSequences, TrainTheSameByCudnn) {
  const std::string why_not = MakeBackendUnderTest()->WhyNoAttention(AttentionProvider::kCudnn);
  if (!why_not.empty()) GTEST_SKIP() << why_not;
  const auto run = [&](const char* provider) {
    return Train("bf16",
                 {{"data", "sample_packing: false"},
                  {"training", "micro_batch_size: 3"},
                  {"precision", provider}},
                 ModelWithTrainedHeads());
  };
  const TrainingRunResult own = run("attention_provider: own");
  const TrainingRunResult cudnn = run("attention_provider: cudnn");
  const TrainingRunResult again = run("attention_provider: cudnn");
  EXPECT_EQ(cudnn.losses, again.losses);
  EXPECT_EQ(cudnn.weights, again.weights);
  // bf16 keeps 8 bits; what the two round otherwise is averaged over the targets.
  EXPECT_FALSE(!(RelativeDifference(cudnn.losses, own.losses) <= 2e-3));
  EXPECT_FALSE(!(RelativeDifference(cudnn.grad_norms, own.grad_norms) <= 2e-2));
}

}  // namespace
}  // namespace hearth::test
