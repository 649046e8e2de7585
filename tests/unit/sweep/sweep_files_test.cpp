// What a sweep reads and writes: logs that grow, outcomes, tables.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>

#include "kernels/core/error.h"
#include "launcher/sweep_log.h"
#include "launcher/sweep_outcome.h"
#include "launcher/sweep_progress.h"
#include "launcher/sweep_results.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {
namespace {

using testing::HasSubstr;

void Append(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::app | std::ios::binary) << text;
}

std::string ReadText(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

TEST(MetricLogTest, FollowsAFileThatGrowsByPartsOfLines) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "log.jsonl";
  MetricLog log(file, "eval/loss");
  log.Read();
  EXPECT_EQ(log.last_step(), 0);
  Append(file, "{\"step\":0,\"eval/loss\":5.5}\n{\"step\":1,\"train/loss\":5.25}\n{\"st");
  log.Read();
  EXPECT_EQ(log.last_step(), 1);
  ASSERT_EQ(log.curve().size(), 1u);
  Append(file, "ep\":2,\"train/loss\":5.0}\n{\"step\":2,\"eval/loss\":4.5}\n");
  log.Read();
  log.Read();
  EXPECT_EQ(log.last_step(), 2);
  ASSERT_EQ(log.curve().size(), 2u);
  EXPECT_EQ(log.curve()[1].step, 2);
  EXPECT_EQ(log.curve()[1].value, 4.5);
  EXPECT_EQ(ValueAt(log.curve(), 1), 5.5);
  EXPECT_EQ(ValueAt(log.curve(), 7), 4.5);
  EXPECT_FALSE(ValueAt(log.curve(), -1));
}

TEST(MetricLogTest, AFileThatWasCutBackIsReadAnew) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "log.jsonl";
  Append(file, "{\"step\":1,\"train/loss\":3.0}\n{\"step\":2,\"train/loss\":2.0}\n");
  MetricLog log(file, "train/loss");
  log.Read();
  EXPECT_EQ(log.last_step(), 2);
  Append(file.string() + ".cut", "{\"step\":1,\"train/loss\":3.0}\n");
  std::filesystem::rename(file.string() + ".cut", file);
  log.Read();
  EXPECT_EQ(log.last_step(), 1);
  EXPECT_EQ(log.curve().size(), 1u);
  Append(file, "{\"step\":2,\"train/loss\":\"NaN\",\"train/grad_norm\":1.0}\n");
  log.Read();
  ASSERT_EQ(log.curve().size(), 2u);
  EXPECT_TRUE(std::isnan(log.curve()[1].value));
  EXPECT_TRUE(log.is_broken());
}

TEST(MetricLogTest, AGradientThatIsNotFiniteIsBrokenUntilTheNextStep) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "log.jsonl";
  Append(file, "{\"step\":1,\"train/loss\":3.0,\"train/grad_norm\":\"Infinity\"}\nnot a record\n");
  MetricLog log(file, "train/loss");
  log.Read();
  EXPECT_TRUE(log.is_broken());
  Append(file, "{\"step\":1,\"eval/loss\":3.0}\n");
  log.Read();
  EXPECT_TRUE(log.is_broken());
  Append(file, "{\"step\":2,\"train/loss\":3.0,\"train/grad_norm\":1.0}\n");
  log.Read();
  EXPECT_FALSE(log.is_broken());
}

TEST(SweepOutcomeTest, ReadsBackWhatWasWritten) {
  const TemporaryFolder folder;
  EXPECT_FALSE(ReadOutcome(folder.path()));
  WriteOutcome(folder.path(), {.state = RunEndState::kFailed,
                               .step = 12,
                               .exit_code = 4,
                               .message = "a \"message\",\twith signs",
                               .metric = "eval/loss",
                               .value = 0.1});
  WriteOutcome(folder.path(), {.state = RunEndState::kDiverged,
                               .step = 13,
                               .exit_code = 1,
                               .message = "b | c",
                               .metric = "train/loss",
                               .value = std::numeric_limits<double>::infinity()});
  const auto outcome = ReadOutcome(folder.path());
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->state, RunEndState::kDiverged);
  EXPECT_EQ(outcome->step, 13);
  EXPECT_EQ(outcome->exit_code, 1);
  EXPECT_EQ(outcome->message, "b | c");
  EXPECT_EQ(outcome->metric, "train/loss");
  EXPECT_EQ(outcome->value, std::numeric_limits<double>::infinity());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(SweepOutcomeTest, AFileOfOthersIsRefusedByName) {
  const TemporaryFolder folder;
  for (const char* text : {"", "{\"step\":1,\"state\":\"glorious\"}\n", "{\"step\":1"}) {
    std::ofstream(folder.path() / "outcome.json") << text;
    try {
      ReadOutcome(folder.path());
      ADD_FAILURE() << text;
    } catch (const IoError& error) {
      EXPECT_THAT(error.what(), HasSubstr("outcome.json: error: "));
    }
  }
}

