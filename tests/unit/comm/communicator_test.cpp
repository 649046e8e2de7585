#include "comm/api/communicator.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
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

// Of one rank; the named collective fails.
class FailingCommunicator final : public Communicator {
 public:
  explicit FailingCommunicator(std::string failing) : failing_(std::move(failing)) {}
  int rank() const override { return 0; }
  int world() const override { return 1; }
  CommunicatorMemory memory() const override { return {}; }
  int64_t completed() const override { return 0; }
  const void* slab_data() const { return slab().data(); }

 private:
  void Enqueue(const std::string& name) const {
    if (name == failing_) throw CommError(name + " failed");
  }
  void DoRegisterSlab() override {}
  void DoAllGather(Stream&, const AllGatherArgs&) override { Enqueue("all-gather"); }
  void DoReduceScatter(Stream&, const ReduceScatterArgs&) override { Enqueue("reduce-scatter"); }
  void DoAllReduce(Stream&, const AllReduceArgs&) override {}
  void DoBroadcast(Stream&, const BroadcastArgs&) override {}

  const std::string failing_;
};

TEST(Communicator, ASumThatFailsLeavesTheSlabRegistered) {
  RunInprocWorld({.ranks = 1}, [](InprocRank& rank) {
    Buffer slab = rank.backend.device().Allocate(64, MemoryKind::kDevice);
    Buffer memory = rank.backend.device().Allocate(64, MemoryKind::kDevice);
    for (const std::string failing : {"none", "reduce-scatter", "all-gather"}) {
      FailingCommunicator communicator(failing);
      communicator.RegisterSlab(slab.View(0, DType::kU8, {64}));
      const auto sum = [&] {
        communicator.SumEverywhere(rank.stream,
                                   {.data = memory.View(0, DType::kF32, {16}), .parts = {{0, 64}}});
      };
      if (failing == "none") {
        EXPECT_NO_THROW(sum());
      } else {
        EXPECT_THROW(sum(), CommError) << failing;
      }
      EXPECT_EQ(communicator.slab_data(), slab.data()) << failing;
    }
  });
}

}  // namespace
}  // namespace hearth::test
