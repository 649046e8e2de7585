// A run in FP8 whose last steps are in bf16: what it computes, and what must not change a bit of
// it.

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>

#include "runtime/checkpoint/folders.h"
#include "tests/support/backend_under_test.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

constexpr int64_t kSteps = 6;
constexpr int64_t kInFp8 = 4;
const TrainingKeys kFinish = {{"precision", "bf16_finish_ratio: 0.34"}};  // 2 of 6

TrainingRunOptions Options(const TrainingKeys& keys, int ranks = 1) {
  return {
      .ranks = ranks, .keys = Join({{"optimizer", "learning_rate: 0.01"}}, keys), .steps = kSteps};
}

TrainingRunResult Train(const TrainingKeys& keys, int ranks = 1, int threads = 1) {
  TrainingRunOptions options = Options(keys, ranks);
  options.threads = threads;
  return TrainInProcess(options);
}

std::string FileText(const std::filesystem::path& file) {
  std::ifstream in(file);
  EXPECT_TRUE(in) << file;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

class Finish : public testing::TestWithParam<std::string> {};

// The whole promise: FP8 up to a step, then what a run in bf16 makes of that step's checkpoint.
TEST_P(Finish, IsFp8AndThenABf16RunThatGoesOnFromThere) {
  for (const auto& [ranks, boxes] : {std::pair{1, 1}, {2, 1}, {2, 2}}) {
    if (ranks > 1 && !WhyNotSeveralRanks().empty()) continue;
    SCOPED_TRACE(ranks * 10 + boxes);
    const TrainingKeys fp8 = PrecisionKeys(GetParam());
    const TemporaryFolder folder;
    TrainingRunOptions by_hand = Options(fp8, ranks);
    by_hand.boxes = boxes;
    by_hand.folder = folder.path();
    by_hand.stop_after = kInFp8;
    ASSERT_EQ(TrainInProcess(by_hand).steps, kInFp8);
    by_hand.keys = Options(PrecisionKeys("bf16"), ranks).keys;
    by_hand.stop_after = -1;
    const TrainingRunResult expected = TrainInProcess(by_hand);
    TrainingRunOptions in_one_go = Options(Join(fp8, kFinish), ranks);
    in_one_go.boxes = boxes;
    const TrainingRunResult run = TrainInProcess(in_one_go);
    EXPECT_EQ(run.steps, kSteps);
    EXPECT_TRUE(run.boxes_agree);
    ASSERT_EQ(std::ssize(run.losses), kSteps);
    ExpectSameBits(run, expected);
  }
}

TEST_P(Finish, ItsFirstStepsAreTheFp8Runs) {
  const TrainingKeys fp8 = PrecisionKeys(GetParam());
  const TrainingRunResult run = Train(Join(fp8, kFinish)), all_fp8 = Train(fp8);
  ASSERT_EQ(run.losses.size(), all_fp8.losses.size());
  for (size_t step = 0; step < run.losses.size(); ++step) {
    if (step < static_cast<size_t>(kInFp8)) {
      EXPECT_EQ(run.losses[step], all_fp8.losses[step]) << step;
    } else {
      EXPECT_NE(run.losses[step], all_fp8.losses[step]) << step;
    }
  }
  EXPECT_NE(run.eval_losses.back(), all_fp8.eval_losses.back());
}

INSTANTIATE_TEST_SUITE_P(Precision, Finish, testing::Values("fp8", "fp8_verified", "fp8_head"),
                         [](const auto& test) { return test.param; });

TEST(FinishBits, DoNotDependOnPlacementRecomputeOrThreads) {
  const TrainingRunResult run = Train(kFinish);
  ExpectSameBits(run, Train(kFinish, 1, 3));
  for (const TrainingKeys& keys :
       std::vector<TrainingKeys>{{{"memory", "offload: {optimizer: host}"}},
                                 {{"memory", "offload: {weights: host, gradients: host}"}},
                                 {{"memory", "recompute: [block]"}},
                                 {{"checkpoint", "async_save: false"}}}) {
    SCOPED_TRACE(keys.front().second);
    ExpectSameBits(run, Train(Join(kFinish, keys)));
  }
  const TrainingKeys small = Join(kFinish, {{"training", "micro_batch_size: 1"}});
  ExpectSameBits(Train(small), Train(Join(small, {{"memory", "schedule: vertical"}})));
}

TEST(FinishBits, DoNotDependOnTheStage) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  const TrainingRunResult run = Train(kFinish, 2);
  for (const char* stage : {"zero_stage: 0", "zero_stage: 2", "zero_stage: 3"}) {
    SCOPED_TRACE(stage);
    ExpectSameBits(run, Train(Join(kFinish, {{"parallel", stage}}), 2));
  }
}

// Stopped in FP8, at the change, and in bf16.
TEST(FinishResumes, AnywhereWithTheBitsOfOneGo) {
  const TrainingRunResult whole = Train(kFinish);
  for (const int64_t stop : {int64_t{1}, kInFp8 - 1, kInFp8, kInFp8 + 1}) {
    SCOPED_TRACE(stop);
    const TemporaryFolder folder;
    TrainingRunOptions options = Options(kFinish);
    options.folder = folder.path();
    options.stop_after = stop;
    ASSERT_EQ(TrainInProcess(options).steps, stop);
    options.stop_after = -1;
    testing::internal::CaptureStderr();
    const TrainingRunResult pieces = TrainInProcess(options);
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_FALSE(Contains(said, "warning")) << said;
    ExpectSameBits(pieces, whole);
    EXPECT_EQ(pieces.steps, kSteps);
  }
}

