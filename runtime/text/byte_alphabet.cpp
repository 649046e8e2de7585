#include "runtime/text/byte_alphabet.h"

#include "runtime/text/utf8.h"

namespace hearth {

ByteAlphabet::ByteAlphabet() {
  bytes_.fill(-1);
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    const char32_t character = visible ? static_cast<char32_t>(byte) : next++;
    characters_[static_cast<size_t>(byte)] = character;
    bytes_[character] = static_cast<int16_t>(byte);
  }
}

std::optional<std::string> ByteAlphabet::BytesOf(std::string_view token) const {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const Utf8Character character = ReadUtf8(token, at);
    if (!character.valid || character.code_point >= kCharacters) return std::nullopt;
    const int16_t byte = bytes_[character.code_point];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    at += static_cast<size_t>(character.length);
  }
  return bytes;
}

}  // namespace hearth
