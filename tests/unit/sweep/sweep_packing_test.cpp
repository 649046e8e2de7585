#include "launcher/sweep_packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "launcher/sweep_plan.h"
#include "launcher/sweep_run_folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/unit/sweep/sweep_test_support.h"

namespace hearth::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::UnorderedElementsAre;
using testing::UnorderedElementsAreArray;

constexpr int64_t kGiB = int64_t{1} << 30;

TEST(SweepPackingTest, RunsOnTheCpuShareCoresAndMemory) {
  const std::vector<RunNeeds> small(8, {.ranks = 1, .gpus = 0, .bytes = kGiB});
  EXPECT_EQ(CountSlots(small, {.gpus = {}, .cores = 4, .free_bytes = 100 * kGiB}), 4);
  EXPECT_EQ(CountSlots(small, {.gpus = {}, .cores = 64, .free_bytes = 100 * kGiB}), 8);
  // 80 % of 5 GiB holds three runs of 1 GiB and what they need besides.
  EXPECT_EQ(CountSlots(small, {.gpus = {}, .cores = 64, .free_bytes = 5 * kGiB}), 3);
  EXPECT_EQ(CountSlots(small, {.gpus = {}, .cores = 64, .free_bytes = kGiB / 2}), 1);
  EXPECT_EQ(CountSlots(small, {.gpus = {}, .cores = 64, .free_bytes = 0}), 8);
  const std::vector<RunNeeds> wide(8, {.ranks = 2, .gpus = 0, .bytes = 0});
  EXPECT_EQ(CountSlots(wide, {.gpus = {}, .cores = 5, .free_bytes = 0}), 2);
  EXPECT_EQ(CountSlots(wide, {.gpus = {}, .cores = 1, .free_bytes = 0}), 1);
}

TEST(SweepPackingTest, RunsOnGpusShareGpus) {
  const std::vector<RunNeeds> runs(9, {.ranks = 2, .gpus = 2, .bytes = 400 * kGiB});
  EXPECT_EQ(CountSlots(runs, {.gpus = GpuNames(nullptr, 8), .cores = 2, .free_bytes = kGiB}), 4);
  EXPECT_EQ(CountSlots(runs, {.gpus = GpuNames(nullptr, 3), .cores = 2, .free_bytes = kGiB}), 1);
}

TEST(SweepPackingTest, GpusHaveTheNamesTheyAreVisibleBy) {
  EXPECT_THAT(GpuNames(nullptr, 3), ElementsAre("0", "1", "2"));
  EXPECT_THAT(GpuNames("5,3", 2), ElementsAre("5", "3"));
  EXPECT_THAT(GpuNames("GPU-1a,GPU-2b,GPU-3c", 2), ElementsAre("GPU-1a", "GPU-2b"));
}

TEST(SweepPackingTest, NoGpuAndNoSlotIsGivenTwice) {
  SeatMap seats(3, {"4", "5", "6"});
  const auto a = seats.Take(1);
  const auto b = seats.Take(1);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(a->slot, 0);
  EXPECT_EQ(b->slot, 1);
  EXPECT_THAT(a->gpus, ElementsAre("4"));
  EXPECT_THAT(b->gpus, ElementsAre("5"));
  EXPECT_FALSE(seats.Take(2));
  seats.GiveBack(*a);
  const auto c = seats.Take(2);
  ASSERT_TRUE(c);
  EXPECT_EQ(c->slot, 0);
  EXPECT_THAT(c->gpus, ElementsAre("4", "6"));
  EXPECT_TRUE(seats.Take(0));
  EXPECT_FALSE(seats.Take(0));
}

const SweepMachine kFourGpus{.gpus = {"0", "1", "2", "3"}, .cores = 8, .free_bytes = 0};

RunNeeds Needs(const std::string& run, const std::string& schedule, const SweepMachine& machine) {
  const SweepConfig sweep = Parse("seeds: [1]\n" + schedule);
  return NeedsOf(ExpandSweep(sweep, kBase + run, {}).runs[0].resolved, sweep, machine);
}

TEST(SweepPackingTest, ARunHasOneRankForEachOfItsGpus) {
  const auto expect = [](const RunNeeds& needs, int64_t ranks, int64_t gpus) {
    EXPECT_EQ(needs.ranks, ranks);
    EXPECT_EQ(needs.gpus, gpus);
  };
  const std::string two_ranks = "launch: {nproc_per_node: 2}\n";
  const std::string two_gpus = "schedule: {gpus_per_run: 2}\n";
  expect(Needs("", "", kFourGpus), 1, 1);
  expect(Needs("", two_gpus, kFourGpus), 2, 2);
  expect(Needs(two_ranks, "", kFourGpus), 2, 2);
  expect(Needs(two_ranks, two_gpus, kFourGpus), 2, 2);
  expect(Needs(two_ranks + "device: cpu\n", "", kFourGpus), 2, 0);
  expect(Needs(two_ranks, "", {}), 2, 0);
  EXPECT_THAT(ErrorOf([&] { Needs(two_ranks, "schedule: {gpus_per_run: 4}\n", kFourGpus); }),
              HasSubstr("run.yaml:4:26: error: launch.nproc_per_node: 2 ranks, but"));
  EXPECT_THAT(ErrorOf([&] { Needs("", "schedule: {gpus_per_run: 5}\n", kFourGpus); }),
              HasSubstr("sweep.yaml:3:26: error: a run needs 5 GPUs and there are 4"));
}

TEST(SweepPackingTest, ARunsProcessSeesItsGpusAlone) {
  const TemporaryFolder folder;
  const SweepConfig sweep = Parse("seeds: [1]\n");
  PlannedRun run{
      .resolved = ExpandSweep(sweep, kBase + "checkpoint: {resume: none}\n", {}).runs[0].resolved};
  run.folder = folder.path();
  run.needs.ranks = 2;
  const std::vector<std::string> environment = {"A=b", "CUDA_VISIBLE_DEVICES=0,1,2,3"};
  ProcessOptions process = TrainProcess(run, {.slot = 0, .gpus = {"2", "3"}}, environment);
  EXPECT_THAT(process.environment, UnorderedElementsAre("A=b", "CUDA_VISIBLE_DEVICES=2,3"));
  EXPECT_EQ(process.output, (folder.path() / "output.txt").string());
  process.arguments.erase(process.arguments.begin());
  const std::string file = (folder.path() / "run.yaml").string();
  EXPECT_THAT(process.arguments, ElementsAre("train", file, "-n", "2"));
  // Once it has a checkpoint it goes on from there, whatever the base says.
  std::filesystem::create_directory(folder.path() / "checkpoint-5");
  EXPECT_THAT(TrainProcess(run, {}, environment).arguments,
              IsSupersetOf({"--set", "checkpoint.resume=auto"}));
  EXPECT_THAT(TrainProcess(run, {}, environment).environment,
              UnorderedElementsAreArray(environment));
}

}  // namespace
}  // namespace hearth::test
