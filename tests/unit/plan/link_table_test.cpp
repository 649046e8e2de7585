#include "runtime/plan/link_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/core/error.h"

namespace hearth {
namespace {

using ::testing::HasSubstr;

LinkTable Table() {
  return {.machine = {.host = "box-1",
                      .driver = "NVRM version: 580.65",
                      .program = "0.1",
                      .devices = {"GPU-a", "GPU-b"}},
          .device = "NVIDIA H200",
          .directions = {{.from = 0, .to = 1, .way = "copy_engine", .gb_per_s = 0.1},
                         {.from = 1, .to = 0, .way = "nccl", .problem = "a \"quote\" and \\"}},
          .figures = {{"all-gather", "mpi", 100, 10.5},
                      {"all-gather", "copy_engine", 100, 20},
                      {"all-gather", "mpi", 10'000, 300},
                      {"all-gather", "copy_engine", 10'000, 30},
                      {"reduce-scatter", "mpi", 100, 35},
                      {"reduce-scatter", "nccl", 100, 1},
                      {"reduce-scatter", "copy_engine", 100, 36},
                      {"all-reduce", "mpi", 64, 4},
                      {"all-reduce", "copy_engine", 64, 5}},
          .problems = {}};
}

TEST(LinkTable, ItsTextReadsBackTheSame) {
  LinkTable table = Table();
  table.problems.push_back({"nccl", "hangs"});
  EXPECT_EQ(ParseLinkTable(LinkTableText(table), "f"), table);
  const LinkTable empty{.machine = {.devices = {"a"}}};
  EXPECT_EQ(ParseLinkTable(LinkTableText(empty), "f"), empty);
}

TEST(LinkTable, RanksThatShareADeviceAreSaidTo) {
  EXPECT_EQ(DescribeRanks("NVIDIA H200", {"GPU-1", "GPU-1"}), "2 ranks on one NVIDIA H200");
  EXPECT_EQ(DescribeRanks("NVIDIA H200", {"GPU-1", "GPU-2"}), "2 ranks on 2 x NVIDIA H200");
  EXPECT_EQ(DescribeRanks("NVIDIA H200", {"GPU-1", "GPU-2", "GPU-1", "GPU-2"}),
            "4 ranks on 2 x NVIDIA H200");
}

TEST(LinkTable, WhatIsDamagedIsRefusedInOneLine) {
  const std::string good = LinkTableText(Table());
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    EXPECT_NE(text.find(from), std::string::npos) << from;
    return text.replace(text.find(from), from.size(), to);
  };
  for (const std::string& text :
       {std::string(), std::string("{}"), good.substr(0, good.size() / 2), good + "x",
        changed("\"links_version\": 1", "\"links_version\": 2"),
        changed("\"from\": 0", "\"from\": 2"), changed("\"from\": 0", "\"from\": -1"),
        changed("\"us\": 10.5", "\"us\": \"fast\""), changed("\"us\": 10.5", "\"us\": -1"),
        changed("\"bytes\": 100", "\"bytes\": 0"), changed("\"GPU-a\"", "7"),
        changed("\"host\"", "\"hast\"")}) {
    try {
      ParseLinkTable(text, "links.json");
      ADD_FAILURE() << "accepted: " << text;
    } catch (const IoError& error) {
      EXPECT_THAT(error.what(), HasSubstr("links.json"));
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  }
}

TEST(LinkTable, FiguresOfAnotherMachineAreStale) {
  const LinkMachine here = Table().machine;
  EXPECT_EQ(WhyStale(here, here), "");
  LinkMachine there = here;
  there.host = "box-2";
  EXPECT_THAT(WhyStale(there, here), HasSubstr("'box-2', this is 'box-1'"));
  there = here;
  there.driver = "NVRM version: 581";
  EXPECT_THAT(WhyStale(there, here), HasSubstr("driver"));
  there = here;
  there.program = "0.0";
  EXPECT_THAT(WhyStale(there, here), HasSubstr("Hearth"));
  there = here;
  there.devices = {"GPU-a", "GPU-c"};
  EXPECT_THAT(WhyStale(there, here), HasSubstr("rank 1"));
  there.devices = {"GPU-a"};
  EXPECT_THAT(WhyStale(there, here), HasSubstr("1 rank"));
}

TEST(ChooseWays, TakesTheFastestByOperationAndSize) {
  const std::vector<WayRule> rules = ChooseWays(Table(), {"copy_engine", "mpi"});
  // Copy engines take the largest gathers; MPI is a tenth faster for small gathers and reductions,
  // but not for reduce-scatters. 1000 lies between 100 and 10,000.
  const std::vector<WayRule> expected = {{"all-gather", 1000, "mpi"},
                                         {"all-gather", INT64_MAX, "copy_engine"},
                                         {"reduce-scatter", INT64_MAX, "copy_engine"},
                                         {"all-reduce", INT64_MAX, "mpi"}};
  EXPECT_EQ(rules, expected);
  EXPECT_EQ(Describe(rules),
            "all-gather by mpi up to 1000 bytes, then copy_engine; reduce-scatter by copy_engine; "
            "all-reduce by mpi");
}

TEST(ChooseWays, LeavesOutWhatIsNotAllowedOrHasAProblem) {
  LinkTable table = Table();
  // NCCL has no all-gather here, and is the fastest reduction.
  EXPECT_EQ(ChooseWays(table, {"copy_engine", "mpi", "nccl"})[2],
            (WayRule{"reduce-scatter", INT64_MAX, "nccl"}));
  table.problems.push_back({"nccl", "rank 0 to 1: wrong data"});
  EXPECT_EQ(ChooseWays(table, {"copy_engine", "mpi", "nccl"}),
            ChooseWays(table, {"copy_engine", "mpi"}));
  table.problems.push_back({"copy_engine", "hangs"});
  for (const WayRule& rule : ChooseWays(table, {"copy_engine", "mpi", "nccl"})) {
    EXPECT_EQ(rule.way, "mpi");
  }
  table.problems.push_back({"mpi", "crashes"});
  EXPECT_TRUE(ChooseWays(table, {"copy_engine", "mpi", "nccl"}).empty());
  EXPECT_TRUE(ChooseWays(Table(), {}).empty());
}

}  // namespace
}  // namespace hearth
