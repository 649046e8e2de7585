#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "comm/inproc/inproc_bootstrap.h"
#include "kernels/backend.h"
#include "tests/support/inproc_world.h"

namespace hearth::test {
namespace {

using ::testing::HasSubstr;

constexpr std::chrono::seconds kLong{60};

TEST(InprocBootstrap, NamesTheRanksThatDoNotCome) {
  const std::chrono::milliseconds timeout{200};
  RunInprocWorld(
      {.ranks = 4, .bootstrap = {.init_timeout = timeout, .collective_timeout = timeout}},
      [](InprocRank& rank) {
        if (rank.bootstrap.rank() % 2 == 1) return;
        try {
          rank.bootstrap.Barrier();
          ADD_FAILURE() << "the barrier ended without two of four ranks";
        } catch (const CommError& error) {
          EXPECT_THAT(error.what(), HasSubstr("no answer from ranks 1, 3 for 200 ms"));
        }
      });
}

TEST(InprocWorld, ThrowsTheFirstExceptionAndEndsTheWaitsOfTheOthers) {
  std::atomic<int> told{0};
  const auto begin = std::chrono::steady_clock::now();
  try {
    RunInprocWorld({.ranks = 3}, [&](InprocRank& rank) {
      if (rank.bootstrap.rank() == 1) throw std::runtime_error("disk full");
      try {
        if (rank.bootstrap.rank() == 0) rank.bootstrap.Barrier();
        const Buffer slab = rank.backend.device().Allocate(64, MemoryKind::kDevice);
        rank.communicator.RegisterSlab(slab.View(0, DType::kU8, {64}));
        rank.communicator.AllReduce(rank.stream, {.range = {.offset_bytes = 0, .bytes = 64}});
        rank.stream.Synchronize(std::chrono::seconds(60));
      } catch (const CommError& error) {
        EXPECT_THAT(error.what(), HasSubstr("rank 1 ended the job with exit code 1: disk full"));
        ++told;
        throw;
      }
    });
    ADD_FAILURE() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "disk full");
  }
  EXPECT_EQ(told, 2);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
}

TEST(InprocBootstrap, PartsAreJobsOfTheirOwn) {
  RunInprocWorld({.ranks = 5}, [](InprocRank& rank) {
    const int number = rank.bootstrap.rank();
    const auto part = rank.bootstrap.Split(number % 2);
    EXPECT_EQ(part->rank(), number / 2);
    EXPECT_EQ(part->world(), number % 2 == 0 ? 3 : 2);
    EXPECT_EQ(part->job_rank(part->rank()), number);
    EXPECT_EQ(part->AllGather({std::byte(number)}).back(), Bytes{std::byte(3 + (number + 1) % 2)});
    // Parts of a part, and again of the whole.
    EXPECT_EQ(part->Split(part->rank())->world(), 1);
    EXPECT_EQ(rank.bootstrap.Split(0)->world(), 5);
    const auto communicator =
        MakeCommunicator("inproc", *part, rank.backend, {.collective_timeout = kLong});
    const Buffer slab = rank.backend.device().Allocate(64, MemoryKind::kDevice);
    int64_t value = number;
    std::memcpy(slab.View(0, DType::kI64, {1}).data(), &value, sizeof(value));
    communicator->RegisterSlab(slab.View(0, DType::kU8, {64}));
    communicator->AllReduce(rank.stream, {.dtype = DType::kI64, .range = {0, 8}});
    rank.stream.Synchronize(kLong);
    std::memcpy(&value, slab.View(0, DType::kI64, {1}).data(), sizeof(value));
    EXPECT_EQ(value, number % 2 == 0 ? 0 + 2 + 4 : 1 + 3);
  });
}

TEST(InprocBootstrap, APartNamesRanksByTheirNumberInTheJob) {
  const std::chrono::milliseconds timeout{200};
  RunInprocWorld({.ranks = 4, .bootstrap = {.collective_timeout = timeout}}, [](InprocRank& rank) {
    const int number = rank.bootstrap.rank();
    const auto part = rank.bootstrap.Split(number / 2);
    part->Barrier();
    if (number == 3) return;
    try {
      part->Barrier();
      EXPECT_LT(number, 2) << "the barrier ended without rank 3";
    } catch (const CommError& error) {
      EXPECT_EQ(number, 2);
      EXPECT_THAT(error.what(), HasSubstr("no answer from rank 3 for 200 ms"));
    }
  });
}

TEST(InprocBootstrap, TheEndOfAPartIsTheEndOfAll) {
  std::atomic<int> told{0};
  const auto body = [&](InprocRank& rank) {
    const int number = rank.bootstrap.rank();
    try {
      const auto part = rank.bootstrap.Split(number / 2);
      if (number == 3) part->Abort(1, "disk full");
      (number == 2 ? *part : rank.bootstrap).Barrier();
      ADD_FAILURE() << "a barrier ended without rank 3";
    } catch (const CommError& error) {
      EXPECT_THAT(error.what(), HasSubstr("rank 3 ended the job with exit code 1: disk full"));
      ++told;
    }
  };
  RunInprocWorld({.ranks = 4}, body);
  EXPECT_EQ(told, 4);
}

TEST(MakeCommunicator, RefusesAnUnknownKind) {
  const auto bootstraps = MakeInprocBootstraps(1, {});
  const auto backend = MakeBackend("cpu", {});
  EXPECT_THROW(MakeCommunicator("carrier_pigeon", *bootstraps[0], *backend, {}), ConfigError);
}

}  // namespace
}  // namespace hearth::test
