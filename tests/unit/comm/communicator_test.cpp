#include "comm/api/communicator.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "tests/support/inproc_world.h"

namespace hearth::test {
namespace {

// Also where offset and size together are beyond what a number holds.
TEST(Communicator, RangesOutsideAreRefusedBeforeAnythingMoves) {
  RunInprocWorld({.ranks = 2}, [](InprocRank& rank) {
    Communicator& communicator = rank.communicator;
    Buffer memory = rank.backend.device().Allocate(64, MemoryKind::kDevice);
    const TensorView data = memory.View(0, DType::kF32, {16});
    constexpr int64_t kLargest = INT64_MAX - 3;  // whole elements
    const std::vector<SlabRange> wrong = {{0, 68}, {64, 4}, {-4, 4},       {4, -4},
                                          {2, 4},  {0, 6},  {8, kLargest}, {kLargest, 8}};
    for (const SlabRange& range : wrong) {
      EXPECT_THROW(communicator.SumEverywhere(rank.stream, {.data = data, .parts = {range, {}}}),
                   CheckError)
          << range.offset_bytes << " + " << range.bytes;
    }
    communicator.RegisterSlab(memory.View(0, DType::kU8, {64}));
    for (const SlabRange& range : wrong) {
      EXPECT_THROW(communicator.ReduceScatter(rank.stream, {.ranges = {range, {}}, .out = data}),
                   CheckError)
          << range.offset_bytes << " + " << range.bytes;
    }
    EXPECT_EQ(communicator.enqueued(), 0);
  });
}

}  // namespace
}  // namespace hearth::test
