// The spelling of bytes as printable characters that byte-level BPE files use (GPT-2's): visible
// Latin-1 characters stand for themselves, the other 68 bytes for U+0100 and up.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hearth {

class ByteAlphabet {
 public:
  ByteAlphabet();

  char32_t CharacterOf(uint8_t byte) const { return characters_[byte]; }
  // The bytes that `token`, valid UTF-8, spells; nothing when another character is in it.
  std::optional<std::string> BytesOf(std::string_view token) const;

 private:
  static constexpr char32_t kCharacters = 0x100 + 68;

  std::array<char32_t, 256> characters_;
  std::array<int16_t, kCharacters> bytes_;  // -1: no byte
};

}  // namespace hearth
