#include "runtime/text/character_classes.h"

#include <span>

#include "runtime/text/nfc.h"
#include "runtime/text/unicode_tables.h"

namespace hearth {

CharacterClasses::CharacterClasses() : classes_(0x110000, 0) {
  const auto mark = [this](char32_t first, char32_t last, CharacterClass bit) {
    for (char32_t code_point = first; code_point <= last; ++code_point) classes_[code_point] |= bit;
  };
  const auto mark_all = [&mark](std::span<const CodePointRange> ranges, CharacterClass bit) {
    for (const CodePointRange& range : ranges) mark(range.first, range.last, bit);
  };
  mark_all(LetterRanges(), kLetter);
  mark_all(NumberRanges(), kNumber);
  mark_all(SpaceRanges(), kSpace);
  mark_all(WordRanges(), kWord);
  for (const CombiningRange& range : CombiningRanges()) mark(range.first, range.last, kNfcActive);
  for (const Decomposition& entry : Decompositions()) {
    const char32_t active = entry.recomposes ? entry.second : entry.composed;
    mark(active, active, kNfcActive);
  }
  mark(kHangulVowelBase + 0, kHangulVowelBase + kHangulVowels - 1, kNfcActive);
  mark(kHangulTailBase + 1, kHangulTailBase + kHangulTails - 1, kNfcActive);
}

}  // namespace hearth
