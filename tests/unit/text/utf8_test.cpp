#include "runtime/text/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace hearth {
namespace {

std::string Repaired(std::string_view text) {
  std::string repaired;
  AppendWithReplacement(text, &repaired);
  return repaired;
}

TEST(Utf8, EveryCharacterReadsBackAndSurrogatesDoNot) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    std::string text;
    AppendUtf8(c, &text);
    const Utf8Character character = ReadUtf8(text, 0);
    const bool surrogate = c >= 0xd800 && c < 0xe000;
    ASSERT_EQ(character.valid, !surrogate) << static_cast<uint32_t>(c);
    if (surrogate) continue;
    ASSERT_EQ(character.code_point, c);
    ASSERT_EQ(static_cast<size_t>(character.length), text.size());
    ASSERT_EQ(ValidUtf8Prefix(text), text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const Utf8Character begun = ReadUtf8(text.substr(0, cut), 0);
      ASSERT_FALSE(begun.valid);
      ASSERT_FALSE(begun.complete);
      ASSERT_EQ(static_cast<size_t>(begun.length), cut);
    }
  }
}

// Table 3-8 and its neighbours in the Unicode standard; what Python 3 gives for each.
TEST(Utf8, MaximalSubpartsAreReplaced) {
  const std::string r = "\xef\xbf\xbd";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", r + r + r + r + r + r + r + r + "A"},
      {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", r + r + r + r + r + r + r + r + "A"},
      {"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", r + r + r + r + r + "A" + r + r + "B"},
      {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", r + r + r + r + "A"},
      {"a\xe2\x82", "a" + r},
      {"\xf0\x9f\x98", r},
      {"abcdefgh\x80ijklmnopqrst\xc2", "abcdefgh" + r + "ijklmnopqrst" + r},
      {"", ""},
  };
  for (const auto& [broken, repaired] : cases) EXPECT_EQ(Repaired(broken), repaired) << broken;
}

TEST(Utf8, PrefixesEndBeforeTheFirstMistake) {
  const std::string text = "0123456789\xc3\xa9\xe4\xb8\x80\xf0\x9f\x98\x80 end";
  EXPECT_EQ(ValidUtf8Prefix(text), text.size());
  EXPECT_EQ(AsciiPrefix(text), 10u);
  for (size_t at = 0; at < text.size(); ++at) {
    std::string broken = text;
    broken.insert(at, 1, '\xff');
    // The character that 0xff interrupts is no prefix either.
    size_t start = at;
    while (start > 0 && start < text.size() && (static_cast<uint8_t>(text[start]) & 0xc0) == 0x80) {
      --start;
    }
    EXPECT_EQ(ValidUtf8Prefix(broken), start) << at;
  }
}

}  // namespace
}  // namespace hearth
