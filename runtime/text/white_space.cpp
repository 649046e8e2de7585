#include "runtime/text/white_space.h"

#include <algorithm>
#include <array>

namespace hearth {

namespace {

// All code points with str.isspace() beyond ASCII, in UTF-8.
constexpr std::array<std::string_view, 19> kWideSpaces = {
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
    "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
    "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
    "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};

bool IsNarrowSpace(char c) { return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20); }

}  // namespace

std::string_view TrimWhiteSpace(std::string_view text) {
  const auto leading = [&]() -> size_t {
    if (text.empty()) return 0;
    if (IsNarrowSpace(text.front())) return 1;
    const auto wide = std::ranges::find_if(
        kWideSpaces, [&](std::string_view space) { return text.starts_with(space); });
    return wide == kWideSpaces.end() ? 0 : wide->size();
  };
  const auto trailing = [&]() -> size_t {
    if (text.empty()) return 0;
    if (IsNarrowSpace(text.back())) return 1;
    const auto wide = std::ranges::find_if(
        kWideSpaces, [&](std::string_view space) { return text.ends_with(space); });
    return wide == kWideSpaces.end() ? 0 : wide->size();
  };
  while (const size_t count = leading()) text.remove_prefix(count);
  while (const size_t count = trailing()) text.remove_suffix(count);
  return text;
}

}  // namespace hearth
