#include "runtime/text/word_splitter.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/text/utf8.h"

namespace hearth {
namespace {

using Words = std::vector<std::string>;

Words Split(SplitPattern pattern, std::string_view text) {
  static const CharacterClasses classes;
  const WordSplitter splitter(pattern);
  WordReader reader(splitter, classes);
  reader.Start(text);
  Words words;
  for (std::string_view word; reader.Next(&word);) words.emplace_back(word);
  return words;
}

// Worked out by hand from the expressions.
TEST(WordSplitter, Gpt2) {
  const auto split = [](std::string_view text) { return Split(SplitPattern::kGpt2, text); };
  EXPECT_EQ(split("Hello, world! It's 2024"),
            (Words{"Hello", ",", " world", "!", " It", "'s", " 2024"}));
  EXPECT_EQ(split("a  b\n\n c   "), (Words{"a", " ", " b", "\n\n", " c", "   "}));
  EXPECT_EQ(split("I'LL we'll"), (Words{"I", "'", "LL", " we", "'ll"}));  // lower case alone
  EXPECT_EQ(split("12\u0663x\u00b2"), (Words{"12\u0663", "x", "\u00b2"}));
  EXPECT_EQ(split("\u00e9t\u00e9\u3000\u4e2d\u6587"),
            (Words{"\u00e9t\u00e9", "\u3000", "\u4e2d\u6587"}));
  EXPECT_EQ(split("e\u0301"), (Words{"e", "\u0301"}));  // a mark is no letter
  EXPECT_EQ(split(""), Words{});
}

TEST(WordSplitter, Llama3) {
  const auto split = [](std::string_view text) { return Split(SplitPattern::kLlama3, text); };
  EXPECT_EQ(split("Hello, world! It'S 20245"),
            (Words{"Hello", ",", " world", "!", " It", "'S", " ", "202", "45"}));
  EXPECT_EQ(split("it'\u017fx"), (Words{"it", "'\u017f", "x"}));  // long s folds to s
  EXPECT_EQ(split("a.b\n\n\n  c"), (Words{"a", ".b", "\n\n\n", " ", " c"}));
  EXPECT_EQ(split("x;\r\n\ty"), (Words{"x", ";\r\n", "\ty"}));
  EXPECT_EQ(split("\u3000\u3000\u4e2d"), (Words{"\u3000", "\u3000\u4e2d"}));
  EXPECT_EQ(split("\u0661\u0662\u0663\u0664"), (Words{"\u0661\u0662\u0663", "\u0664"}));
}

TEST(WordSplitter, Qwen2) {
  const auto split = [](std::string_view text) { return Split(SplitPattern::kQwen2, text); };
  EXPECT_EQ(split("a 20245"), (Words{"a", " ", "2", "0", "2", "4", "5"}));
  EXPECT_EQ(split("DON'T \U0001f600!\n"), (Words{"DON", "'T", " \U0001f600!\n"}));
}

// Letters of Unicode 15 and 16, which PCRE2 10.42 does not know.
TEST(WordSplitter, LettersThatPcre2DoesNotKnow) {
  EXPECT_EQ(Split(SplitPattern::kGpt2, "\U00031350\U00013460\ua7da a"),
            (Words{"\U00031350\U00013460\ua7da", " a"}));
  EXPECT_EQ(Split(SplitPattern::kGpt2, "\U000116d0\U00010d40"), (Words{"\U000116d0\U00010d40"}));
}

// One reader for many texts, with and without other characters than ASCII; zero bytes are text.
TEST(WordSplitter, WordsCoverTheText) {
  const CharacterClasses classes;
  for (const SplitPattern pattern :
       {SplitPattern::kGpt2, SplitPattern::kLlama3, SplitPattern::kQwen2}) {
    const WordSplitter splitter(pattern);
    WordReader reader(splitter, classes);
    uint64_t state = 1;
    for (int round = 0; round < 2000; ++round) {
      std::string text;
      for (int i = 0; i < round % 40; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const uint64_t random = state >> 33;
        char32_t c = static_cast<char32_t>(random % (round % 2 == 0 ? 0x80 : 0x110000));
        if (c >= 0xd800 && c < 0xe000) c = 0x20;
        AppendUtf8(c, &text);
      }
      reader.Start(text);
      std::string again;
      for (std::string_view word; reader.Next(&word);) {
        ASSERT_FALSE(word.empty());
        ASSERT_EQ(ValidUtf8Prefix(word), word.size());
        again += word;
      }
      ASSERT_EQ(again, text);
    }
  }
}

// Longer than PCRE2 goes back by default.
TEST(WordSplitter, LongRuns) {
  const std::string spaces(12'000'000, ' ');
  for (const SplitPattern pattern : {SplitPattern::kGpt2, SplitPattern::kQwen2}) {
    EXPECT_EQ(Split(pattern, spaces + "a" + spaces).size(), 3u);
  }
}

TEST(WordSplitter, OnlyKnownExpressions) {
  EXPECT_EQ(FindSplitPattern(
                R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"),
            SplitPattern::kGpt2);
  EXPECT_FALSE(FindSplitPattern(R"(\s+)").has_value());
  EXPECT_FALSE(FindSplitPattern("").has_value());
}

}  // namespace
}  // namespace hearth
