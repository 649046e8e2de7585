// `hearth report` from outside: of runs that hearth itself made, in every state.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/program.h"

namespace hearth::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// The curve of a metric in the page's numbers.
nlohmann::json CurveOf(const std::string& html, const std::string& metric) {
  const std::string begin = "id=\"data\">";
  const size_t from = html.find(begin) + begin.size();
  const auto data = nlohmann::json::parse(html.substr(from, html.find("</script>", from) - from));
  for (const auto& chart : data["charts"]) {
    for (const auto& curve : chart["curves"]) {
      if (curve["metric"] == metric) return curve["y"];
    }
  }
  return nullptr;
}

// What the log says of a metric, in its order.
std::vector<double> Logged(const std::string& log, const std::string& metric) {
  std::vector<double> values;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record.contains(metric)) values.push_back(record[metric]);
  }
  return values;
}

TEST(ReportCommandTest, ShowsARunWhileItRunsAndAfterwards) {
  const Workplace workplace;
  WriteTinyRun(workplace, 6);
  ASSERT_EQ(workplace.Run({"train", "run.yaml"}).exit_code, 0) << workplace.Errors();
  ProgramResult result = workplace.Run({"report", "runs/run", "--out", "page.html"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const std::string html = workplace.Read("page.html");
  for (const char* words : {">finished<", "CPU", "Loss", "Memory of rank 0", "training.max_steps",
                            "run.yaml:5", "checkpoints kept: step 6", "started, "}) {
    EXPECT_THAT(html, HasSubstr(words));
  }
  EXPECT_THAT(html, Not(HasSubstr("<h2>Remarks")));
  const std::vector<double> losses = Logged(workplace.Read("runs/run/log.jsonl"), "train/loss");
  const nlohmann::json curve = CurveOf(html, "train/loss");
  ASSERT_EQ(losses.size(), 6u);
  ASSERT_EQ(curve.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_FALSE(!(std::abs(curve[i].get<double>() - losses[i]) <= 1e-5 * losses[i]));
  }

  // By its file the same page, and another one while somebody holds the run's lock.
  result = workplace.Run({"report", "run.yaml", "--out", "again.html"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(workplace.Read("again.html"), html);
  const std::vector<std::string> before = workplace.Content();
  const int lock = open((workplace.folder() / "runs/run/.lock").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(lock, LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(workplace.Run({"report", "runs/run", "--out", "again.html"}).exit_code, 0);
  close(lock);
  EXPECT_THAT(workplace.Read("again.html"), HasSubstr(">running<"));
  EXPECT_EQ(workplace.Content(), before);
}

// Its terminal is gone by then.
TEST(ReportCommandTest, ShowsWhatARunWarnedOf) {
  const Workplace workplace;
  WriteTinyRun(workplace, 2);
  // Of a try that left nothing to go on from.
  std::filesystem::create_directories(workplace.folder() / "runs/run");
  workplace.Write("runs/run/messages.txt", "2026-03-01T12:00:05Z warning: of another time\n");
  ASSERT_EQ(workplace.Run({"train", "run.yaml"}).exit_code, 0) << workplace.Errors();
  EXPECT_FALSE(workplace.Exists("runs/run/messages.txt"));
  workplace.Write("runs/run/messages.txt", "2026-03-01T12:00:05Z warning: of the first steps\n");
  const ProgramResult again =
      workplace.Run({"train", "run.yaml", "--max-steps", "4", "--compute-dtype", "bf16"});
  ASSERT_EQ(again.exit_code, 0) << again.errors;
  EXPECT_THAT(again.errors, HasSubstr("\nhearth: warning: "));
  EXPECT_THAT(workplace.Read("runs/run/messages.txt"), HasSubstr("Z going on from "));
  EXPECT_THAT(workplace.Read("runs/run/messages.txt"), HasSubstr("of the first steps"));
  ASSERT_EQ(workplace.Run({"report", "runs/run", "--out", "page.html"}).exit_code, 0);
  const std::string html = workplace.Read("page.html");
  EXPECT_THAT(html, HasSubstr("warning: "));
  EXPECT_THAT(html, HasSubstr("compute_dtype"));
  EXPECT_THAT(html, HasSubstr(" UTC"));
}

TEST(ReportCommandTest, ComparesTheRunsOfASweep) {
  const Workplace workplace;
  WriteTinyRun(workplace, 3);
  workplace.Write("sweep.yaml",
                  "base: run.yaml\nparameters: {learning_rate: {values: [1.0e-3, 1.0e-2]}}\n"
                  "metric: {name: train/grad_norm, goal: maximize}\n");
  ASSERT_EQ(workplace.Run({"sweep", "sweep.yaml"}).exit_code, 0) << workplace.Errors();
  EXPECT_EQ(workplace.Read("runs/sweep/sweep.yaml"), workplace.Read("sweep.yaml"));
  for (const char* name : {"sweep.yaml", "runs/sweep"}) {
    const ProgramResult result = workplace.Run({"report", name, "--out", "page.html"});
    ASSERT_EQ(result.exit_code, 0) << result.errors;
    const std::string html = workplace.Read("page.html");
    EXPECT_THAT(html, HasSubstr("2 runs: 2 finished"));
    EXPECT_THAT(html, HasSubstr("<code>train/grad_norm</code>, highest first"));
    EXPECT_THAT(html, HasSubstr("over learning_rate"));
    // The table has the order of results.csv, whose first column are the ids.
    const std::string table = workplace.Read("runs/sweep/results.csv");
    const size_t line = table.find('\n') + 1;
    const size_t first = html.find("<bdi>" + table.substr(line, 16));
    const size_t second = html.find("<bdi>" + table.substr(table.find('\n', line) + 1, 16));
    ASSERT_NE(second, std::string::npos);
    EXPECT_LT(first, second);
  }
}

TEST(ReportCommandTest, RefusalsNameTheRemedy) {
  const Workplace workplace;
  std::filesystem::create_directories(workplace.folder() / "empty");
  struct Case {
    std::vector<std::string> arguments;
    std::string message;
  };
  const std::vector<Case> cases = {
      {{"report", "absent", "--out", "a.html"}, "absent: error: there is no such folder; give"},
      {{"report", "empty", "--out", "a.html"}, "empty: error: neither log.jsonl nor resolved.yaml"},
      {{"report", "empty"}, "command line: error: the option '--out' is required"},
      {{"report", "--out", "a.html"}, "RUN... | SWEEP is missing"},
      {{"report", "empty", "--out", "a.txt"}, "end it in .html"},
      {{"report", "absent.yaml", "--out", "a.html"}, "absent.yaml: error: "}};
  for (const Case& each : cases) {
    const ProgramResult result = workplace.Run(each.arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.errors, HasSubstr(each.message));
    EXPECT_EQ(std::count(result.errors.begin(), result.errors.end(), '\n'), 1) << result.errors;
  }
  EXPECT_FALSE(workplace.Exists("a.html"));
}

}  // namespace
}  // namespace hearth::test
