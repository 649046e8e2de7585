// Reports of made-up folders, looked at as pages.
#include "runtime/report/page.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/unit/report/page_reader.h"
#include "tests/unit/report/run_folder.h"

namespace hearth::test {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string ReportOf(const std::vector<std::filesystem::path>& folders) {
  std::vector<RunData> runs;
  for (const auto& folder : folders) runs.push_back(ReadRun(folder, {}));
  return RunReport(runs);
}

// Well-formed, small, and nothing in it is fetched from anywhere.
void ExpectSound(const std::string& html) {
  EXPECT_EQ(FindMarkupMistake(html), "");
  EXPECT_LE(html.size(), 2'000'000u);
  EXPECT_THAT(html, Not(HasSubstr("src=\"")));
  EXPECT_THAT(html, Not(HasSubstr("@import")));
  EXPECT_THAT(Markup(html), Not(HasSubstr("http:")));
  EXPECT_THAT(Markup(html), Not(HasSubstr("https:")));
  EXPECT_NO_THROW(ChartData(html));
}

const nlohmann::json* FindCurve(const nlohmann::json& data, const std::string& metric,
                                int run = 0) {
  for (const auto& chart : data["charts"]) {
    for (const auto& curve : chart["curves"]) {
      if (curve["metric"] == metric && curve["run"] == run) return &curve;
    }
  }
  return nullptr;
}

class ReportTest : public testing::Test {
 protected:
  std::filesystem::path Path(const std::string& name) const { return folder_.path() / name; }

