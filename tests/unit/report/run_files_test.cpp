#include "runtime/report/run_files.h"

#include <gtest/gtest.h>

#include "runtime/report/chart_axis.h"
#include "runtime/report/html_text.h"
#include "runtime/telemetry/tensorboard_log.h"
#include "tests/support/temporary_folder.h"
#include "tests/unit/report/run_folder.h"

namespace hearth::test {
namespace {

TEST(RunFilesTest, ReadsNestedKeysWithTheirOrigins) {
  const ResolvedText text = ReadResolvedText(ResolvedYaml({.decay = "\"a # b\""}));
  EXPECT_EQ(text.machine, "2 x NVIDIA H200, 139.8 GiB");
  ASSERT_EQ(text.leaves.size(), 9u);
  EXPECT_EQ(text.leaves[3].path, "model.name_or_path");
  EXPECT_EQ(text.leaves[3].value, "configs/models/tiny.yaml");
  EXPECT_EQ(text.leaves[3].origin, "run.yaml:2");
  EXPECT_EQ(text.leaves[6].value, "\"a # b\"");
  EXPECT_EQ(text.leaves[8].path, "memory.offload.m");
}

TEST(RunFilesTest, TheMachineMayBeSharedByRanks) {
  EXPECT_EQ(ReadResolvedText("# 2 ranks on 1 x NVIDIA H200, 139.8 GiB\nseed: 1\n").machine,
            "2 ranks on 1 x NVIDIA H200, 139.8 GiB");
}

TEST(RunFilesTest, ReadsAnythingWithoutComplaint) {
  for (const char* text :
       {"", "\n\n", ":", "  :", "a:\n      b: c\n", "#", "# \n", "a:b", "\xff: \xfe\n"}) {
    ReadResolvedText(text);
    ReadPlanText(text);
  }
  EXPECT_FALSE(ReadPlanText("a: [").is_plan);
  EXPECT_TRUE(ReadPlanText(kPlanYaml).is_plan);
  EXPECT_EQ(ReadPlanText(kPlanYaml).pools.size(), 3u);
}

TEST(RunFilesTest, StartsAreReadFromTheEventFiles) {
  const TemporaryFolder folder;
  const auto event = [](double time) { return FrameTfRecord(EncodeVersionEvent(time)); };
  WriteFile(folder.path() / "tb" / "events.out.tfevents.1.a", event(1772366405.5));
  WriteFile(folder.path() / "tb" / "events.out.tfevents.2.a",
            event(1772370000) + FrameTfRecord(EncodeRestartEvent(1772370000, 41)));
  WriteFile(folder.path() / "tb" / "events.out.tfevents.3.a", "torn");
  WriteFile(folder.path() / "tb" / "events.out.tfevents.4.a", event(-5));
  const std::vector<LogStart> starts = ReadLogStarts(DiskFiles(), folder.path());
  ASSERT_EQ(starts.size(), 2u);
  EXPECT_FALSE(starts[0].first_step.has_value());
  EXPECT_EQ(FormatUtc(starts[0].wall_time_s), "2026-03-01 12:00:05 UTC");
  EXPECT_EQ(starts[1].first_step, 41);
}

TEST(RunFilesTest, WordsOfARunAreKeptWithoutItsProgress) {
  const TemporaryFolder folder;
  WriteFile(folder.path() / "output.txt",
            "step 1/5\rstep 2/5\rhearth: warning: hot\nstep 3/5\nhearth: going on from x\n");
  const std::vector<std::string> words = ReadSaidWords(DiskFiles(), folder.path());
  ASSERT_EQ(words.size(), 2u);
  EXPECT_EQ(words[0], "warning: hot");
  WriteFile(folder.path() / "messages.txt",
            "torn\n2026-03-01T12:00:05Z warning: cold\n2026-03-01T12:00:06Z starting again\n");
  EXPECT_EQ(ReadSaidWords(DiskFiles(), folder.path()),
            (std::vector<std::string>{"warning: cold, 2026-03-01 12:00:05 UTC",
                                      "starting again, 2026-03-01 12:00:06 UTC"}));
}

TEST(HtmlTextTest, EscapesAndShortens) {
  EXPECT_EQ(EscapeHtml("<a b='c' d=\"e\">&"), "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;");
  EXPECT_EQ(EscapeHtml("a\x01\xff"), "a \xef\xbf\xbd");
  EXPECT_EQ(ScriptString("</script>\xe2\x80\xa8&"), "\"\\u003c/script\\u003e\\u2028\\u0026\"");
  EXPECT_EQ(Shortened("\xc3\xa4\xc3\xa4", 3), "\xc3\xa4\xe2\x80\xa6");
  EXPECT_EQ(Shortened("abc", 3), "abc");
  EXPECT_EQ(GroupedInteger(-1234567), "-1,234,567");
  EXPECT_EQ(GroupedInteger(999), "999");
}

std::string Labels(const ChartAxis& axis) {
  std::string labels;
  for (const ChartTick& tick : axis.ticks) labels += (labels.empty() ? "" : " ") + tick.label;
  return labels;
}

TEST(ChartAxisTest, HasRoundTicks) {
  EXPECT_EQ(Labels(LinearAxis(0, 10, 5)), "0 2 4 6 8 10");
  EXPECT_EQ(Labels(LinearAxis(1.13, 1.42, 5)), "1.2 1.3 1.4");
  EXPECT_EQ(Labels(LinearAxis(0, 3e-5, 3)), "0 1e-5 2e-5 3e-5");
  EXPECT_EQ(Labels(LogAxis(0.5, 3000)), "1 10 100 1000");
  EXPECT_EQ(Labels(LogAxis(1e-4, 2e-3)), "0.0001 0.0002 0.0005 0.001 0.002");
  EXPECT_EQ(Labels(CountAxis(0, 2'000'000, 4)), "0 500k 1M 1.5M 2M");
  EXPECT_GE(LinearAxis(5, 5, 5).ticks.size(), 1u);
  EXPECT_GE(LogAxis(5, 5).ticks.size(), 1u);
  EXPECT_EQ(LogAxis(1, 100).Position(10), 0.5);
}

}  // namespace
}  // namespace hearth::test
