#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "comm/communicators.h"
#include "kernels/backend.h"

namespace hearth::test {
namespace {

TEST(MpiBootstrap, NamesTheRankThatSleeps) {
  const std::chrono::milliseconds timeout{500};
  const auto all = MakeMpiBootstrap({.collective_timeout = std::chrono::seconds(60)});
  if (all->world() == 1) return;
  const int sleeper = all->world() - 1;
  const auto bootstrap = MakeMpiBootstrap({.collective_timeout = timeout});
  if (bootstrap->rank() != sleeper) {
    try {
      bootstrap->Barrier();
      ADD_FAILURE() << "the barrier ended without rank " << sleeper;
    } catch (const CommError& error) {
      EXPECT_THAT(error.what(),
                  ::testing::HasSubstr("no answer from rank " + std::to_string(sleeper)));
    }
  }
  all->Barrier();
}

TEST(NetworkCommunicator, GoesByMpiWhereTheRanksDoNotReachEachOther) {
  const auto all = MakeMpiBootstrap({.collective_timeout = std::chrono::seconds(60)});
  if (all->world() == 1) return;
  const auto backend = MakeBackend("cpu", {});
  for (const std::string interface : {"lo", "nowhere0"}) {
    const auto stream = backend->device().CreateStream("test");
    const NetworkCommunicator network = MakeNetworkCommunicator(
        *all, *backend, {.collective_timeout = std::chrono::seconds(60), .interface = interface});
    if (interface == "lo") {
      EXPECT_EQ(network.description, "TCP on lo (127.0.0.1)");
      EXPECT_EQ(network.warning, "");
    } else {
      EXPECT_EQ(network.description, "mpi");
      EXPECT_THAT(
          network.warning,
          ::testing::HasSubstr("slower: not all ranks have an address on nowhere0 (IPv6's of "
                               "a link alone, fe80::, do not count); name"));
    }
    const Buffer slab = backend->device().Allocate(64, MemoryKind::kDevice);
    int64_t value = all->rank();
    std::memcpy(slab.View(0, DType::kI64, {1}).data(), &value, sizeof(value));
    network.communicator->RegisterSlab(slab.View(0, DType::kU8, {64}));
    network.communicator->AllReduce(*stream, {.dtype = DType::kI64, .range = {0, 8}});
    stream->Synchronize(std::chrono::seconds(60));
    std::memcpy(&value, slab.View(0, DType::kI64, {1}).data(), sizeof(value));
    EXPECT_EQ(value, all->world() * (all->world() - 1) / 2);
  }
}

TEST(MpiBootstrap, PartsAreJobsOfTheirOwn) {
  const auto all = MakeMpiBootstrap({.collective_timeout = std::chrono::seconds(60)});
  const int number = all->rank();
  const auto part = all->Split(number % 2);
  EXPECT_EQ(part->rank(), number / 2);
  EXPECT_EQ(part->world(), (all->world() + 1 - number % 2) / 2);
  EXPECT_EQ(part->local_world(), part->world());
  EXPECT_EQ(part->job_rank(part->rank()), number);
  const std::vector<Bytes> numbers = part->AllGather({std::byte(number)});
  for (int i = 0; i < part->world(); ++i) {
    EXPECT_EQ(numbers[static_cast<size_t>(i)], Bytes{std::byte(2 * i + number % 2)});
  }
  EXPECT_EQ(part->Split(part->rank())->world(), 1);
  const auto backend = MakeBackend("cpu", {});
  const auto stream = backend->device().CreateStream("test");
  const auto communicator = MakeCommunicator("mpi", *part, *backend, {});
  EXPECT_EQ(communicator->world(), part->world());
  const Buffer slab = backend->device().Allocate(64, MemoryKind::kDevice);
  int64_t value = number;
  std::memcpy(slab.View(0, DType::kI64, {1}).data(), &value, sizeof(value));
  communicator->RegisterSlab(slab.View(0, DType::kU8, {64}));
  communicator->AllReduce(*stream, {.dtype = DType::kI64, .range = {0, 8}});
  stream->Synchronize(std::chrono::seconds(60));
  std::memcpy(&value, slab.View(0, DType::kI64, {1}).data(), sizeof(value));
  int64_t expected = 0;
  for (int other = number % 2; other < all->world(); other += 2) expected += other;
  EXPECT_EQ(value, expected);
}

TEST(MpiBootstrap, APartNamesRanksByTheirNumberInTheJob) {
  const auto all = MakeMpiBootstrap({.collective_timeout = std::chrono::milliseconds(500)});
  if (all->world() < 3) return;
  const int sleeper = all->world() - 1;
  const auto part = all->Split(all->rank() % 2 == sleeper % 2 ? 0 : 1);
  const bool waits = all->rank() % 2 == sleeper % 2 && all->rank() != sleeper;
  if (waits) {
    try {
      part->Barrier();
      ADD_FAILURE() << "the barrier ended without rank " << sleeper;
    } catch (const CommError& error) {
      EXPECT_THAT(error.what(),
                  ::testing::HasSubstr("no answer from rank " + std::to_string(sleeper) + " for"));
    }
  }
  MakeMpiBootstrap({.collective_timeout = std::chrono::seconds(60)})->Barrier();
}

}  // namespace
}  // namespace hearth::test
