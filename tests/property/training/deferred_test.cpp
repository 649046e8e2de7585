// When an update runs must not change a bit: behind the norm, under the backward, or carried into
// the next step.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/backend_under_test.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

struct Place {
  const char* name;
  std::vector<const char*> memory;
};
const std::vector<Place> kPlaces = {
    {"device", {}},
    {"host", {"offload: {optimizer: host}"}},
    {"streamed", {"offload: {optimizer: host}", "optimizer_device: gpu"}}};

TrainingRunResult Train(TrainingRunOptions options, double share, bool early) {
  options.amend_plan = [=](Plan& plan) {
    plan.deferred_share = share;
    plan.early_updates = early;
  };
  return TrainInProcess(options);
}

// The learning rate changes from step to step, and evaluations come in between.
TrainingRunOptions Options(const TrainingKeys& precision, const Place& place, const char* clipping,
                           int ranks) {
  TrainingRunOptions options{.ranks = ranks, .keys = precision, .steps = 5};
  for (const char* key : place.memory) options.keys.emplace_back("memory", key);
  options.keys.emplace_back("training", clipping);
  options.keys.emplace_back("eval", "eval_steps: 3");
  options.keys.emplace_back("optimizer", "learning_rate: 0.01");
  return options;
}

class Deferred : public testing::TestWithParam<std::string> {
 protected:
  TrainingRunOptions Options(const Place& place, const char* clipping, int ranks = 1) const {
    return test::Options(PrecisionKeys(GetParam()), place, clipping, ranks);
  }
};

// With a limit far below the norms, so that every step has another factor.
TEST_P(Deferred, SharesUnderClippingGiveTheSameBits) {
  for (int ranks : {1, 2}) {
    if (RanksUnderTest(ranks) != ranks) continue;
    for (const Place& place : kPlaces) {
      SCOPED_TRACE(fmt::format("{} ranks, {}", ranks, place.name));
      const TrainingRunOptions options = Options(place, "max_grad_norm: 0.05", ranks);
      const TrainingRunResult undeferred = Train(options, 0, false);
      ASSERT_EQ(undeferred.losses.size(), 5u);
      ExpectSameBits(undeferred, Train(options, 0.5, false));
      ExpectSameBits(undeferred, TrainInProcess(options));  // all of it is carried
    }
  }
}

TEST_P(Deferred, UpdatesUnderTheBackwardGiveTheSameBits) {
  for (int ranks : {1, 2}) {
    if (RanksUnderTest(ranks) != ranks) continue;
    for (const Place& place : kPlaces) {
      SCOPED_TRACE(fmt::format("{} ranks, {}", ranks, place.name));
      const TrainingRunOptions options = Options(place, "max_grad_norm: 0", ranks);
      const TrainingRunResult undeferred = Train(options, 0, false);
      ExpectSameBits(undeferred, Train(options, 0, true));
      ExpectSameBits(undeferred, TrainInProcess(options));  // a third is carried
    }
  }
}

TEST_P(Deferred, FullGradientsOnEveryRankAndRanksFirst) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  for (const char* parallel : {"zero_stage: 0", "reduction_order: rank_then_micro"}) {
    for (const char* clipping : {"max_grad_norm: 0.05", "max_grad_norm: 0"}) {
      SCOPED_TRACE(fmt::format("{}, {}", parallel, clipping));
      TrainingRunOptions options = Options(kPlaces[1], clipping, 2);
      options.keys.emplace_back("parallel", parallel);
      options.keys.emplace_back("training", "micro_batch_size: 1");
      ExpectSameBits(Train(options, 0, false), TrainInProcess(options));
    }
  }
}

// A run that is stopped politely drains before it saves, and goes on with nothing carried.
TEST_P(Deferred, StoppedAndResumed) {
  for (const char* clipping : {"max_grad_norm: 0.05", "max_grad_norm: 0"}) {
    for (const Place& place : kPlaces) {
      SCOPED_TRACE(fmt::format("{}, {}", place.name, clipping));
      TrainingRunOptions options = Options(place, clipping);
      const TrainingRunResult whole = Train(options, 0, false);
      const TemporaryFolder folder;
      options.folder = folder.path();
      options.stop_after = 2;
      EXPECT_EQ(TrainInProcess(options).steps, 2);
      options.stop_after = -1;
      const TrainingRunResult rest = TrainInProcess(options);
      EXPECT_EQ(rest.weights, whole.weights);
      EXPECT_EQ(rest.losses, whole.losses);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precision, Deferred, testing::Values("fp32", "bf16", "fp8_verified"),
                         [](const auto& test) { return test.param; });

// Steps whose gradient is not finite leave everything as it is, whenever the update would have run.
TEST(DeferredSkip, ASkippedStepSkipsWhatItCarries) {
  for (const Place& place : kPlaces) {
    SCOPED_TRACE(place.name);
    TrainingRunOptions options = Options({{"precision", "compute_dtype: fp32"},
                                          {"resilience", "on_nonfinite: skip"},
                                          {"resilience", "max_skipped_steps: 100"}},
                                         place, "z_loss: 1000", 1);
    options.keys.emplace_back("optimizer", "weight_decay: 1000");
    options.keys.emplace_back("lr_scheduler", "lr_scheduler_type: constant");
    for (auto& [section, key] : options.keys) {
      if (key == "learning_rate: 0.01") key = "learning_rate: 1000";
    }
    const TrainingRunResult undeferred = Train(options, 0, false);
    const TrainingRunResult carried = TrainInProcess(options);
    EXPECT_NE(undeferred.log.find("\"train/grad_norm\":\""), std::string::npos)
        << "no step was skipped:\n"
        << undeferred.log;
    ASSERT_EQ(carried.weights.size(), undeferred.weights.size());
    EXPECT_EQ(std::memcmp(carried.weights.data(), undeferred.weights.data(),
                          carried.weights.size() * sizeof(float)),
              0);
  }
}

}  // namespace
}  // namespace hearth::test
