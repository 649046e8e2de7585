#include "comm/mixed_communicator.h"

#include <gtest/gtest.h>

#include <chrono>

#include "tests/support/inproc_world.h"

namespace hearth::test {
namespace {

constexpr std::chrono::seconds kTimeout{60};

// Two parts over the same threads: who has taken a collective shows in what each has enqueued.
TEST(MixedCommunicator, EachCollectiveGoesByItsRule) {
  RunInprocWorld({.ranks = 2}, [](InprocRank& rank) {
    std::vector<std::unique_ptr<Communicator>> parts;
    for (int part = 0; part < 2; ++part) {
      parts.push_back(MakeCommunicator("inproc", rank.bootstrap, rank.backend,
                                       {.collective_timeout = kTimeout}));
    }
    const Communicator& small = *parts[0];
    const Communicator& large = *parts[1];
    const auto mixed =
        MakeMixedCommunicator(std::move(parts), {{MixedOperation::kAllGather, 200, 0},
                                                 {MixedOperation::kAllGather, INT64_MAX, 1},
                                                 {MixedOperation::kReduceScatter, INT64_MAX, 1},
                                                 {MixedOperation::kAllReduce, INT64_MAX, 0}});
    EXPECT_EQ(mixed->memory().pinned_bytes,
              small.memory().pinned_bytes + large.memory().pinned_bytes);
    const int me = mixed->rank();
    const Buffer memory = rank.backend.device().Allocate(4096, MemoryKind::kDevice);
    mixed->RegisterSlab(memory.View(0, DType::kU8, {4096}));
    auto* bytes = memory.data();
    const auto gather = [&](int64_t share) {
      std::fill_n(bytes, 4096, std::byte(100 + me));
      mixed->AllGather(rank.stream, {.ranges = {{0, share}, {2048, share}}});
      rank.stream.Synchronize(kTimeout);
      EXPECT_EQ(bytes[share - 1], std::byte{100});
      EXPECT_EQ(bytes[2048 + share - 1], std::byte{101});
    };
    gather(100);
    EXPECT_EQ(small.enqueued(), 1);
    gather(101);
    EXPECT_EQ(large.enqueued(), 1);
    auto* numbers = reinterpret_cast<float*>(bytes);
    numbers[0] = numbers[1] = static_cast<float>(me + 1);
    mixed->AllReduce(rank.stream, {.range = {0, 4}});
    rank.stream.Synchronize(kTimeout);
    EXPECT_EQ(numbers[0], 3.0f);
    EXPECT_EQ(small.enqueued(), 2);
    mixed->ReduceScatter(rank.stream, {.ranges = {{0, 4}, {4, 4}},
                                       .out = TensorView(bytes + 4 * me, DType::kF32, {1})});
    rank.stream.Synchronize(kTimeout);
    EXPECT_EQ(numbers[me], me == 0 ? 6.0f : 3.0f);
    EXPECT_EQ(large.enqueued(), 2);
    mixed->Broadcast(rank.stream, {.range = {0, 101}, .root = 1});  // 202 bytes at two ranks
    rank.stream.Synchronize(kTimeout);
    EXPECT_EQ(large.enqueued(), 3);
    EXPECT_EQ(mixed->enqueued(), 5);
    EXPECT_EQ(mixed->completed(), 5);
    mixed->ReleaseSlab();
  });
}

}  // namespace
}  // namespace hearth::test
