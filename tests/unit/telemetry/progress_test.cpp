#include "runtime/telemetry/progress.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "runtime/telemetry/memory_table.h"
#include "runtime/telemetry/units.h"

namespace hearth {
namespace {

// A temporary file as the terminal.
class Screen {
 public:
  Screen() : file_(std::tmpfile()) {}
  ~Screen() { std::fclose(file_); }
  std::FILE* file() { return file_; }
  std::string Text() {
    std::string text(static_cast<size_t>(std::ftell(file_)), '\0');
    std::rewind(file_);
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file_), text.size());
    return text;
  }

 private:
  std::FILE* file_;
};

StepRecord TrainRecord(int64_t step) {
  return {.step = step,
          .values = {{"train/loss", 2.5f},
                     {"train/grad_norm", 1.25},
                     {"train/learning_rate", 3e-4},
                     {"train/tokens_per_second", 12345.0}}};
}

TEST(ProgressTest, WithoutATerminalEachRecordIsALine) {
  Screen screen;
  Progress progress({.enabled = true, .interactive = false, .columns = 20, .total_steps = 100},
                    screen.file());
  progress.Show(TrainRecord(10), 100.0);
  progress.Show(TrainRecord(20), 105.0);
  progress.Show({.step = 20, .values = {{"eval/loss", 3.0f}}}, 106.0);
  progress.EndLine();
  EXPECT_EQ(screen.Text(),
            "step 10/100  loss 2.5000  grad 1.250  lr 3.00e-04  12.3k tok/s\n"
            "step 20/100  loss 2.5000  grad 1.250  lr 3.00e-04  12.3k tok/s  ETA 40s\n"
            "step 20  eval 3.0000\n");
}

TEST(ProgressTest, SpeedOfLightIsAPercentage) {
  Screen screen;
  StepRecord record = TrainRecord(10);
  record.Set("train/sol", 0.4321);
  EXPECT_EQ(Progress({}, screen.file()).Line(record),
            "step 10  loss 2.5000  grad 1.250  lr 3.00e-04  12.3k tok/s  SOL 43.2%");
}

TEST(ProgressTest, ATerminalHasOneLineThatIsNotDrawnTooOften) {
  Screen screen;
  Progress progress({.enabled = true, .interactive = true, .columns = 21, .total_steps = 0},
                    screen.file());
  progress.Show(TrainRecord(1), 0.0);
  progress.Show(TrainRecord(2), 0.05);
  progress.Show(TrainRecord(3), 0.2);
  progress.Show(TrainRecord(4), 0.25);
  progress.EndLine();
  progress.EndLine();
  EXPECT_EQ(
      screen.Text(),
      "\rstep 1  loss 2.5000 \x1b[K\rstep 3  loss 2.5000 \x1b[K\rstep 4  loss 2.5000 \x1b[K\n");
}

TEST(ProgressTest, CanBeSilent) {
  Screen screen;
  Progress progress({.enabled = false}, screen.file());
  progress.Show(TrainRecord(1), 0.0);
  progress.EndLine();
  EXPECT_EQ(screen.Text(), "");
}

TEST(UnitsTest, AreReadable) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(int64_t{1} << 30), "1.0 GiB");
  EXPECT_EQ(FormatBytes((int64_t{1} << 30) - 1), "1.0 GiB");
  EXPECT_EQ(FormatCount(843), "843");
  EXPECT_EQ(FormatCount(999.7), "1.00k");
  EXPECT_EQ(FormatCount(12345), "12.3k");
  EXPECT_EQ(FormatCount(4.56e6), "4.56M");
  EXPECT_EQ(FormatDuration(8.4), "8s");
  EXPECT_EQ(FormatDuration(200), "3m20s");
  EXPECT_EQ(FormatDuration(18120), "5h02m");
  EXPECT_EQ(FormatDuration(3 * 86400 + 4 * 3600), "3d04h");
  EXPECT_EQ(FormatDuration(-1), "?");
}

TEST(MemoryTableTest, ShowsWhatIsKnown) {
  const std::vector<MemoryRow> planned = {{.tier = "device",
                                           .item = "weights",
                                           .predicted_bytes = 1 << 20,
                                           .measured_bytes = {},
                                           .budget_bytes = {}},
                                          {.tier = "device",
                                           .item = "",
                                           .predicted_bytes = 3 << 20,
                                           .measured_bytes = {},
                                           .budget_bytes = 4 << 20}};
  EXPECT_EQ(FormatMemoryTable(planned),
            "memory           predicted   budget\n"
            "device  weights    1.0 MiB\n"
            "device             3.0 MiB  4.0 MiB\n");
  EXPECT_EQ(FormatMemoryTable({{.tier = "host",
                                .item = "",
                                .predicted_bytes = 1000,
                                .measured_bytes = 970,
                                .budget_bytes = {}}}),
            "memory  predicted  measured  off by\n"
            "host       1000 B     970 B  -3.0 %\n");
  EXPECT_EQ(FormatMemoryTable({}), "");
  for (const int64_t measured : {99'951, 100'000, 100'049}) {
    const std::string table = FormatMemoryTable(
        {{.tier = "host", .item = "", .predicted_bytes = 100'000, .measured_bytes = measured}});
    EXPECT_TRUE(table.ends_with("  0.0 %\n")) << table;
  }
}

}  // namespace
}  // namespace hearth
