#include "launcher/exchange_ways.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "launcher/program_info.h"

namespace hearth {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

TEST(ExchangeWays, AutoChoosesAmongWhatCanBeAskedFor) {
  EXPECT_THAT(AllowedWays(/*gpus=*/false), ElementsAre("mpi"));
  if (BuiltFeatures().cuda) {
    EXPECT_THAT(AllowedWays(true), Contains("copy_engine, host"));
  } else {
    EXPECT_THAT(AllowedWays(true), ElementsAre("mpi"));
  }
  // As long as comm.backend: nccl is refused.
  EXPECT_THAT(AllowedWays(true), Not(Contains("nccl")));
}

TEST(ExchangeWays, AreFoundByName) {
  EXPECT_EQ(FindWay("copy_engine, host").kind, "copy_engine");
  EXPECT_TRUE(FindWay("copy_engine, host").through_host);
  EXPECT_FALSE(FindWay("copy_engine").through_host);
  EXPECT_THROW(FindWay("carrier pigeon"), ConfigError);
}

}  // namespace
}  // namespace hearth
