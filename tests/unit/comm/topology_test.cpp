#include "comm/api/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "tests/support/inproc_world.h"

namespace hearth::test {
namespace {

using ::testing::HasSubstr;

std::string Refusal(const std::vector<std::string>& hosts) {
  try {
    TopologyOf(hosts);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Topology, HostsAreBoxes) {
  EXPECT_EQ(TopologyOf({"a"}), (Topology{.boxes = 1, .ranks_per_box = 1}));
  EXPECT_EQ(TopologyOf({"a", "a", "a"}), (Topology{.boxes = 1, .ranks_per_box = 3}));
  EXPECT_EQ(TopologyOf({"b", "a", "c"}), (Topology{.boxes = 3, .ranks_per_box = 1}));
  EXPECT_EQ(TopologyOf({"a", "a", "b", "b"}), (Topology{.boxes = 2, .ranks_per_box = 2}));
}

TEST(Topology, HostsOfOneNameAreToldApart) {
  EXPECT_EQ(TopologyOf({"a\n1", "a\n1", "a\n2", "a\n2"}),
            (Topology{.boxes = 2, .ranks_per_box = 2}));
  EXPECT_THAT(Refusal({"a\n1", "a\n1", "b\n1"}), HasSubstr("2 ranks on a, but 1 on b;"));
  EXPECT_THAT(Refusal({"a\n1", "a\n2", "a\n1"}), HasSubstr("rank 2 is on a again, behind"));
}

TEST(Topology, BoxesOfDifferentSizesAreRefusedByName) {
  EXPECT_THAT(Refusal({"a", "a", "b"}), HasSubstr("2 ranks on a, but 1 on b"));
  EXPECT_THAT(Refusal({"a", "b", "b", "c"}), HasSubstr("1 ranks on a, but 2 on b"));
}

TEST(Topology, RanksOfAHostFollowEachOther) {
  EXPECT_THAT(Refusal({"a", "b", "a", "b"}), HasSubstr("rank 2 is on a again"));
}

TEST(Topology, AllRanksFindTheSame) {
  RunInprocWorld({.ranks = 4}, [](InprocRank& rank) {
    const std::string host = rank.bootstrap.rank() < 2 ? "left" : "right";
    EXPECT_EQ(FindTopology(rank.bootstrap, host), (Topology{.boxes = 2, .ranks_per_box = 2}));
  });
}

}  // namespace
}  // namespace hearth::test
