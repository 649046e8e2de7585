#include "runtime/telemetry/json_lines_log.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/philox.h"
#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

class JsonLinesLogTest : public testing::Test {
 protected:
  void WriteText(const std::string& text) { std::ofstream(log_, std::ios::binary) << text; }

  std::string Text() const {
    std::ifstream in(log_, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

  const test::TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
  const std::filesystem::path log_ = folder_ / "log.jsonl";
};

TEST(StepRecordTest, LinesAreJsonInTheOrderOfTheValues) {
  StepRecord record{.step = 12, .values = {}};
  record.Set("train/loss", 2.5f);
  record.Set("tokens", 4096);
  record.Set("note", "a \"quote\"\n");
  record.Set("train/loss", 2.25f);
  EXPECT_EQ(ToJson(record),
            R"({"step":12,"train/loss":2.25,"tokens":4096,"note":"a \"quote\"\n"})");
}

TEST(StepRecordTest, ShortestFormsKeepTheirType) {
  StepRecord record{.step = 0, .values = {}};
  record.Set("float", 0.1f);
  record.Set("double", 0.1);
  record.Set("whole", 3.0);
  record.Set("negative_zero", -0.0);
  record.Set("large", 1e300);
  record.Set("nan", std::nan(""));
  record.Set("infinity", std::numeric_limits<float>::infinity());
  record.Set("minus_infinity", -std::numeric_limits<double>::infinity());
  EXPECT_EQ(ToJson(record),
            R"({"step":0,"float":0.1,"double":0.1,"whole":3.0,"negative_zero":-0.0,"large":1e+300,)"
            R"("nan":"NaN","infinity":"Infinity","minus_infinity":"-Infinity"})");
}

// The reader is nlohmann's, the bits come from anywhere in the range.
TEST(StepRecordTest, NumbersReadBackToTheSameBits) {
  for (uint32_t i = 0; i < 20000; ++i) {
    const auto random = Philox4x32(42, {i, 0, 0, 0});
    const double wide = std::bit_cast<double>(uint64_t{random[0]} << 32 | random[1]);
    const float narrow = std::bit_cast<float>(random[2]);
    if (!std::isfinite(wide) || !std::isfinite(narrow)) continue;
    StepRecord record;
    record.Set("wide", wide);
    record.Set("narrow", narrow);
    const auto json = nlohmann::json::parse(ToJson(record));
    ASSERT_EQ(std::bit_cast<uint64_t>(json["wide"].get<double>()), std::bit_cast<uint64_t>(wide));
    ASSERT_EQ(std::bit_cast<uint32_t>(static_cast<float>(json["narrow"].get<double>())),
              std::bit_cast<uint32_t>(narrow));
  }
}

TEST_F(JsonLinesLogTest, AppendsBehindWhatIsThere) {
  for (int64_t step : {1, 2}) {
    JsonLinesLog log(log_);
    log.Append({.step = step, .values = {{"train/loss", 0.5f}}});
    log.Sync();
  }
  EXPECT_EQ(Text(), "{\"step\":1,\"train/loss\":0.5}\n{\"step\":2,\"train/loss\":0.5}\n");
}

TEST_F(JsonLinesLogTest, CutsBackToAStepAndDropsTornLines) {
  const std::string kept =
      "{\"step\":0,\"eval/loss\":5.0}\n{\"step\":1,\"train/loss\":4.0}\n"
      "{\"step\":2,\"train/loss\":3.0}\n{\"step\":2,\"eval/loss\":3.5}\n";
  const std::string later = "{\"step\":3,\"train/loss\":2.0}\n";
  for (const std::string& tail :
       {std::string(), later, later + "{\"step\":4,\"tr", std::string("{\"step\":2,\"train/lo"),
        std::string("{\"step\":2,\"x\":1}"), std::string("\n"), std::string(64, '\0') + "\n",
        std::string("[1]\n")}) {
    WriteText(kept + tail);
    CutBackTo(log_, 2);
    EXPECT_EQ(Text(), kept) << "tail: " << tail;
  }
  // A torn line in the middle (a full disk, later freed) takes nothing else with it.
  WriteText("{\"step\":0,\"ev\n" + kept + later);
  CutBackTo(log_, 2);
  EXPECT_EQ(Text(), kept);

  CutBackTo(log_, 0);
  EXPECT_EQ(Text(), "{\"step\":0,\"eval/loss\":5.0}\n");
  CutBackTo(log_, -1);
  EXPECT_EQ(Text(), "");
}

TEST_F(JsonLinesLogTest, CuttingBackNothingCreatesNothing) {
  CutBackTo(log_, 5);
  EXPECT_FALSE(std::filesystem::exists(log_));
}

TEST_F(JsonLinesLogTest, AFileThatNeedsNoCutIsNotTouched) {
  WriteText("{\"step\":1,\"train/loss\":4.0}\n");
  const auto link = folder_ / "link";
  std::filesystem::create_hard_link(log_, link);
  CutBackTo(log_, 1);
  EXPECT_TRUE(std::filesystem::equivalent(log_, link));
}

TEST_F(JsonLinesLogTest, ReadsItsOwnRecords) {
  {
    JsonLinesLog log(log_);
    log.Append({.step = 3,
                .values = {{"a", 7}, {"b", 0.1}, {"c", std::nan("")}, {"d", std::string("text")}}});
  }
  std::vector<StepRecord> records;
  ReadJsonLines(log_, [&](const StepRecord& record) { records.push_back(record); });
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].step, 3);
  EXPECT_EQ(records[0].Number("a"), 7.0);
  EXPECT_EQ(records[0].Number("b"), 0.1);
  EXPECT_TRUE(std::isnan(*records[0].Number("c")));
  EXPECT_EQ(records[0].Number("d"), std::nullopt);
  EXPECT_EQ(records[0].Number("e"), std::nullopt);
}

