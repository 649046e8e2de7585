// Canonical composition (NFC, Unicode Standard Annex 15) by the tables in unicode_tables.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/text/character_classes.h"

namespace hearth {

// Hangul syllables are composed by arithmetic (section 3.12 of the Unicode standard).
inline constexpr char32_t kHangulSyllableBase = 0xac00;
inline constexpr char32_t kHangulLeadBase = 0x1100;
inline constexpr char32_t kHangulVowelBase = 0x1161;
inline constexpr char32_t kHangulTailBase = 0x11a7;  // one before the first tail
inline constexpr char32_t kHangulLeads = 19;
inline constexpr char32_t kHangulVowels = 21;
inline constexpr char32_t kHangulTails = 28;  // no tail included

class NfcNormalizer {
 public:
  NfcNormalizer();

  // True when `text`, valid UTF-8, certainly is NFC already; most text is.
  static bool IsCertain(std::string_view text, const CharacterClasses& classes);
  // Appends the NFC of `text`, which must be valid UTF-8.
  void Append(std::string_view text, const CharacterClasses& classes, std::string* out) const;

 private:
  struct Character {
    char32_t code_point;
    uint8_t combining_class;
  };

  void AppendSegment(std::string_view segment, std::string* out) const;
  void Decompose(char32_t code_point, std::vector<Character>* out) const;
  void Compose(std::vector<Character>* characters) const;
  // 0 when the two do not compose.
  char32_t Composed(char32_t first, char32_t second) const;
  uint8_t CombiningClass(char32_t code_point) const;

  struct Pair {
    char32_t first;
    char32_t second;
  };
  std::unordered_map<char32_t, Pair> decompositions_;
  std::unordered_map<uint64_t, char32_t> compositions_;  // by first << 32 | second
  std::unordered_map<char32_t, uint8_t> combining_classes_;
};

}  // namespace hearth
