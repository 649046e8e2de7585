#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>

#include "comm/inproc/inproc_bootstrap.h"
#include "kernels/backend.h"
#include "tests/support/inproc_world.h"

namespace hearth::test {
namespace {

using ::testing::HasSubstr;

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

TEST(MakeCommunicator, RefusesAnUnknownKind) {
  const auto bootstraps = MakeInprocBootstraps(1, {});
  const auto backend = MakeBackend("cpu", {});
  EXPECT_THROW(MakeCommunicator("carrier_pigeon", *bootstraps[0], *backend, {}), ConfigError);
}

}  // namespace
}  // namespace hearth::test