ResultTable SmallTable() {
  const auto row = [](const char* id, std::vector<std::string> values, RunEndState state,
                      std::optional<double> value) {
    return ResultRow{.id = id,
                     .values = std::move(values),
                     .outcome = {.state = state,
                                 .step = 7,
                                 .message = state == RunEndState::kFailed ? "bad, \"very\"" : "",
                                 .metric = "eval/loss",
                                 .value = value}};
  };
  return {.title = "s.yaml",
          .metric = "eval/loss",
          .goal = MetricGoal::kMinimize,
          .keys = {"model.name_or_path", "seed"},
          .rows = {row("a", {"x|y", "1"}, RunEndState::kFinished, 2.5),
                   row("b", {"p", "1"}, RunEndState::kFailed, std::nullopt),
                   row("c", {"p", "2"}, RunEndState::kDiverged, std::nan("")),
                   row("d", {"x|y", "2"}, RunEndState::kFinished, 1.5),
                   row("e", {"p", "3"}, RunEndState::kStoppedEarly, 2.0)},
          .runs = 6,
          .removed = {"0123456789abcdef"}};
}

TEST(SweepResultsTest, TheBestComesFirstAndWhatHasNoValueLast) {
  ResultTable table = SmallTable();
  SortRows(&table);
  const auto order = [&] {
    std::string ids;
    for (const ResultRow& row : table.rows) ids += row.id;
    return ids;
  };
  EXPECT_EQ(order(), "deabc");
  table.goal = MetricGoal::kMaximize;
  SortRows(&table);
  EXPECT_EQ(order(), "aedbc");
}

TEST(SweepResultsTest, EachFileHasEveryRun) {
  const TemporaryFolder folder;
  WriteResults(folder.path(), SmallTable());
  EXPECT_EQ(ReadText(folder.path() / "results.csv"),
            "run,state,step,eval/loss,model.name_or_path,seed,message\n"
            "d,finished,7,1.5,x|y,2,\n"
            "e,stopped_early,7,2,p,3,\n"
            "a,finished,7,2.5,x|y,1,\n"
            "b,failed,7,,p,1,\"bad, \"\"very\"\"\"\n"
            "c,diverged,7,nan,p,2,\n");
  const std::string lines = ReadText(folder.path() / "results.jsonl");
  EXPECT_THAT(lines, HasSubstr("{\"step\":7,\"run\":\"d\",\"state\":\"finished\",\"eval/loss\":1.5,"
                               "\"model.name_or_path\":\"x|y\",\"seed\":2}\n"));
  EXPECT_THAT(lines, HasSubstr("\"message\":\"bad, \\\"very\\\"\"}\n"));
  const std::string text = ReadText(folder.path() / "results.md");
  EXPECT_THAT(text, HasSubstr("6 runs: 2 finished, 1 stopped early, 1 diverged, 1 failed, 1 not "
                              "ended. Sorted by eval/loss, lowest first."));
  EXPECT_THAT(text, HasSubstr("| d | 1.5 | 7 | finished | x\\|y | 2 |\n"));
  EXPECT_THAT(text, HasSubstr("no longer has: 0123456789abcdef"));
  // Two finished runs of one configuration: 1.5 and 2.5.
  EXPECT_THAT(text, HasSubstr("| 2 | 0.71 | 2 | x\\|y |\n"));
}

TEST(SweepProgressTest, TimeLeftGoesByThisCallAlone) {
  TimeLeft time;
  time.Update(100, 50, 1000);
  EXPECT_FALSE(time.seconds());
  time.Update(110, 40, 1010);
  ASSERT_TRUE(time.seconds());
  EXPECT_DOUBLE_EQ(*time.seconds(), 40);
}

}  // namespace
}  // namespace hearth::test
