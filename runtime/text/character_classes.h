// Properties of all code points in one flat table.
#pragma once

#include <cstdint>
#include <vector>

namespace hearth {

enum CharacterClass : uint8_t {
  kLetter = 1,
  kNumber = 2,
  kSpace = 4,
  kWord = 8,
  // Not certain to stay as it is, and apart from what precedes it, under NFC.
  kNfcActive = 16,
};

// About 1.1 MB.
class CharacterClasses {
 public:
  CharacterClasses();

  // CharacterClass bits; `code_point` at most U+10FFFF.
  uint8_t Of(char32_t code_point) const { return classes_[code_point]; }

 private:
  std::vector<uint8_t> classes_;
};

}  // namespace hearth