// As after a kill: the newest checkpoint is of an earlier step than the log, the file of the plan
// that was in work may be there or not.
TEST(FinishResumes, FromAnyCheckpointThatIsLeft) {
  const TemporaryFolder folder;
  TrainingRunOptions options = Options(Join(kFinish, {{"checkpoint", "save_total_limit: null"}}));
  options.folder = folder.path();
  options.save_steps = 1;
  const TrainingRunResult whole = TrainInProcess(options);
  const std::filesystem::path out = folder.path() / "out";
  for (int64_t newest = kSteps - 1; newest > 0; --newest) {
    SCOPED_TRACE(newest);
    for (int64_t step = newest + 1; step <= kSteps; ++step) {
      std::filesystem::remove_all(out / CheckpointName(step));
    }
    ExpectSameBits(TrainInProcess(options), whole);
    EXPECT_EQ(std::ssize(CheckpointSteps(out)), kSteps);
    EXPECT_TRUE(std::filesystem::exists(out / "plan-bf16.yaml"));
  }
}

// A run that is made longer has its last steps later: those behind its old end are in FP8 again.
TEST(FinishResumes, ALongerRunInFp8) {
  const TrainingKeys fp8 = PrecisionKeys("fp8_verified");
  const TemporaryFolder folder, by_hand_folder;
  TrainingRunOptions options = Options(Join(fp8, kFinish));
  options.folder = folder.path();
  TrainInProcess(options);
  std::filesystem::copy(
      folder.path(), by_hand_folder.path(),
      std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  options.steps = 2 * kSteps;
  const TrainingRunResult longer = TrainInProcess(options);
  EXPECT_EQ(longer.steps, 2 * kSteps);
  TrainingRunOptions by_hand = Options(fp8);
  by_hand.steps = 2 * kSteps;
  by_hand.folder = by_hand_folder.path();
  by_hand.stop_after = 2 * kInFp8 - kSteps;
  ASSERT_EQ(TrainInProcess(by_hand).steps, 2 * kInFp8);
  by_hand.keys = Options(PrecisionKeys("bf16")).keys;
  by_hand.stop_after = -1;
  ExpectSameBits(longer, TrainInProcess(by_hand));
}

// The checkpoint of the change goes when the run has its last one, unless it was asked for.
TEST(FinishFiles, KeepTheCheckpointsThatWereAskedFor) {
  using Steps = std::vector<int64_t>;
  for (const auto& [save_steps, kept] : std::map<int64_t, Steps>{
           {0, {kSteps}}, {3, {3, kSteps}}, {kInFp8, {kInFp8, kSteps}}, {5, {5, kSteps}}}) {
    SCOPED_TRACE(save_steps);
    const TemporaryFolder folder;
    TrainingRunOptions options = Options(kFinish);
    options.folder = folder.path();
    options.save_steps = save_steps;
    EXPECT_EQ(TrainInProcess(options).steps, kSteps);
    EXPECT_EQ(CheckpointSteps(folder.path() / "out"), kept);
  }
  const TemporaryFolder folder;
  TrainingRunOptions options = Options(Join(kFinish, {{"checkpoint", "save_total_limit: 1"}}));
  options.folder = folder.path();
  options.stop_after = kInFp8 + 1;
  EXPECT_EQ(TrainInProcess(options).steps, kInFp8 + 1);
  EXPECT_EQ(CheckpointSteps(folder.path() / "out"), Steps({kInFp8 + 1}));
}

TEST(FinishFiles, SayWhatTheRunIs) {
  const TemporaryFolder folder;
  TrainingRunOptions options = Options(Join(kFinish, {{"logging", "fp8_amax_steps: 1"}}));
  options.save_steps = kInFp8;
  options.folder = folder.path();
  const TrainingRunResult run = TrainInProcess(options);
  const std::filesystem::path out = folder.path() / "out";
  const std::string resolved = FileText(out / "resolved.yaml");
  EXPECT_TRUE(Contains(resolved, "compute_dtype: fp8")) << resolved;
  EXPECT_TRUE(Contains(resolved, "bf16_finish_ratio: 0.34")) << resolved;
  EXPECT_TRUE(Contains(FileText(out / "plan.yaml"), "\ncompute: fp8\n"));
  EXPECT_TRUE(Contains(FileText(out / "plan-bf16.yaml"), "\ncompute: bf16\n"));
  for (const int64_t step : {kInFp8, kSteps}) {
    const std::string manifest =
        FileText(out / ("checkpoint-" + std::to_string(step)) / "manifest.json");
    EXPECT_TRUE(Contains(manifest, "\"compute_dtype\": \"fp8\"")) << manifest;
  }
  // Only what is quantised has an amax.
  std::istringstream lines(run.log);
  int64_t with_amax = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!Contains(line, "fp8/amax/")) continue;
    ++with_amax;
    EXPECT_FALSE(Contains(line, "\"step\":5,") || Contains(line, "\"step\":6,")) << line;
  }
  EXPECT_GT(with_amax, 0);
}

}  // namespace
}  // namespace hearth::test
