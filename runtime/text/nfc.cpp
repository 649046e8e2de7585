#include "runtime/text/nfc.h"

#include <algorithm>

#include "runtime/text/unicode_tables.h"
#include "runtime/text/utf8.h"

namespace hearth {

namespace {

constexpr char32_t kSyllables = kHangulLeads * kHangulVowels * kHangulTails;

uint64_t PairKey(char32_t first, char32_t second) { return uint64_t{first} << 32 | second; }

}  // namespace

NfcNormalizer::NfcNormalizer() {
  for (const Decomposition& entry : Decompositions()) {
    decompositions_.emplace(entry.composed, Pair{entry.first, entry.second});
    if (entry.recomposes) {
      compositions_.emplace(PairKey(entry.first, entry.second), entry.composed);
    }
  }
  for (const CombiningRange& range : CombiningRanges()) {
    for (char32_t code_point = range.first; code_point <= range.last; ++code_point) {
      combining_classes_.emplace(code_point, range.combining_class);
    }
  }
}

bool NfcNormalizer::IsCertain(std::string_view text, const CharacterClasses& classes) {
  for (size_t at = AsciiPrefix(text); at < text.size();) {
    const Utf8Character character = ReadUtf8(text, at);
    if ((classes.Of(character.code_point) & kNfcActive) != 0) return false;
    at += static_cast<size_t>(character.length);
  }
  return true;
}

// An inactive character is a boundary: nothing before it changes with what follows. So only the
// stretches from the last boundary before an active character to the next one are worked on.
void NfcNormalizer::Append(std::string_view text, const CharacterClasses& classes,
                           std::string* out) const {
  size_t copied = 0;    // everything before it is in `out`
  size_t boundary = 0;  // the last inactive character, or the end of the last stretch
  for (size_t at = 0; at < text.size();) {
    Utf8Character character = ReadUtf8(text, at);
    if ((classes.Of(character.code_point) & kNfcActive) == 0) {
      boundary = at;
      at += static_cast<size_t>(character.length);
      continue;
    }
    out->append(text.substr(copied, boundary - copied));
    while (at < text.size()) {
      character = ReadUtf8(text, at);
      if ((classes.Of(character.code_point) & kNfcActive) == 0) break;
      at += static_cast<size_t>(character.length);
    }
    AppendSegment(text.substr(boundary, at - boundary), out);
    copied = boundary = at;
  }
  out->append(text.substr(copied));
}

void NfcNormalizer::AppendSegment(std::string_view segment, std::string* out) const {
  std::vector<Character> characters;
  for (size_t at = 0; at < segment.size();) {
    const Utf8Character character = ReadUtf8(segment, at);
    Decompose(character.code_point, &characters);
    at += static_cast<size_t>(character.length);
  }
  // Canonical order: marks between two starters by class, those of one class as they came.
  const auto by_class = [](const Character& a, const Character& b) {
    return a.combining_class < b.combining_class;
  };
  const auto is_starter = [](const Character& c) { return c.combining_class == 0; };
  for (auto begin = characters.begin(); begin != characters.end();) {
    const auto marks = std::find_if_not(begin, characters.end(), is_starter);
    begin = std::find_if(marks, characters.end(), is_starter);
    std::stable_sort(marks, begin, by_class);
  }
  Compose(&characters);
  for (const Character& character : characters) AppendUtf8(character.code_point, out);
}

void NfcNormalizer::Decompose(char32_t code_point, std::vector<Character>* out) const {
  if (code_point >= kHangulSyllableBase && code_point < kHangulSyllableBase + kSyllables) {
    const char32_t syllable = code_point - kHangulSyllableBase;
    const char32_t tail = syllable % kHangulTails;
    out->push_back({kHangulLeadBase + syllable / (kHangulVowels * kHangulTails), 0});
    out->push_back({kHangulVowelBase + syllable / kHangulTails % kHangulVowels, 0});
    if (tail != 0) out->push_back({kHangulTailBase + tail, 0});
    return;
  }
  const auto entry = decompositions_.find(code_point);
  if (entry == decompositions_.end()) {
    out->push_back({code_point, CombiningClass(code_point)});
    return;
  }
  Decompose(entry->second.first, out);
  if (entry->second.second != 0) Decompose(entry->second.second, out);
}

void NfcNormalizer::Compose(std::vector<Character>* characters) const {
  std::vector<Character>& all = *characters;
  size_t written = 0;
  size_t starter = 0;
  bool has_starter = false;
  for (const Character character : all) {
    // Blocked by a mark of the same or a higher class in between.
    const bool reaches =
        has_starter &&
        (written == starter + 1 || all[written - 1].combining_class < character.combining_class);
    const char32_t composed =
        reaches ? Composed(all[starter].code_point, character.code_point) : char32_t{0};
    if (composed != 0) {
      all[starter].code_point = composed;
      continue;
    }
    if (character.combining_class == 0) {
      starter = written;
      has_starter = true;
    }
    all[written++] = character;
  }
  all.resize(written);
}

char32_t NfcNormalizer::Composed(char32_t first, char32_t second) const {
  if (first >= kHangulLeadBase && first < kHangulLeadBase + kHangulLeads &&
      second >= kHangulVowelBase && second < kHangulVowelBase + kHangulVowels) {
    const char32_t lead = first - kHangulLeadBase;
    return kHangulSyllableBase + (lead * kHangulVowels + second - kHangulVowelBase) * kHangulTails;
  }
  if (first >= kHangulSyllableBase && first < kHangulSyllableBase + kSyllables &&
      (first - kHangulSyllableBase) % kHangulTails == 0 && second > kHangulTailBase &&
      second < kHangulTailBase + kHangulTails) {
    return first + second - kHangulTailBase;
  }
  const auto entry = compositions_.find(PairKey(first, second));
  return entry == compositions_.end() ? 0 : entry->second;
}

uint8_t NfcNormalizer::CombiningClass(char32_t code_point) const {
  const auto entry = combining_classes_.find(code_point);
  return entry == combining_classes_.end() ? 0 : entry->second;
}

}  // namespace hearth
