// The text of a table of attention providers.
#include "kernels/api/attention_table.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/api/gemm_table.h"
#include "kernels/core/error.h"

namespace hearth::test {
namespace {

AttentionTableEntry MakeEntry(int64_t sequence_len) {
  return {.key = {.heads = 28,
                  .kv_heads = 4,
                  .head_dim = 128,
                  .sequence_len = sequence_len,
                  .sequences = 16,
                  .tokens = 16 * sequence_len},
          .provider = AttentionProvider::kCudnn,
          .library = "cudnn-91900-sm_90-132"};
}

std::vector<AttentionTableEntry> MakeEntries() {
  std::vector<AttentionTableEntry> entries = {MakeEntry(1024), MakeEntry(int64_t{1} << 30)};
  entries[1].provider = AttentionProvider::kOwn;
  entries[1].library = "none";
  return entries;
}

std::string MessageOf(const std::string& text) {
  try {
    ParseAttentionTable(text);
  } catch (const IoError& error) {
    return error.what();
  }
  return "";
}

TEST(AttentionTableTest, ReadsWhatItWrote) {
  const std::vector<AttentionTableEntry> entries = MakeEntries();
  const std::string text = PrintAttentionTable(entries);
  EXPECT_EQ(ParseAttentionTable(text), entries);
  EXPECT_EQ(ParseAttentionTable("\n\n" + text + "\n"), entries);
  EXPECT_TRUE(ParseAttentionTable("").empty());
}

// Kept in plans and checkpoints: other versions of Hearth must read it.
TEST(AttentionTableTest, TheTextStaysAsItIs) {
  const std::string text = PrintAttentionTable(std::vector{MakeEntry(1024)});
  EXPECT_EQ(text.substr(0, text.size() - 9),
            "attention/1 heads=28 kv_heads=4 head_dim=128 sequence_len=1024 sequences=16 "
            "tokens=16384 provider=cudnn library=cudnn-91900-sm_90-132 check=");
}

TEST(AttentionTableTest, LiesBesideTheMatmulsInOneText) {
  const std::vector<GemmTableEntry> matmuls = {
      {.key = {.m = 16, .n = 32, .k = 48, .alignment = 16}, .library = "blas-1"}};
  const std::vector<AttentionTableEntry> entries = MakeEntries();
  for (const std::string& text : {PrintGemmTable(matmuls) + PrintAttentionTable(entries),
                                  PrintAttentionTable(entries) + PrintGemmTable(matmuls)}) {
    EXPECT_EQ(ParseGemmTable(text), matmuls);
    EXPECT_EQ(ParseAttentionTable(text), entries);
  }
}

// By one of the two readers.
TEST(AttentionTableTest, EveryChangedByteIsFound) {
  const std::string text = PrintAttentionTable(std::vector{MakeEntry(1024)});
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    for (const char c : {'0', '1', 'f', ' ', '\n', '='}) {
      if (text[i] == c) continue;
      std::string changed = text;
      changed[i] = c;
      EXPECT_THROW(
          {
            ParseGemmTable(changed);
            ParseAttentionTable(changed);
          },
          IoError)
          << i << ": " << changed;
    }
  }
}

TEST(AttentionTableTest, SaysWhatIsWrong) {
  const std::string text = PrintAttentionTable(MakeEntries());
  EXPECT_EQ(MessageOf(text + "attention/1 heads=1\n"),
            "attention table, line 3: damaged: its checksum is absent or another");
  EXPECT_NE(MessageOf(text + text).find("attention table, line 3: heads=28"), std::string::npos);
}

TEST(AttentionTableTest, ChoosesCudnnWhereItIsClearlyFaster) {
  EXPECT_TRUE(PrefersCudnn(100, 90));
  EXPECT_FALSE(PrefersCudnn(100, 99));
  EXPECT_FALSE(PrefersCudnn(100, 110));
  EXPECT_FALSE(PrefersCudnn(100, std::nan("")));
  EXPECT_FALSE(PrefersCudnn(std::nan(""), 1));
}

}  // namespace
}  // namespace hearth::test
