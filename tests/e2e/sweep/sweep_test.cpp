// `hearth sweep` from outside.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/e2e/sweep/sweep_workplace.h"

namespace hearth::test {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr const char* kRunEnd = "The run lies in";  // the last words of `hearth train`

std::string Rates(const std::string& values) {
  return "parameters: {optimizer.learning_rate: {values: [" + values + "]}}\n";
}

constexpr const char* kEight = "1.0e-3, 2.0e-3, 3.0e-3, 4.0e-3, 5.0e-3, 6.0e-3, 7.0e-3, 8.0e-3";
// The second is replaced by another, and the order has changed.
constexpr const char* kEightEdited =
    "9.0e-3, 1.0e-3, 3.0e-3, 4.0e-3, 5.0e-3, 6.0e-3, 7.0e-3, 8.0e-3";

// What tells that a file was written again: any writer gives it another of these.
struct FileState {
  ino_t inode = 0;
  int64_t modified_ns = 0;
  off_t size = 0;
  bool operator==(const FileState&) const = default;
};

FileState StateOf(const std::filesystem::path& file) {
  struct stat status {};
  if (stat(file.c_str(), &status) != 0) return {};
  return {.inode = status.st_ino,
          .modified_ns = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec,
          .size = status.st_size};
}

// A sweep that is killed, edited and gone on with; remembers what had ended.
class KilledSweep {
 public:
  KilledSweep(int64_t steps, int64_t save_steps) : steps_(steps), workplace_(steps, save_steps) {}

  SweepWorkplace& workplace() { return workplace_; }

  // Kills the sweep once `ended` runs have an outcome and another one is past `step`.
  void RunAndKill(int64_t ended, int64_t step) {
    workplace_.Start();
    const auto in_the_middle = [&] {
      const std::vector<RunProgress> runs = workplace_.Runs();
      const auto is_between = [&](const RunProgress& run) {
        return !run.ended && run.last_step >= step && run.last_step < steps_;
      };
      return workplace_.CountEnded() >= ended && std::any_of(runs.begin(), runs.end(), is_between);
    };
    ASSERT_TRUE(workplace_.Eventually(in_the_middle)) << workplace_.Output();
    workplace_.Signal(SIGKILL);
    EXPECT_EQ(workplace_.Await().exit_code, 128 + SIGKILL);
    EXPECT_TRUE(workplace_.AwaitNothingLeft());
    CheckEnded();
    for (const RunProgress& run : workplace_.Runs()) {
      if (run.ended) {
        RememberFiles(run.id);
      } else if (run.last_step >= step) {
        interrupted_.insert(run.id);
      }
    }
  }

  // Runs that had ended before were not touched since.
  void CheckEnded() const {
    for (const auto& [file, state] : ended_files_) {
      EXPECT_EQ(StateOf(file), state) << file << " was written again";
    }
  }
  int64_t CountInterrupted() const { return std::ssize(interrupted_); }
  int64_t CountRemembered() const { return std::ssize(ended_files_) / 3; }

  // Every step of the run was made, the log has it once, and the run came to its end. Where it was
  // interrupted late enough it went on from a checkpoint. A finished run is started again, and has
  // nothing to do, when the sweep was killed before it noted the end.
  void CheckWhole(const std::string& id) const {
    const std::string folder = "out/" + id;
    std::vector<int64_t> all(static_cast<size_t>(steps_));
    std::iota(all.begin(), all.end(), 1);
    EXPECT_EQ(TrainedSteps(workplace_.Read(folder + "/log.jsonl")), all) << id;
    const std::string output = workplace_.Read(folder + "/output.txt");
    EXPECT_GE(Count(output, kRunEnd), 1) << id;
    EXPECT_GE(Count(output, "going on from"), static_cast<int64_t>(interrupted_.count(id))) << id;
    EXPECT_TRUE(
        std::filesystem::exists(workplace_.path(folder + "/checkpoint-" + std::to_string(steps_))));
  }

 private:
  void RememberFiles(const std::string& id) {
    for (const char* name : {"log.jsonl", "outcome.json", "output.txt"}) {
      const auto file = workplace_.path("out/" + id + "/" + name);
      ended_files_.emplace(file, StateOf(file));
    }
  }

