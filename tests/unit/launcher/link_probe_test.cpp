// What the probe makes of children that answer, hang, crash, fall silent or talk nonsense. They are
// real processes: shells.
#include "launcher/link_probe.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <set>

#include "launcher/process.h"

namespace hearth {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::chrono::milliseconds kSilence{1'500};

// What a child's shell does at a stage; else it answers well.
using Scripts = std::map<std::string, std::string>;

std::string Answer(const std::string& stage) {
  return fmt::format(R"(echo '{{"stage": "{}", "problem": "", "gb_per_s": 2.5, "figures": )"
                     R"([{{"operation": "all-gather", "bytes": 100, "us": 7}}]}}')",
                     stage);
}

// Runs a shell that does the stages, and notes the jobs.
class Shells {
 public:
  explicit Shells(Scripts scripts) : scripts_(std::move(scripts)) {}

  CommandEnd operator()(const LinkJob& job) {
    jobs.push_back(job);
    std::string devices;
    for (int place : job.places) {
      devices += fmt::format("{}\"GPU-{}\"", devices.empty() ? "" : ", ", place);
    }
    std::string script = fmt::format(
        "echo 'some library says hello'\necho '{{\"devices\": [{}], \"device\": "
        "\"a GPU\"}}'\n",
        devices);
    for (const std::string& stage : job.stages) {
      const std::string pair =
          job.places.size() == 2 ? fmt::format("{}-{} ", job.places[0], job.places[1]) : "";
      const auto found = scripts_.find(pair + stage);
      const auto everywhere = scripts_.find(stage);
      script += (found != scripts_.end()        ? found->second
                 : everywhere != scripts_.end() ? everywhere->second
                                                : Answer(stage)) +
                "\n";
    }
    return RunWhileItSpeaks({.arguments = {"/bin/sh", "-c", script}, .environment = Environment()},
                            kSilence);
  }

  std::vector<LinkJob> jobs;

