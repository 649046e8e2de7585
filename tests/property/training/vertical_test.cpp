// Where block inputs wait, and how many micro-batches pass a layer together, change no bit.

#include <gtest/gtest.h>

#include "tests/support/backend_under_test.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

// Four layers, so that inputs that come back have to wait for a place.
std::string Model(bool tied) {
  std::string model = SmallModel();
  const auto replace = [&](const std::string& from, const std::string& to) {
    model.replace(model.find(from), from.size(), to);
  };
  replace("num_hidden_layers: 2", "num_hidden_layers: 4");
  if (tied) replace("tie_word_embeddings: false", "tie_word_embeddings: true");
  return model;
}

using Variant = std::vector<std::string>;  // keys of the section `memory`

// Five micro-batches of one rank: groups of two and three leave a smaller last one.
const std::vector<Variant> kVariants = {
    {"schedule: vertical"},
    {"schedule: horizontal", "recompute: [block]", "offload: {residual: host}"},
    {"recompute: [block]", "offload: {residual: host}"},  // vertical by itself
    {"micro_batches_per_group: 3", "offload: {residual: host}"},
    {"micro_batches_per_group: 2", "recompute: [attention]", "lm_head_chunks: 2"},
    {"schedule: vertical", "recompute: [ffn]", "optimizer_device: gpu",
     "offload: {residual: host, optimizer: host}"},
    {"micro_batches_per_group: 2", "offload: {residual: host, optimizer: host}"},
};

class Vertical : public testing::TestWithParam<std::string> {
 protected:
  // An evaluation in the middle, ahead of which updates that were carried are done.
  TrainingRunOptions Options(int ranks, bool tied, const TrainingKeys& more) const {
    TrainingRunOptions options{
        .ranks = ranks, .model = Model(tied), .keys = PrecisionKeys(GetParam()), .steps = 3};
    const TrainingKeys keys = {{"training", "micro_batch_size: 1"},
                               {"training", "global_batch_size: " + std::to_string(ranks * 4 + 1)},
                               {"eval", "eval_steps: 2"},
                               {"memory", "head_slab_tokens: 16"}};
    options.keys.insert(options.keys.end(), keys.begin(), keys.end());
    options.keys.insert(options.keys.end(), more.begin(), more.end());
    return options;
  }

  void ExpectSameBits(int ranks, bool tied, const std::vector<Variant>& variants,
                      const TrainingKeys& more = {}) const {
    const TrainingRunOptions options = Options(ranks, tied, more);
    const TrainingRunResult plain = TrainInProcess(options);
    ASSERT_EQ(plain.losses.size(), 3u);
    for (const Variant& variant : variants) {
      TrainingRunOptions changed = options;
      std::string trace = std::to_string(ranks) + " ranks";
      for (const std::string& key : variant) {
        changed.keys.emplace_back("memory", key);
        trace += ", " + key;
      }
      SCOPED_TRACE(trace);
      const TrainingRunResult other = TrainInProcess(changed);
      EXPECT_EQ(plain.losses, other.losses);
      EXPECT_EQ(plain.grad_norms, other.grad_norms);
      EXPECT_EQ(plain.eval_losses, other.eval_losses);
      EXPECT_EQ(plain.fp8_repairs, other.fp8_repairs);
      EXPECT_EQ(plain.weights, other.weights);
      EXPECT_EQ(other.used_bytes, other.planned_bytes);
    }
  }
};

TEST_P(Vertical, GroupsAndPlacesOfBlockInputsChangeNoBit) {
  ExpectSameBits(1, false, kVariants);
  if (RanksUnderTest(2) != 2) return;
  ExpectSameBits(2, false, {kVariants[2], kVariants[6]});
}

// There head and embedding add to one gradient, and their order must not depend on the schedule.
TEST_P(Vertical, TiedModels) {
  ExpectSameBits(1, true, kVariants);
  if (RanksUnderTest(2) != 2) return;
  ExpectSameBits(2, true, {kVariants[2], kVariants[6]});
}

class VerticalAlso : public Vertical {};

TEST_P(VerticalAlso, UpdatesUnderTheBackward) {
  const TrainingKeys unclipped = {{"training", "max_grad_norm: 0"}};
  for (const bool tied : {false, true}) {
    ExpectSameBits(1, tied, {kVariants[2], kVariants[6]}, unclipped);
  }
}

TEST_P(VerticalAlso, FullGradientsOnEveryRankAndRanksFirst) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  ExpectSameBits(2, true, {kVariants[3]}, {{"parallel", "zero_stage: 0"}});
  ExpectSameBits(2, false, {kVariants[3]}, {{"parallel", "reduction_order: rank_then_micro"}});
}

const auto kName = [](const auto& test) { return test.param; };
INSTANTIATE_TEST_SUITE_P(Precision, Vertical,
                         testing::Values("fp32", "bf16", "fp8_verified", "fp8_head"), kName);
INSTANTIATE_TEST_SUITE_P(Precision, VerticalAlso, testing::Values("fp32", "fp8_verified"), kName);

}  // namespace
}  // namespace hearth::test
