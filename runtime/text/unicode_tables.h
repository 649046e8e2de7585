// What the `tokenizers` library takes for letters, numbers, spaces and words, and its canonical
// compositions. Recorded from the library itself by tests/golden/make_unicode_tables.py, since each
// of its parts has a Unicode version of its own, and other libraries have others again.
#pragma once

#include <cstdint>
#include <span>

namespace hearth {

struct CodePointRange {
  char32_t first;
  char32_t last;  // included
};

std::span<const CodePointRange> LetterRanges();  // \p{L} in split patterns
std::span<const CodePointRange> NumberRanges();  // \p{N} in split patterns
std::span<const CodePointRange> SpaceRanges();   // \s everywhere
std::span<const CodePointRange> WordRanges();    // \w around added tokens that are single words

// Canonical combining classes other than 0.
struct CombiningRange {
  char32_t first;
  char32_t last;  // included
  uint8_t combining_class;
};
std::span<const CombiningRange> CombiningRanges();

// One step of canonical decomposition, Hangul left out.
struct Decomposition {
  char32_t composed;
  char32_t first;
  char32_t second;  // 0: `first` alone
  bool recomposes;  // whether NFC puts the two together again
};
std::span<const Decomposition> Decompositions();

}  // namespace hearth
