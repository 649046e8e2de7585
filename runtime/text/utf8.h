// UTF-8 as the Unicode standard defines it (no surrogates, no overlong forms, up to U+10FFFF).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hearth {

struct Utf8Character {
  char32_t code_point = 0;
  int length = 0;        // bytes taken, at least 1 where there is text
  bool valid = true;     // false: `length` bytes are no character
  bool complete = true;  // false: the text ends within what could still become a character
};

// The character that begins at text[at]. Where there is none, `length` is that of the maximal
// subpart, which the Unicode standard and Python replace by one U+FFFD.
Utf8Character ReadUtf8(std::string_view text, size_t at);

void AppendUtf8(char32_t code_point, std::string* text);

// Bytes at the front that are below 0x80.
size_t AsciiPrefix(std::string_view text);

// Bytes at the front that are whole valid characters.
size_t ValidUtf8Prefix(std::string_view text);

// Appends `text` with each broken sequence replaced by U+FFFD: Python's
// bytes.decode("utf-8", errors="replace").
void AppendWithReplacement(std::string_view text, std::string* repaired);

}  // namespace hearth
