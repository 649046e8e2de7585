#include "runtime/text/nfc.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace hearth {
namespace {

std::string Nfc(const std::string& text) {
  static const CharacterClasses classes;
  static const NfcNormalizer normalizer;
  std::string normalized;
  normalizer.Append(text, classes, &normalized);
  EXPECT_TRUE(normalized == text || !NfcNormalizer::IsCertain(text, classes));
  return normalized;
}

// From Unicode Standard Annex 15 and the standard's chapter on Hangul.
TEST(Nfc, ExamplesOfTheStandard) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"plain ASCII", "plain ASCII"},
      {"e\u0301", "\u00e9"},
      {"\u1e0a\u0323", "\u1e0c\u0307"},  // D with dot above, dot below: reordered
      {"\u212b", "\u00c5"},              // Angstrom sign
      {"\u2126", "\u03a9"},              // Ohm sign
      {"s\u0323\u0307", "\u1e69"},
      {"s\u0307\u0323", "\u1e69"},
      {"\u0958", "\u0915\u093c"},  // excluded from composition
      {"\u0344", "\u0308\u0301"},  // begins with a mark
      {"\ufb1d", "\u05d9\u05b4"},
      {"\U0001d15e", "\U0001d157\U0001d165"},
      {"\u1100\u1161\u11a8", "\uac01"},
      {"\uac00\u11a8", "\uac01"},
      {"\uac01\u11a8", "\uac01\u11a8"},  // has its tail already
      {"\u1100\u1161\u11a7", "\uac00\u11a7"},
      {"\u03b1\u0345\u0301", "\u1fb4"},
      {"a\u05ae\u0300\u0315b", "\u00e0\u05ae\u0315b"},
      {"\u09c7\u09be", "\u09cb"},  // a starter that composes with the one before
      {"\u09c7x\u09be", "\u09c7x\u09be"},
      {"a\u030d\u0301", "a\u030d\u0301"},  // blocked by a mark of the same class
      {"\u0301", "\u0301"},
      {"\ufb01", "\ufb01"},  // only compatible, not canonical
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(Nfc(text), expected) << testing::PrintToString(text);
    EXPECT_EQ(Nfc(expected), expected);
    EXPECT_EQ(Nfc("\u4e00" + text + " y\u4e00" + text),
              "\u4e00" + expected + " y\u4e00" + expected);
  }
}

TEST(Nfc, ManyMarksTakeLittleTime) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += i % 2 == 0 ? "\u0307" : "\u0323";
  const std::string normalized = Nfc(text);
  EXPECT_EQ(normalized.size(), text.size());  // a and one mark, three bytes, became one of three
  EXPECT_TRUE(normalized.starts_with("\u1ea1\u0323"));
  EXPECT_TRUE(normalized.ends_with("\u0307\u0307"));
}

}  // namespace
}  // namespace hearth
