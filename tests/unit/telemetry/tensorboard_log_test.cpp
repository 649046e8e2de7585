#include "runtime/telemetry/tensorboard_log.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/telemetry/crc32c.h"
#include "tests/support/temporary_folder.h"

namespace hearth {
namespace {

std::string Hex(const std::string& bytes) {
  std::string hex;
  for (const char c : bytes) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return hex;
}

// Check values of RFC 3720, appendix B.4, and the customary "123456789".
TEST(Crc32cTest, MatchesPublishedValues) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string rising;
  for (char c = 0; c < 32; ++c) rising.push_back(c);
  EXPECT_EQ(Crc32c(rising), 0x46dd794eu);
  EXPECT_EQ(Crc32c(""), 0u);
}

// The expected bytes were written by TensorBoard 2's own message classes and record framing.
TEST(TensorboardLogTest, RecordsAreThoseOfTensorBoard) {
  EXPECT_EQ(Hex(FrameTfRecord(EncodeVersionEvent(1.5))),
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c");
  EXPECT_EQ(Hex(FrameTfRecord(EncodeRestartEvent(1.5, 300))),
            "100000000000000095fbfe1809000000000000f83f10ac023a020801713b788a");
  StepRecord record{.step = 7, .values = {}};
  record.Set("train/loss", 2.5f);
  record.Set("text", "left out");
  record.Set("n", 3);
  EXPECT_EQ(
      Hex(FrameTfRecord(EncodeScalarsEvent(1234567890.25, record))),
      "2a00000000000000ae8d91f509000090b48065d24110072a1d0a110a0a747261696e2f6c6f73731500002040"
      "0a080a016e1500004040d0842057");
}

TEST(TensorboardLogTest, FilesSortInTheOrderOfTheirMaking) {
  const test::TemporaryFolder temporary;
  const std::filesystem::path folder = temporary.path();
  std::vector<std::string> made;
  for (int i = 0; i < 3; ++i) {
    TensorboardLog log(folder / "tb", i);
    log.Append({.step = i, .values = {{"train/loss", 1.0f}}});
    for (const auto& entry : std::filesystem::directory_iterator(folder / "tb")) {
      const std::string file = entry.path().filename().string();
      if (std::find(made.begin(), made.end(), file) == made.end()) made.push_back(file);
    }
  }
  ASSERT_EQ(made.size(), 3u);
  EXPECT_TRUE(std::is_sorted(made.begin(), made.end()));
  for (const std::string& file : made) EXPECT_EQ(file.rfind("events.out.tfevents.", 0), 0u);
}

TEST(TensorboardLogTest, AFolderThatCannotBeIsAnError) {
  EXPECT_THROW(TensorboardLog("/dev/null/tb", {}), IoError);
}

}  // namespace
}  // namespace hearth