TEST(ParseJsonLineTest, TakesWhatBelongsToARecord) {
  const auto record = ParseJsonLine(
      R"({"b":{"step":9,"x":[1,{"y":2}]},"step":4,"a":-3,"c":[7],"d":1.0,"e":null,"f":"text","a":5})");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->step, 4);
  ASSERT_EQ(record->values.size(), 3u);
  EXPECT_EQ(record->values[0], (std::pair<std::string, StepValue>("a", int64_t{5})));
  EXPECT_EQ(record->values[1], (std::pair<std::string, StepValue>("d", 1.0)));
  EXPECT_EQ(record->values[2], (std::pair<std::string, StepValue>("f", std::string("text"))));
  EXPECT_TRUE(ParseJsonLine("{\"step\":1} \r"));
  for (const char* line : {"", "{}", "[]", "{\"step\":1", "{\"step\":1.0}", "{\"step\":\"1\"}", "1",
                           "{\"step\":1}}", "{\"step\":1,\"step\":null}", "[{\"step\":1}]",
                           "{\"a\":{\"step\":1}}", "{\"step\":1,\"a\":1e999}", "\"}"}) {
    EXPECT_FALSE(ParseJsonLine(line)) << line;
  }
}

TEST(RecordLinesTest, PiecesOfAnySizeGiveTheSameLines) {
  const std::string log =
      "{\"step\":1,\"a\":1}\n\n{\"step\":2}\n[]\n{\"step\":3,\"a\":3}\n{\"step\":4,\"tr";
  for (size_t size = 1; size <= log.size(); ++size) {
    RecordLines lines;
    std::vector<int64_t> steps;
    std::string text;
    for (size_t at = 0; at < log.size(); at += size) {
      lines.Take(std::string_view(log).substr(at, size),
                 [&](std::string_view line, const StepRecord& record) {
                   steps.push_back(record.step);
                   text += line;
                 });
    }
    EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3})) << size;
    EXPECT_EQ(text, "{\"step\":1,\"a\":1}{\"step\":2}{\"step\":3,\"a\":3}");
    EXPECT_EQ(lines.other_lines(), 2);
    EXPECT_TRUE(lines.is_torn());
    lines.Take("ain\":1}\n", [&](std::string_view, const StepRecord& record) {
      EXPECT_EQ(record.step, 4);
      EXPECT_EQ(record.Number("train"), 1.0);
      steps.push_back(record.step);
    });
    EXPECT_EQ(steps.size(), 4u);
    EXPECT_FALSE(lines.is_torn());
  }
}

TEST_F(JsonLinesLogTest, AFailedRecordLeavesNoTrace) {
  AppendFile file(log_);
  file.Append("first\n");
  // The size limit of the process stands for a disk that is full in the middle of a record.
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{.rlim_cur = 10, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  EXPECT_THROW(file.Append("a second record\n"), IoError);
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(Text(), "first\n");
  file.Append("third\n");
  EXPECT_EQ(Text(), "first\nthird\n");
}

}  // namespace
}  // namespace hearth
