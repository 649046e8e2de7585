// The text of a table of matmul algorithms, and the rule that chooses them.
#include "kernels/api/gemm_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/core/error.h"

namespace hearth::test {
namespace {

GemmTableEntry MakeEntry(int64_t m) {
  return {.key = {.m = m,
                  .n = 152'064,
                  .k = 3584,
                  .a = DType::kF8E4M3,
                  .b = DType::kF8E5M2,
                  .out = DType::kBF16,
                  .a_transposed = false,
                  .b_transposed = true,
                  .bias = DType::kBF16,
                  .accumulate = true,
                  .fast_accumulation = false,
                  .alignment = 16},
          .library = "cublaslt-130100-sm_90-132",
          .algorithm = {0, 1, 0xfedcba9876543210, ~uint64_t{0}, 5, 6, 7, uint64_t{1} << 63}};
}

std::vector<GemmTableEntry> MakeEntries() {
  std::vector<GemmTableEntry> entries = {MakeEntry(1), MakeEntry(int64_t{1} << 40), MakeEntry(7)};
  entries[2].key.bias.reset();
  entries[2].key.a = entries[2].key.b = entries[2].key.out = DType::kF32;
  entries[2].key.accumulate = false;
  entries[2].key.fast_accumulation = true;
  return entries;
}

std::string MessageOf(const std::string& text) {
  try {
    ParseGemmTable(text);
  } catch (const IoError& error) {
    return error.what();
  }
  return "";
}

TEST(GemmTableTest, ReadsWhatItWrote) {
  const std::vector<GemmTableEntry> entries = MakeEntries();
  const std::string text = PrintGemmTable(entries);
  EXPECT_EQ(ParseGemmTable(text), entries);
  EXPECT_EQ(PrintGemmTable(ParseGemmTable(text)), text);
  // A line is an entry, whatever lies between them and whether or not the last one ends.
  EXPECT_EQ(ParseGemmTable("\n\n" + text + "\n"), entries);
  EXPECT_EQ(ParseGemmTable(text.substr(0, text.size() - 1)), entries);
  EXPECT_TRUE(ParseGemmTable("").empty());
}

// Kept in plans and checkpoints: other versions of Hearth must read it.
TEST(GemmTableTest, TheTextStaysAsItIs) {
  EXPECT_EQ(PrintGemmTable(std::vector{MakeEntry(16)}),
            "matmul/1 m=16 n=152064 k=3584 a=f8_e4m3 b=f8_e5m2 out=bf16 a_transposed=0 "
            "b_transposed=1 bias=bf16 accumulate=1 fast_accumulation=0 alignment=16 "
            "library=cublaslt-130100-sm_90-132 algorithm="
            "0000000000000000"
            "0000000000000001"
            "fedcba9876543210"
            "ffffffffffffffff"
            "0000000000000005"
            "0000000000000006"
            "0000000000000007"
            "8000000000000000"
            " check=89a55f2e\n");
}

TEST(GemmTableTest, EveryChangedByteIsFound) {
  const std::string text = PrintGemmTable(std::vector{MakeEntry(16)});
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    for (const char c : {'0', '1', 'f', ' ', '\n', '='}) {
      if (text[i] == c) continue;
      std::string damaged = text;
      damaged[i] = c;
      EXPECT_NE(MessageOf(damaged), "") << damaged;
    }
  }
  for (size_t length = 1; length + 1 < text.size(); ++length) {
    EXPECT_NE(MessageOf(text.substr(0, length)), "") << length;
  }
}

TEST(GemmTableTest, NamesTheLine) {
  const std::string good = PrintGemmTable(MakeEntries());
  EXPECT_NE(MessageOf(good + "rubbish\n").find("line 4: "), std::string::npos);
  EXPECT_NE(MessageOf("\nrubbish").find("line 2: "), std::string::npos);
  const std::string twice = PrintGemmTable(std::vector{MakeEntry(1), MakeEntry(2), MakeEntry(1)});
  EXPECT_NE(MessageOf(twice).find("line 3: m=1 n=152064"), std::string::npos) << MessageOf(twice);
}

TEST(GemmTableTest, LibrariesHaveNoBlanks) {
  for (const char* name : {"", "two words", "two\nlines"}) {
    std::vector<GemmTableEntry> entries = {MakeEntry(1)};
    entries[0].library = name;
    EXPECT_THROW(PrintGemmTable(entries), CheckError) << name;
  }
}

TEST(GemmTableTest, KeysDifferInEveryField) {
  const GemmKey key = MakeEntry(16).key;
  std::vector<GemmKey> keys(13, key);
  keys[1].m = 17;
  keys[2].n = 17;
  keys[3].k = 17;
  keys[4].a = DType::kF8E5M2;
  keys[5].b = DType::kF8E4M3;
  keys[6].out = DType::kF32;
  keys[7].a_transposed = true;
  keys[8].b_transposed = false;
  keys[9].bias.reset();
  keys[10].accumulate = false;
  keys[11].fast_accumulation = true;
  keys[12].alignment = 8;
  std::vector<std::string> texts;
  for (const GemmKey& other : keys) {
    texts.push_back(Describe(other));
    EXPECT_EQ(std::count(keys.begin(), keys.end(), other), 1) << texts.back();
    EXPECT_EQ(std::count(texts.begin(), texts.end(), texts.back()), 1) << texts.back();
  }
}

TEST(ChooseCandidateTest, PrefersTheFirstOnesBits) {
  EXPECT_EQ(ChooseCandidate(std::vector<GemmTiming>{{10, true}}), 0u);
  EXPECT_EQ(ChooseCandidate(std::vector<GemmTiming>{{10, true}, {9.9, true}, {9.8, false}}), 1u);
  EXPECT_EQ(ChooseCandidate(std::vector<GemmTiming>{{10, true}, {10, true}}), 0u);
  EXPECT_EQ(ChooseCandidate(std::vector<GemmTiming>{{10, true}, {9, false}, {9.2, true}}), 2u);
  // No speed is worth other bits: another run would measure otherwise.
  EXPECT_EQ(ChooseCandidate(std::vector<GemmTiming>{{10, true}, {5, false}}), 0u);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(ChooseCandidate(std::vector<GemmTiming>{{10, true}, {nan, true}, {9, true}}), 2u);
  EXPECT_THROW(ChooseCandidate({}), CheckError);
}

}  // namespace
}  // namespace hearth::test
