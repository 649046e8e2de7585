#include "launcher/sweep_packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hearth::test {
namespace {

using testing::ElementsAre;

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

}  // namespace
}  // namespace hearth::test
