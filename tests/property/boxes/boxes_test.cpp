// Boxes are replicas that add their gradients once per step: the same run as in one box, and never
// apart from each other.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

// fp32: sums in another order.
constexpr double kRounding = 1e-5;

TrainingRunResult Train(int boxes, int ranks_per_box, const TrainingKeys& keys,
                        const std::string& precision = "fp32") {
  TrainingRunOptions options{
      .ranks = boxes * ranks_per_box, .boxes = boxes, .keys = PrecisionKeys(precision), .steps = 3};
  options.keys.insert(options.keys.end(), keys.begin(), keys.end());
  const TrainingRunResult result = TrainInProcess(options);
  EXPECT_TRUE(result.boxes_agree) << boxes << " boxes of " << ranks_per_box;
  EXPECT_EQ(result.losses.size(), 3u);
  return result;
}

void ExpectSameRun(const TrainingRunResult& a, const TrainingRunResult& b) {
  ExpectSameBits(a, b);
  EXPECT_EQ(a.fp8_repairs, b.fp8_repairs);
}

void ExpectClose(const TrainingRunResult& a, const TrainingRunResult& b) {
  EXPECT_FALSE(!(RelativeDifference(a.losses, b.losses) <= kRounding));
  EXPECT_FALSE(!(RelativeDifference(a.grad_norms, b.grad_norms) <= kRounding));
  EXPECT_FALSE(!(RelativeDifference(a.eval_losses, b.eval_losses) <= kRounding));
  EXPECT_FALSE(!(RelativeDifference(a.weights, b.weights) <= kRounding));
}

// A sequence each, so that every rank adds several micro-batches.
const TrainingKeys kMicroBatches = {{"training", "micro_batch_size: 1"}};

TrainingKeys With(TrainingKeys keys, const std::string& section, const std::string& line) {
  keys.emplace_back(section, line);
  return keys;
}

class BoxesInPrecision : public testing::TestWithParam<std::string> {};

// Micro-batches, then ranks in order, is then the order of both.
TEST_P(BoxesInPrecision, OfOneRankAreTheRanksOfOneBox) {
  const TrainingRunResult one_box = Train(1, 2, kMicroBatches, GetParam());
  ExpectSameRun(Train(2, 1, kMicroBatches, GetParam()), one_box);
}

TEST_P(BoxesInPrecision, StagesHaveTheSameBits) {
  const TrainingRunResult one = Train(2, 2, kMicroBatches, GetParam());
  ExpectSameRun(Train(2, 2, With(kMicroBatches, "parallel", "zero_stage: 0"), GetParam()), one);
}

INSTANTIATE_TEST_SUITE_P(All, BoxesInPrecision, testing::ValuesIn(kPrecisions),
                         [](const auto& test) { return test.param; });

TEST(Boxes, AreOneBoxWithinRounding) {
  const TrainingRunResult one_box = Train(1, 4, kMicroBatches);
  ExpectClose(Train(2, 2, kMicroBatches), one_box);
  ExpectClose(Train(4, 1, kMicroBatches), one_box);
}

// A shard of an odd number of blocks, and a batch that does not divide.
TEST(Boxes, ThreeOfThem) {
  const TrainingRunResult one_box = Train(1, 3, kMicroBatches);
  ExpectSameRun(Train(3, 1, kMicroBatches), one_box);
  ExpectClose(Train(3, 2, kMicroBatches), Train(1, 6, kMicroBatches));
}

TEST(Boxes, ClipTheNormOfTheWholeGradient) {
  for (const char* norm : {"max_grad_norm: 0.05", "max_grad_norm: 0"}) {
    const TrainingKeys keys = With(kMicroBatches, "training", norm);
    const TrainingRunResult one_box = Train(1, 4, keys);
    ExpectClose(Train(2, 2, keys), one_box);
  }
}

TEST(Boxes, AddRanksBeforeMicroBatches) {
  const TrainingKeys keys = With(kMicroBatches, "parallel", "reduction_order: rank_then_micro");
  const TrainingRunResult stage_1 = Train(2, 2, keys);
  ExpectClose(stage_1, Train(1, 4, keys));
  ExpectSameRun(Train(2, 2, With(keys, "parallel", "zero_stage: 0")), stage_1);
}

TEST(Boxes, PlacesAndSchedulesChangeNothing) {
  const TrainingRunResult plain = Train(2, 2, kMicroBatches, "bf16");
  for (const auto& [section, line] :
       TrainingKeys{{"memory", "offload: {optimizer: host}"},
                    {"memory", "optimizer_device: gpu\n  offload: {optimizer: host}"},
                    {"memory", "recompute: [block]"},
                    {"memory", "schedule: vertical"}}) {
    ExpectSameRun(Train(2, 2, With(kMicroBatches, section, line), "bf16"), plain);
  }
}

TEST(Boxes, ShardGradientsAndWeightsInside) {
  const auto stage = [](int number) {
    return With(kMicroBatches, "parallel", fmt::format("zero_stage: {}", number));
  };
  const TrainingRunResult two = Train(2, 2, stage(2));
  ExpectClose(two, Train(1, 4, stage(2)));
  ExpectSameRun(Train(2, 2, stage(3)), two);
  ExpectSameRun(Train(2, 2, With(stage(3), "memory", "offload: {gradients: host}")), two);
}

// Saved by one number of boxes, gone on with by another.
TEST(Boxes, ResumeInAnotherNumber) {
  const TrainingRunResult whole = Train(2, 2, kMicroBatches);
  for (const auto& [boxes, ranks_per_box] :
       {std::pair{2, 2}, std::pair{1, 4}, std::pair{2, 1}, std::pair{1, 1}}) {
    SCOPED_TRACE(fmt::format("{} boxes of {}", boxes, ranks_per_box));
    const TemporaryFolder folder;
    TrainingRunOptions options{.ranks = 4,
                               .boxes = 2,
                               .keys = PrecisionKeys("fp32"),
                               .steps = 3,
                               .save_steps = 1,
                               .folder = folder.path(),
                               .stop_after = 2};
    options.keys.insert(options.keys.end(), kMicroBatches.begin(), kMicroBatches.end());
    EXPECT_EQ(TrainInProcess(options).steps, 2);
    options.ranks = boxes * ranks_per_box;
    options.boxes = boxes;
    options.stop_after = -1;
    const TrainingRunResult resumed = TrainInProcess(options);
    EXPECT_TRUE(resumed.boxes_agree);
    EXPECT_EQ(resumed.steps, 3);
    if (options.ranks == 4 && boxes == 2) {
      ExpectSameRun(resumed, whole);
    } else {
      ExpectClose(resumed, whole);
    }
  }
}

}  // namespace
}  // namespace hearth::test