 private:
  const Scripts scripts_;
};

LinkTable Probe(Shells& shells, int ranks = 2, bool pairs = true) {
  const LinkProbeOptions options{.ranks = ranks, .ways = {"copy_engine", "mpi"}, .pairs = pairs};
  return ProbeLinks(options, [&](const LinkJob& job) { return shells(job); });
}

TEST(ProbeLinks, TriesEveryPairAndDirectionThenAllTogether) {
  Shells shells(Scripts{});
  const LinkTable table = Probe(shells, 3);
  EXPECT_TRUE(table.problems.empty());
  EXPECT_THAT(table.machine.devices, ElementsAre("GPU-0", "GPU-1", "GPU-2"));
  std::set<std::string> directions;
  for (const LinkDirection& d : table.directions) {
    directions.insert(fmt::format("{}{} {}", d.from, d.to, d.way));
    EXPECT_EQ(d.problem, "");
    EXPECT_EQ(d.gb_per_s, 2.5);
    EXPECT_EQ(d.both_gb_per_s, 2.5);
  }
  EXPECT_EQ(directions.size(), 12u);  // six directions, two ways
  ASSERT_EQ(shells.jobs.size(), 4u);
  EXPECT_THAT(shells.jobs.back().places, ElementsAre(0, 1, 2));
  EXPECT_THAT(shells.jobs.back().stages, ElementsAre("copy_engine:all", "mpi:all"));
  ASSERT_EQ(table.figures.size(), 2u);
  EXPECT_EQ(table.figures[0],
            (LinkFigure{
                .operation = "all-gather", .way = "copy_engine", .bytes = 100, .microseconds = 7}));
  EXPECT_THAT(LinkTableForPeople(table, {}), HasSubstr("3 ranks"));
}

TEST(ProbeLinks, AWayThatHangsBetweenTwoRanksCostsThatWayAlone) {
  Shells shells(Scripts{{"0-1 copy_engine:1", "sleep 1000"}});
  const auto begin = std::chrono::steady_clock::now();
  const LinkTable table = Probe(shells);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
  for (const LinkDirection& d : table.directions) {
    const bool hangs = d.way == "copy_engine" && d.from == 1;
    EXPECT_EQ(d.problem.empty(), !hangs) << d.from << d.way;
    if (hangs) {
      EXPECT_THAT(d.problem, HasSubstr("hangs"));
    }
  }
  ASSERT_EQ(table.problems.size(), 1u);
  EXPECT_EQ(table.problems[0].way, "copy_engine");
  EXPECT_THAT(table.problems[0].problem, HasSubstr("rank 1 to 0: hangs"));
  // The job went on behind it, and all together tried the other way alone.
  ASSERT_EQ(shells.jobs.size(), 3u);
  EXPECT_THAT(shells.jobs[1].stages, ElementsAre("copy_engine:both", "mpi:0", "mpi:1", "mpi:both"));
  EXPECT_THAT(shells.jobs[2].stages, ElementsAre("mpi:all"));
}

TEST(ProbeLinks, NamesHowAChildEnded) {
  const std::pair<const char*, const char*> kinds[] = {
      {"kill -SEGV $$", "crashes: signal 11"},
      {"kill -KILL $$", "crashes: signal 9"},
      {"echo 'hearth: rank 1: the driver is sick' >&2; exit 4",
       "fails: hearth: rank 1: the driver"},
      {"exit 0", "gave no answer"},
      {"echo '{\"stage\": \"copy_engine:all\", \"problem\": \"wrong data: byte 3\"}'",
       "wrong data: byte 3"},
  };
  for (const auto& [script, expected] : kinds) {
    Shells shells(Scripts{{"copy_engine:all", script}});
    const LinkTable table = Probe(shells, 2, /*pairs=*/false);
    ASSERT_EQ(table.problems.size(), 1u) << script;
    EXPECT_EQ(table.problems[0].way, "copy_engine");
    EXPECT_THAT(table.problems[0].problem, HasSubstr(expected));
    ASSERT_EQ(table.figures.size(), 1u) << script;
    EXPECT_EQ(table.figures[0].way, "mpi");
  }
}

// Nothing that a child says can throw or make a figure that the table's reader would refuse.
TEST(ProbeLinks, NonsenseIsNoAnswer) {
  for (const char* nonsense :
       {"echo '{'", "echo '{}'", "echo '[1]'", "echo '{\"stage\": 7}'",
        "echo '{\"stage\": \"mpi:all\"}'", "head -c 200000 /dev/zero",
        "yes '{\"stage\": 1}' | head -n 20000",
        "echo '{\"stage\": \"copy_engine:all\", \"problem\": 3, \"figures\": [1, {\"us\": -1}, "
        "{\"us\": 1e300, \"bytes\": 5}, {\"us\": 2, \"bytes\": 0}, {\"bytes\": \"x\"}]}'"}) {
    Shells shells(Scripts{{"copy_engine:all", std::string(nonsense) + "; sleep 0"}});
    LinkTable table = Probe(shells, 2, /*pairs=*/false);
    for (const LinkFigure& figure : table.figures) EXPECT_EQ(figure.way, "mpi") << nonsense;
    ASSERT_EQ(table.machine.devices.size(), 2u);
    EXPECT_EQ(ParseLinkTable(LinkTableText(table), "f"), table) << nonsense;
  }
}

TEST(ProbeLinks, WithoutAnyChildThereIsNoTable) {
  const LinkProbeOptions options{.ranks = 2, .ways = {"mpi"}};
  const LinkTable table = ProbeLinks(
      options, [](const LinkJob&) { return CommandEnd{.output = "mpirun is not in PATH"}; });
  EXPECT_TRUE(table.machine.devices.empty());
  ASSERT_EQ(table.problems.size(), 1u);
  EXPECT_THAT(table.problems[0].problem, HasSubstr("could not be started (mpirun is not in PATH)"));
}

TEST(RunWhileItSpeaks, LetsItRunAsLongAsItSpeaksAndNoLonger) {
  const std::vector<std::string> environment = Environment();
  const CommandEnd talks = RunWhileItSpeaks(
      {.arguments = {"/bin/sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.6; done; exit 3"},
       .environment = environment},
      kSilence);
  EXPECT_FALSE(talks.timed_out);
  EXPECT_EQ(talks.exit_code, 3);
  EXPECT_EQ(talks.output, "1\n2\n3\n4\n");
  const CommandEnd silent = RunWhileItSpeaks(
      {.arguments = {"/bin/sh", "-c", "echo once; sleep 1000 & wait"}, .environment = environment},
      std::chrono::milliseconds(300));
  EXPECT_TRUE(silent.timed_out);
  EXPECT_EQ(silent.output, "once\n");
  const CommandEnd endless =
      RunWhileItSpeaks({.arguments = {"/bin/sh", "-c", "while :; do echo on and on and on; done"},
                        .environment = environment},
                       std::chrono::milliseconds(300));
  EXPECT_TRUE(endless.timed_out);
  const CommandEnd none =
      RunWhileItSpeaks({.arguments = {"/no/such/program"}, .environment = environment}, kSilence);
  EXPECT_FALSE(none.Succeeded());
}

}  // namespace
}  // namespace hearth