 private:
  TemporaryFolder folder_;
};

TEST_F(ReportTest, HasEverythingThatARunLogged) {
  WriteRun(Path("a"));
  const std::string html = ReportOf({Path("a")});
  ExpectSound(html);
  const std::string text = VisibleText(html);
  for (const char* words : {"my-run",
                            "finished",
                            "2 x NVIDIA H200, 139.8 GiB",
                            "of 20, 1s spent in steps",
                            "Loss",
                            "Learning rate",
                            "Gradient norm",
                            "Throughput",
                            "Speed of light",
                            "50.0 %",
                            "MFU 45.0 %",
                            "Step time",
                            "25.0 ms predicted (+28.0 %)",
                            "forward",
                            "FP8 amax",
                            "FP8 scales repaired",
                            "Power",
                            "Memory of rank 0",
                            "activations",
                            "1.5 KiB",
                            "+2.0 %",
                            "Configuration",
                            "optimizer.learning_rate",
                            "command line",
                            "memory.offload.m",
                            "checkpoints kept: step 20",
                            "lowest 4.25 at step 20"}) {
    EXPECT_THAT(text, HasSubstr(words));
  }
  EXPECT_THAT(text, Not(HasSubstr("Remarks")));
  EXPECT_THAT(text, Not(HasSubstr("Communication")));  // nothing of it was logged
  EXPECT_THAT(text, Not(HasSubstr("Other metrics")));
  const nlohmann::json data = ChartData(html);
  EXPECT_EQ(data["runs"][0]["tokens"], 16 * 64);
  const nlohmann::json* loss = FindCurve(data, "train/loss");
  ASSERT_NE(loss, nullptr);
  ASSERT_EQ((*loss)["y"].size(), 20u);
  EXPECT_EQ((*loss)["y"][9], 4.5);
  EXPECT_EQ(data["grids"][(*loss)["grid"].get<size_t>()]["a"][9], 10);
  EXPECT_EQ(loss->count("lo"), 0u);
}

// What the last steps are planned to take in bf16 counts where it is more than in FP8.
TEST_F(ReportTest, MemoryIsThatOfTheLargerPlan) {
  WriteRun(Path("a"));
  WriteFile(Path("a") / "plan-bf16.yaml",
            "plan_version: 1\nmemory:\n  - {tier: device, pool: bf16 weights, bytes: 1530}\n"
            "  - {tier: host, pool: bf16 batch, bytes: 299}\n");
  const std::string html = ReportOf({Path("a")});
  ExpectSound(html);
  const std::string text = VisibleText(html);
  EXPECT_THAT(text, HasSubstr("+0.0 % of the prediction"));
  EXPECT_THAT(text, HasSubstr("bf16 weights"));
  EXPECT_THAT(text, Not(HasSubstr("bf16 batch")));
}

TEST_F(ReportTest, IsDrawnWithoutAScript) {
  WriteRun(Path("a"));
  const std::string markup = Markup(ReportOf({Path("a")}));
  size_t figures = 0;
  for (size_t at = markup.find("<figure"); at != std::string::npos; ++figures) {
    const size_t end = markup.find("</figure>", at);
    EXPECT_THAT(markup.substr(at, end - at), HasSubstr("<path class=\"line\""));
    at = markup.find("<figure", end);
  }
  EXPECT_EQ(figures, ChartData(ReportOf({Path("a")}))["charts"].size());
}

TEST_F(ReportTest, TextOfFilesIsHarmless) {
  const std::string evil = "</script><script>alert(1)</script>\"'&<blink>";
  FolderText text;
  text.name = evil;
  text.decay = evil;
  WriteRun(Path("a"), text);
  std::string log = LogText(5);
  log += "{\"step\":6,\"</script><img src=x>\":1.5,\"gpu/throttling\":\"<i>hot\"}\n";
  log += "{\"step\":7,\"gpu/throttling\":\"none\",\"bad\xff\":2.5}\n";
  WriteFile(Path("a") / "log.jsonl", log);
  WriteFile(Path("a") / "plan.yaml", "memory:\n  - {tier: <u>, pool: \"<s>&\", bytes: 5}\n");
  WriteFile(Path("a") / "output.txt", "hearth: warning: <em>\x01 \xc3\n");
  WriteFile(Path("b") / "outcome.json",
            "{\"step\":5,\"state\":\"failed\",\"message\":\"<h1>\",\"metric\":\"<h2>\"}\n");
  WriteFile(Path("b") / "resolved.yaml", ResolvedYaml(text));
  for (const auto& folders :
       std::vector<std::vector<std::filesystem::path>>{{Path("a")}, {Path("a"), Path("b")}}) {
    const std::string html = ReportOf(folders);
    ExpectSound(html);
    for (const char* tag :
         {"<blink>", "<img", "<i>", "<u>", "<s>", "<em>", "<h2><", "alert(1)</script>"}) {
      EXPECT_THAT(html, Not(HasSubstr(tag)));
    }
    EXPECT_THAT(html, HasSubstr("&lt;/script&gt;&lt;script&gt;alert(1)"));
    EXPECT_THAT(html, HasSubstr("&lt;em&gt;"));
  }
}

TEST_F(ReportTest, SameFilesSameBytes) {
  WriteRun(Path("a"));
  WriteRun(Path("b"), {.name = "other", .rate = "0.008"});
  EXPECT_EQ(ReportOf({Path("a")}), ReportOf({Path("a")}));
  EXPECT_EQ(ReportOf({Path("a"), Path("b")}), ReportOf({Path("a"), Path("b")}));
  EXPECT_NE(ReportOf({Path("a")}), ReportOf({Path("b")}));
}

TEST_F(ReportTest, TornAndDamagedLinesAreLeftOutAndNamed) {
  WriteRun(Path("a"));
  WriteFile(Path("a") / "log.jsonl", LogText(10, true));
  std::string html = ReportOf({Path("a")});
  ExpectSound(html);
  EXPECT_THAT(VisibleText(html), HasSubstr("log.jsonl ends within a line"));
  EXPECT_THAT(VisibleText(html), HasSubstr("ended before its last step"));
  EXPECT_THAT(VisibleText(html), Not(HasSubstr("999")));

  WriteFile(Path("a") / "log.jsonl",
            "nonsense\n" + LogText(10) + "{\"step\":2,\"train/loss\":1.0}\n");
  html = ReportOf({Path("a")});
  ExpectSound(html);
  EXPECT_THAT(VisibleText(html), HasSubstr("1 lines of log.jsonl are no records"));
  EXPECT_THAT(VisibleText(html), HasSubstr("1 values of log.jsonl go back in steps"));
}

TEST_F(ReportTest, MissingFilesAreNamed) {
  WriteRun(Path("a"));
  std::filesystem::remove(Path("a") / "plan.yaml");
  std::filesystem::remove(Path("a") / "log.jsonl");
  const std::string html = ReportOf({Path("a")});
  ExpectSound(html);
  EXPECT_THAT(VisibleText(html), HasSubstr("log.jsonl is missing"));
  EXPECT_THAT(VisibleText(html), HasSubstr("plan.yaml is missing"));
  EXPECT_THAT(VisibleText(html), HasSubstr("nothing logged yet"));
  EXPECT_THAT(VisibleText(html), HasSubstr("optimizer.learning_rate"));

  WriteFile(Path("b") / "log.jsonl", LogText(3));
  const std::string bare = ReportOf({Path("b")});
  ExpectSound(bare);
  EXPECT_THAT(bare, HasSubstr(">ended<"));  // nobody knows whether that was its last step
  EXPECT_THAT(VisibleText(bare), HasSubstr("resolved.yaml is missing"));
}

TEST_F(ReportTest, FoldersOfNoRunSayWhatToDo) {
  std::filesystem::create_directories(Path("empty"));
  for (const char* name : {"empty", "absent"}) {
    try {
      ReadRun(Path(name), {});
      ADD_FAILURE() << name << " is taken for a run";
    } catch (const ConfigError& error) {
      EXPECT_THAT(error.what(), HasSubstr(": error: "));
      EXPECT_THAT(error.what(), HasSubstr("give the folder of a run"));
    }
  }
}

TEST_F(ReportTest, WhatIsNotFiniteIsTold) {
  WriteRun(Path("a"));
  WriteFile(Path("a") / "log.jsonl",
            LogText(5) + "{\"step\":6,\"train/loss\":\"NaN\",\"train/grad_norm\":\"Infinity\"}\n");
  const std::string html = ReportOf({Path("a")});
  ExpectSound(html);
  EXPECT_THAT(VisibleText(html), HasSubstr("diverged"));
  EXPECT_THAT(VisibleText(html), HasSubstr("train/loss is not finite"));
  const nlohmann::json data = ChartData(html);
  EXPECT_TRUE((*FindCurve(data, "train/loss"))["y"][5].is_null());
  EXPECT_THAT(Markup(html), Not(HasSubstr("nan")));

  WriteFile(Path("a") / "log.jsonl",
            "{\"step\":1,\"train/loss\":-1e308}\n"
            "{\"step\":2,\"train/loss\":1e308}\n"
            "{\"step\":3,\"train/loss\":-1e99}\n"
            "{\"step\":9223372036854775807,\"train/loss\":1e99}\n");
  const std::string huge = Markup(ReportOf({Path("a")}));
  EXPECT_THAT(huge, Not(HasSubstr("nan")));
  EXPECT_THAT(huge, Not(HasSubstr("inf")));
}

TEST_F(ReportTest, RunsAreOverlaidAndTheirDifferencesListed) {
  WriteRun(Path("a"));
  WriteRun(Path("b"), {.name = "other", .rate = "0.008"});
  const std::string html = ReportOf({Path("a"), Path("b")});
  ExpectSound(html);
  const nlohmann::json data = ChartData(html);
  for (int run : {0, 1}) EXPECT_NE(FindCurve(data, "train/loss", run), nullptr);
  for (const auto& chart : data["charts"]) EXPECT_EQ(chart["curves"].size(), 2u) << chart["title"];
  const size_t begin = html.find("<section id=\"configuration-differences\">");
  ASSERT_NE(begin, std::string::npos);
  const std::string section = html.substr(begin, html.find("</section>", begin) - begin);
  EXPECT_THAT(section, HasSubstr("optimizer.learning_rate"));
  EXPECT_THAT(section, HasSubstr("0.008"));
  EXPECT_THAT(VisibleText(html), HasSubstr("2 x NVIDIA H200"));
  EXPECT_THAT(section, Not(HasSubstr("weight_decay")));
  EXPECT_THAT(section, Not(HasSubstr("run_name")));
}

// A long log keeps every extreme, whatever the number of its steps.
TEST_F(ReportTest, LongRunsStaySmallAndHonest) {
  constexpr int kSteps = 100'000;
  std::string log;
  std::vector<double> losses;
  for (int step = 1; step <= kSteps; ++step) {
    const double loss =
        8.0 / std::sqrt(step) + 0.25 * ((step * 7919) % 1000) / 1000 + (step == 54321 ? 40.0 : 0.0);
    losses.push_back(loss);
    log +=
        fmt::format("{{\"step\":{},\"train/loss\":{},\"train/grad_norm\":{},\"mem/device\":{}}}\n",
                    step, loss, 1 + step % 17, 1000 + step);
  }
  WriteRun(Path("a"), {.max_steps = kSteps});
  WriteFile(Path("a") / "log.jsonl", log);
  const std::string html = ReportOf({Path("a")});
  ExpectSound(html);
  EXPECT_LT(html.size(), 600'000u);
  const nlohmann::json data = ChartData(html);
  const nlohmann::json& curve = *FindCurve(data, "train/loss");
  const nlohmann::json& grid = data["grids"][curve["grid"].get<size_t>()];
  ASSERT_EQ(grid["a"].size(), curve["y"].size());
  int next = 1;
  for (size_t i = 0; i < curve["y"].size(); ++i) {
    const int first = grid["a"][i];
    const int last = grid["b"][i];
    ASSERT_EQ(first, next);
    next = last + 1;
    const auto begin = losses.begin() + first - 1;
    const auto end = losses.begin() + last;
    double sum = 0;
    for (auto value = begin; value != end; ++value) sum += *value;
    const auto is_near = [](double found, double expected) {
      return std::abs(found - expected) <= 1e-5 * std::abs(expected);
    };
    ASSERT_TRUE(is_near(curve["lo"][i], *std::min_element(begin, end))) << first;
    ASSERT_TRUE(is_near(curve["hi"][i], *std::max_element(begin, end))) << first;
    ASSERT_TRUE(is_near(curve["y"][i], sum / (last - first + 1))) << first;
  }
  EXPECT_EQ(next, kSteps + 1);
}

// More of everything than any run of ours has.
TEST_F(ReportTest, NoInputMakesALargePage) {
  std::string record = "{\"step\":STEP";
  for (int i = 0; i < 600; ++i) {
    record += fmt::format(",\"{}/metric-with-a-long-name-{}\":{}.5",
                          i % 2 == 0 ? "fp8/amax" : "other", i, i);
  }
  std::string log;
  for (int step = 1; step <= 30; ++step) {
    log += fmt::format("{{\"step\":{}{},\"gpu/throttling\":\"{}\"}}\n", step,
                       record.substr(record.find(',')),
                       std::string(2000, static_cast<char>('a' + step % 26)));
  }
  std::string resolved = "# 1 x CPU\nmodel:\n";
  for (int i = 0; i < 5000; ++i) {
    resolved += fmt::format("  key{}: {}  # {}\n", i, std::string(900, '&'), std::string(900, '<'));
  }
  std::vector<std::filesystem::path> folders;
  for (int i = 0; i < 12; ++i) {
    folders.push_back(Path(fmt::format("run{}", i)));
    WriteFile(folders.back() / "log.jsonl", log);
    WriteFile(folders.back() / "resolved.yaml", fmt::format("# {}\n{}", i, resolved));
  }
  ExpectSound(ReportOf({folders[0]}));
  ExpectSound(ReportOf(folders));
}

std::string Outcome(const char* state, double value, const char* message = "") {
  return fmt::format(
      "{{\"step\":20,\"state\":\"{}\",\"exit_code\":0,\"message\":\"{}\",\"metric\":\"eval/loss\","
      "\"value\":{}}}",
      state, message, value);
}

class SweepReportTest : public ReportTest {
 protected:
  // Twelve runs: rates in rising order, two values of the decay; the best has rate 0.003.
  void WriteSweep() {
    for (int i = 0; i < 12; ++i) {
      const int rate = i / 2 + 1;
      const double loss = 2 + 0.1 * std::abs(rate - 3) + 0.01 * (i % 2);
      WriteSweepRun(
          Path("s"), Id(i),
          {.name = Id(i), .rate = fmt::format("0.00{}", rate), .decay = i % 2 ? "0.1" : "0.0"},
          Outcome("finished", loss));
    }
  }
  static std::string Id(int i) { return fmt::format("{:016x}", 0xabc000 + (i * 5) % 12); }

  SweepData Read() const { return ReadSweep(Path("s"), "", {}, kMostReportCurves); }
  static std::vector<double> Values(const SweepData& sweep) {
    std::vector<double> values;
    for (const SweepRunData& run : sweep.runs) values.push_back(run.value.value_or(-1));
    return values;
  }
};

TEST_F(SweepReportTest, SortsByTheMetricAndShowsItOverEachParameter) {
  WriteSweep();
  const SweepData sweep = Read();
  ASSERT_EQ(sweep.runs.size(), 12u);
  const std::vector<double> values = Values(sweep);
  EXPECT_TRUE(std::is_sorted(values.begin(), values.end()));
  EXPECT_THAT(sweep.keys,
              testing::ElementsAre("optimizer.learning_rate", "optimizer.weight_decay"));
  const std::string html = SweepReport(sweep);
  ExpectSound(html);
  EXPECT_EQ(html, SweepReport(Read()));
  const std::string text = VisibleText(html);
  EXPECT_THAT(text, HasSubstr("12 finished"));
  EXPECT_THAT(text, HasSubstr("learning_rate 0.003"));
  // In the table the ids come in the order of their losses.
  size_t at = html.find("class=\"runs\"");
  for (const SweepRunData& run : sweep.runs) {
    const size_t next = html.find(">" + run.run.name + "<", at);
    ASSERT_NE(next, std::string::npos) << run.run.name;
    EXPECT_GT(next, at);
    at = next;
  }
  for (const char* key : {"over learning_rate", "over weight_decay"})
    EXPECT_THAT(text, HasSubstr(key));
  size_t dots = 0;
  for (size_t i = html.find("data-tip="); i != std::string::npos; i = html.find("data-tip=", i + 1))
    ++dots;
  EXPECT_EQ(dots, 24u);
  EXPECT_EQ(ChartData(html)["runs"].size(), 12u);
}

TEST_F(SweepReportTest, TheGoalComesFromTheSweepsFile) {
  WriteSweep();
  WriteFile(Path("s") / "sweep.yaml",
            "base: run.yaml\nparameters: {learning_rate: {values: [1, 2]}}\n"
            "metric: {name: train/mfu, goal: maximize}\n");
  const SweepData sweep = Read();
  EXPECT_EQ(sweep.metric, "train/mfu");
  EXPECT_FALSE(sweep.minimize);
  EXPECT_EQ(sweep.runs[0].value, 0.45);  // from the logs: the outcomes know another metric
  EXPECT_THAT(VisibleText(SweepReport(sweep)), HasSubstr("highest first"));
}

TEST_F(SweepReportTest, RunsWithoutAValueComeLastWithTheirReasons) {
  WriteSweep();
  WriteSweepRun(
      Path("s"), "00000000000000aa", {.name = "x", .rate = "0.009"},
      "{\"step\":3,\"state\":\"failed\",\"message\":\"rank 1 died\",\"metric\":\"eval/loss\"}");
  WriteFile(Path("s") / "00000000000000bb" / "run.yaml", ResolvedYaml({.rate = "0.010"}));
  WriteSweepRun(Path("s"), "00000000000000cc", {.name = "y"},
                Outcome("stopped_early", 1.5, "worse"));
  const SweepData sweep = Read();
  ASSERT_EQ(sweep.runs.size(), 15u);
  EXPECT_EQ(sweep.runs[0].run.state, RunState::kStoppedEarly);
  EXPECT_FALSE(sweep.runs[13].value || sweep.runs[14].value);
  const std::string html = SweepReport(sweep);
  ExpectSound(html);
  const std::string text = VisibleText(html);
  for (const char* words :
       {"12 finished", "1 stopped early", "1 failed", "rank 1 died", "nothing logged yet"}) {
    EXPECT_THAT(text, HasSubstr(words));
  }
}

TEST_F(SweepReportTest, RunsThatTheSweepHasNoLongerAreLeftOut) {
  WriteSweep();
  std::string results;
  for (int i = 0; i < 11; ++i) results += fmt::format("{{\"step\":20,\"run\":\"{}\"}}\n", Id(i));
  WriteFile(Path("s") / "results.jsonl", results);
  const SweepData sweep = Read();
  EXPECT_EQ(sweep.runs.size(), 11u);
  for (const SweepRunData& run : sweep.runs) EXPECT_NE(run.run.name, Id(11));
  EXPECT_THAT(VisibleText(SweepReport(sweep)), HasSubstr("1 runs in the folder are no longer"));
}

TEST_F(SweepReportTest, ManyRunsStaySmall) {
  for (int i = 0; i < 600; ++i) {
    WriteSweepRun(Path("s"), fmt::format("{:016x}", i), {.rate = fmt::format("{}", 1 + i)},
                  Outcome("finished", 3 + 0.001 * i));
  }
  const SweepData sweep = Read();
  const std::string html = SweepReport(sweep);
  ExpectSound(html);
  EXPECT_EQ(ChartData(html)["runs"].size(), 40u);
  EXPECT_THAT(VisibleText(html), HasSubstr("600 runs"));
  EXPECT_THAT(VisibleText(html), HasSubstr("further runs are in results.csv"));
}

}  // namespace
}  // namespace hearth::test