  int64_t steps_;
  SweepWorkplace workplace_;
  std::map<std::filesystem::path, FileState> ended_files_;
  std::set<std::string> interrupted_;  // behind their first checkpoint
};

TEST(SweepTest, EightRunsKilledTwiceAndEditedOnceAreEachDoneOnce) {
  constexpr int64_t kSteps = 200;
  KilledSweep killed(kSteps, 20);
  SweepWorkplace& workplace = killed.workplace();
  workplace.WriteSweep(Rates(kEight));
  killed.RunAndKill(2, 60);
  workplace.WriteSweep(Rates(kEightEdited));
  killed.RunAndKill(4, 60);
  ASSERT_FALSE(HasFailure()) << workplace.Output();
  EXPECT_GE(killed.CountRemembered(), 4);
  EXPECT_GE(killed.CountInterrupted(), 1);

  const SweepResult end = workplace.Run();
  ASSERT_EQ(end.exit_code, 0) << end.output;
  killed.CheckEnded();
  const std::string results = workplace.Read("out/results.jsonl");
  EXPECT_EQ(Count(results, "\n"), 8) << results;
  EXPECT_EQ(Count(results, "\"state\":\"finished\""), 8) << results;
  // The run that the edit removed stays, and is not in the tables.
  const std::vector<RunProgress> runs = workplace.Runs();
  EXPECT_EQ(runs.size(), 9u);
  int64_t in_table = 0;
  for (const RunProgress& run : runs) {
    if (results.find(run.id) == std::string::npos) {
      EXPECT_THAT(workplace.Read("out/results.md"), HasSubstr("no longer has: " + run.id));
      continue;
    }
    ++in_table;
    killed.CheckWhole(run.id);
  }
  EXPECT_EQ(in_table, 8);
  EXPECT_THAT(results, Not(HasSubstr("\"optimizer.learning_rate\":0.002")));

  // Called once more, it does nothing.
  const std::vector<std::string> content = workplace.Content();
  const SweepResult again = workplace.Run();
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_THAT(again.output, Not(HasSubstr("starts")));
  EXPECT_EQ(workplace.Content(), content);
  killed.CheckEnded();

  // The same sweep without any of that gives the same table, to the last bit.
  SweepWorkplace whole(kSteps, 20);
  std::filesystem::copy_file(workplace.path("base.yaml"), whole.path("base.yaml"),
                             std::filesystem::copy_options::overwrite_existing);
  whole.WriteSweep(Rates(kEightEdited));
  ASSERT_EQ(whole.Run().exit_code, 0) << whole.Output();
  EXPECT_EQ(whole.Read("out/results.jsonl"), results);
}

TEST(SweepTest, ADryRunListsTheRunsAndCreatesNothing) {
  SweepWorkplace workplace(20, 10);
  workplace.WriteSweep(
      "parameters:\n  learning_rate: {values: [0.001, 0.002]}\n  global_batch_size: {values: [2, "
      "4]}\nexclude: [{learning_rate: 0.002, global_batch_size: 2}]\n");
  workplace.Write("terminal", "");
  const std::vector<std::string> before = workplace.Content();
  const SweepResult result = workplace.Run({"--dry-run"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_EQ(workplace.Content(), before);
  EXPECT_THAT(result.output, HasSubstr("3 runs"));
  EXPECT_THAT(result.output, HasSubstr("1 combinations excluded"));
  EXPECT_EQ(Count(result.output, "to run"), 3) << result.output;
  EXPECT_THAT(result.output, testing::ContainsRegex("learning_rate +global_batch_size\n"));
}

TEST(SweepTest, ARefusedSweepCreatesNothing) {
  SweepWorkplace workplace(20, 10);
  workplace.Write("terminal", "");
  const std::string file = workplace.path("sweep.yaml").string();
  struct Case {
    std::string text;
    std::string error;
  };
  for (const Case& each : std::vector<Case>{
           {"parameters: {learning_rat: {values: [1]}}\n", ":3:14: error: a run has no key"},
           {"parameters: {sequence_len: {values: [16, 999]}}\n", "(in the run sequence_len 999)"},
           {"seeds: [1, -1]\n", ":3:12: error: seed: -1"},
           {"schedule: {gpus_per_run: 1}\nparameters: {device: {values: [cpu]}}\n",
            ":3:26: error: schedule.gpus_per_run"},
           {"parameters: {data.eval_datasets: {values: [[]]}}\n", ": error: eval/loss"},
       }) {
    workplace.WriteSweep(each.text);
    const std::vector<std::string> before = workplace.Content();
    const SweepResult result = workplace.Run();
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_THAT(result.output, StartsWith(file + ":")) << each.text;
    EXPECT_THAT(result.output, HasSubstr(each.error));
    EXPECT_EQ(Count(result.output, "\n"), 1) << result.output;
    EXPECT_EQ(workplace.Content(), before);
  }
}

TEST(SweepTest, AStopSignalSavesAndTheNextCallGoesOn) {
  constexpr int64_t kSteps = 1500;
  SweepWorkplace workplace(kSteps, 0);
  workplace.WriteSweep(Rates("1.0e-3, 2.0e-3"));
  workplace.Start();
  const auto under_way = [&] {
    const std::vector<RunProgress> runs = workplace.Runs();
    return runs.size() == 2 && runs[0].last_step > 10 && runs[1].last_step > 10;
  };
  ASSERT_TRUE(workplace.Eventually(under_way)) << workplace.Output();
  workplace.Signal(SIGINT);
  const SweepResult stopped = workplace.Await();
  EXPECT_EQ(stopped.exit_code, 0) << stopped.output;
  EXPECT_TRUE(workplace.AwaitNothingLeft());
  EXPECT_EQ(workplace.CountEnded(), 0) << stopped.output;
  std::map<std::string, int64_t> saved;
  for (const RunProgress& run : workplace.Runs()) {
    saved[run.id] = run.last_step;
    EXPECT_TRUE(std::filesystem::exists(
        workplace.path("out/" + run.id + "/checkpoint-" + std::to_string(run.last_step))));
  }
  const SweepResult end = workplace.Run();
  EXPECT_EQ(end.exit_code, 0) << end.output;
  for (const RunProgress& run : workplace.Runs()) {
    EXPECT_EQ(run.last_step, kSteps);
    EXPECT_TRUE(run.ended);
    EXPECT_THAT(workplace.Read("out/" + run.id + "/output.txt"),
                HasSubstr("/checkpoint-" + std::to_string(saved[run.id]) + "\n"));
  }
}

TEST(SweepTest, ASecondSweepOfAFolderIsRefused) {
  SweepWorkplace workplace(100'000, 0);
  workplace.WriteSweep(Rates("1.0e-3"));
  workplace.Start();
  ASSERT_TRUE(workplace.Eventually([&] { return !workplace.Runs().empty(); }));
  const std::string second = std::string(HEARTH_BINARY) + " sweep " +
                             workplace.path("sweep.yaml").string() + " > " +
                             workplace.path("second").string() + " 2>&1";
  const int status = system(second.c_str());
  EXPECT_EQ(WEXITSTATUS(status), 2);
  EXPECT_THAT(workplace.Read("second"), HasSubstr("in use by process "));
  workplace.Signal(SIGTERM);
  EXPECT_EQ(workplace.Await().exit_code, 0) << workplace.Output();
}

TEST(SweepTest, AFailedRunStopsNoOtherAndIsTriedAgainByTheNextCall) {
  SweepWorkplace workplace(20, 10);
  // One run cannot write its resolved.yaml.
  workplace.WriteSweep(Rates("1.0e-3, 2.0e-3") + "schedule: {retries: 1}\n");
  const SweepResult dry = workplace.Run({"--dry-run"});
  const size_t line = dry.output.find("0.001");
  const std::string id = dry.output.substr(dry.output.rfind('\n', line) + 1, 16);
  const auto obstacle = workplace.path("out/" + id + "/resolved.yaml");
  std::filesystem::create_directories(obstacle);
  const SweepResult result = workplace.Run();
  EXPECT_EQ(result.exit_code, 1) << result.output;
  const std::string results = workplace.Read("out/results.jsonl");
  EXPECT_EQ(Count(results, "\"state\":\"finished\""), 1) << results;
  EXPECT_EQ(Count(results, "\"run\":\"" + id + "\",\"state\":\"failed\""), 1) << results;
  EXPECT_THAT(result.output, HasSubstr("tried again (1 of 1)"));
  std::filesystem::remove_all(obstacle);
  const SweepResult again = workplace.Run();
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_EQ(Count(workplace.Read("out/results.jsonl"), "\"state\":\"finished\""), 2);
}

TEST(SweepTest, ADivergedRunIsAResult) {
  SweepWorkplace workplace(60, 0);
  workplace.WriteSweep(Rates("1.0e-3, 1000"));
  const SweepResult result = workplace.Run();
  EXPECT_EQ(result.exit_code, 0) << result.output;
  const std::string results = workplace.Read("out/results.jsonl");
  EXPECT_EQ(Count(results, "\"state\":\"finished\""), 1) << results;
  EXPECT_EQ(Count(results, "\"state\":\"diverged\""), 1) << results;
  EXPECT_THAT(workplace.Run().output, Not(HasSubstr("starts")));
}

// A run that would take long and learns nothing.
constexpr const char* kHopeless = "  - {learning_rate: 1.0e-9, max_steps: 100000}\n";

// What the table says of the hopeless run, the others having finished.
std::string StoppedEarly(const SweepWorkplace& workplace, int64_t finished) {
  const std::string results = workplace.Read("out/results.jsonl");
  EXPECT_EQ(Count(results, "\"state\":\"finished\""), finished) << results;
  EXPECT_EQ(Count(results, "\"state\":\"stopped_early\""), 1) << results;
  const size_t at = results.find("stopped_early");
  const size_t begin = results.rfind('\n', at) + 1;
  return results.substr(begin, results.find('\n', at) - begin);
}

void ExpectSaved(const SweepWorkplace& workplace) {
  for (const RunProgress& run : workplace.Runs()) {
    EXPECT_GE(run.last_step, 100);
    EXPECT_TRUE(std::filesystem::exists(
        workplace.path("out/" + run.id + "/checkpoint-" + std::to_string(run.last_step))));
  }
}

TEST(SweepTest, ARunWorseThanTheThresholdIsStoppedSavedAndMarked) {
  SweepWorkplace workplace(100, 0);
  workplace.WriteSweep(std::string("method: list\nparameters:\n  - {learning_rate: 3.0e-3}\n") +
                       kHopeless +
                       "early_terminate: {type: threshold, threshold: 4.5, min_steps: 100, every: "
                       "50}\n");
  const SweepResult result = workplace.Run();
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(StoppedEarly(workplace, 1), HasSubstr("at step 100 is worse than the threshold 4.5"));
  ExpectSaved(workplace);
  const std::vector<std::string> content = workplace.Content();
  EXPECT_EQ(workplace.Run().exit_code, 0);
  EXPECT_EQ(workplace.Content(), content);
}

TEST(SweepTest, ARunWorseThanTheMedianOfEarlierOnesIsStopped) {
  SweepWorkplace workplace(100, 0);
  const std::string three =
      "early_terminate: {type: median, every: 100}\nmethod: list\nparameters:\n"
      "  - {learning_rate: 1.0e-3}\n  - {learning_rate: 2.0e-3}\n  - {learning_rate: 3.0e-3}\n";
  workplace.WriteSweep(three);
  ASSERT_EQ(workplace.Run().exit_code, 0) << workplace.Output();
  workplace.WriteSweep(three + kHopeless);
  EXPECT_EQ(workplace.Run().exit_code, 0) << workplace.Output();
  EXPECT_THAT(StoppedEarly(workplace, 3), HasSubstr("the median of 3 other runs"));
  ExpectSaved(workplace);
}

// Kills at any moment, many times, with an edit now and then.
TEST(LongSweepTest, EightRunsKilledAtAnyMomentAreEachDoneOnce) {
  for (unsigned seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    SweepWorkplace workplace(120, 10);
    std::mt19937 random(seed);
    for (int kill = 0; kill < 15; ++kill) {
      workplace.WriteSweep(Rates(kill % 2 == 0 ? kEight : kEightEdited));
      workplace.Start();
      usleep(static_cast<useconds_t>(random() % 1'500'000));
      workplace.Signal(SIGKILL);
      workplace.Await();
    }
    workplace.WriteSweep(Rates(kEightEdited));
    const SweepResult end = workplace.Run();
    ASSERT_EQ(end.exit_code, 0) << end.output;
    const std::string results = workplace.Read("out/results.jsonl");
    EXPECT_EQ(Count(results, "\"state\":\"finished\""), 8) << results;
    for (const RunProgress& run : workplace.Runs()) {
      if (results.find(run.id) == std::string::npos) continue;
      const std::vector<int64_t> steps =
          TrainedSteps(workplace.Read("out/" + run.id + "/log.jsonl"));
      ASSERT_EQ(steps.size(), 120u) << run.id;
      for (size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i], static_cast<int64_t>(i) + 1);
    }
    EXPECT_TRUE(workplace.AwaitNothingLeft());
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace hearth::test
