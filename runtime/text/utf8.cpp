#include "runtime/text/utf8.h"

#include <cstring>

namespace hearth {

namespace {

struct Lead {
  int length = 0;  // 0: no character begins with this byte
  uint8_t second_low = 0x80;
  uint8_t second_high = 0xbf;
};

// Table 3-7 of the Unicode standard: what may follow each first byte.
Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {.length = 1};
  if (byte < 0xc2 || byte > 0xf4) return {};
  if (byte < 0xe0) return {.length = 2};
  if (byte == 0xe0) return {.length = 3, .second_low = 0xa0};
  if (byte == 0xed) return {.length = 3, .second_high = 0x9f};
  if (byte < 0xf0) return {.length = 3};
  if (byte == 0xf0) return {.length = 4, .second_low = 0x90};
  if (byte == 0xf4) return {.length = 4, .second_high = 0x8f};
  return {.length = 4};
}

uint8_t ByteAt(std::string_view text, size_t at) { return static_cast<uint8_t>(text[at]); }

}  // namespace

Utf8Character ReadUtf8(std::string_view text, size_t at) {
  if (at >= text.size()) return {.valid = false, .complete = false};
  const uint8_t first = ByteAt(text, at);
  if (first < 0x80) return {.code_point = first, .length = 1};
  const Lead lead = LeadOf(first);
  if (lead.length == 0) return {.length = 1, .valid = false};
  char32_t code_point = first & (0x7fu >> lead.length);
  for (int i = 1; i < lead.length; ++i) {
    const size_t next = at + static_cast<size_t>(i);
    if (next >= text.size()) return {.length = i, .valid = false, .complete = false};
    const uint8_t byte = ByteAt(text, next);
    const uint8_t low = i == 1 ? lead.second_low : 0x80;
    const uint8_t high = i == 1 ? lead.second_high : 0xbf;
    if (byte < low || byte > high) return {.length = i, .valid = false};
    code_point = code_point << 6 | (byte & 0x3fu);
  }
  return {.code_point = code_point, .length = lead.length};
}

void AppendUtf8(char32_t code_point, std::string* text) {
  const auto append = [text](char32_t byte) { text->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) return append(code_point);
  if (code_point < 0x800) {
    append(0xc0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      append(0xe0 | code_point >> 12);
    } else {
      append(0xf0 | code_point >> 18);
      append(0x80 | (code_point >> 12 & 0x3f));
    }
    append(0x80 | (code_point >> 6 & 0x3f));
  }
  append(0x80 | (code_point & 0x3f));
}

size_t AsciiPrefix(std::string_view text) {
  size_t at = 0;
  for (; at + sizeof(uint64_t) <= text.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, text.data() + at, sizeof word);
    if ((word & 0x8080808080808080u) != 0) break;
  }
  while (at < text.size() && ByteAt(text, at) < 0x80) ++at;
  return at;
}

size_t ValidUtf8Prefix(std::string_view text) {
  size_t at = 0;
  for (;;) {
    at += AsciiPrefix(text.substr(at));
    while (at < text.size() && ByteAt(text, at) >= 0x80) {
      const Utf8Character character = ReadUtf8(text, at);
      if (!character.valid) return at;
      at += static_cast<size_t>(character.length);
    }
    if (at >= text.size()) return at;
  }
}

void AppendWithReplacement(std::string_view text, std::string* repaired) {
  while (!text.empty()) {
    const size_t valid = ValidUtf8Prefix(text);
    repaired->append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) return;
    AppendUtf8(0xfffd, repaired);
    text.remove_prefix(static_cast<size_t>(ReadUtf8(text, 0).length));
  }
}

}  // namespace hearth
