#include "kernels/api/table_line.h"

#include <algorithm>
#include <charconv>

#include "kernels/core/check.h"

namespace hearth {

namespace {

constexpr std::string_view kCheckName = "check=";
constexpr int64_t kCheckDigits = 8;

// The whole of `text` as a number.
bool ReadAll(std::string_view text, int base, auto& value) {
  if (text.find_first_not_of("0123456789abcdef") != std::string_view::npos) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

// FNV-1a: finds damage, not malice.
uint64_t Checksum(std::string_view text) {
  uint32_t hash = 2166136261u;
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash;
}

// Cuts `text` at the first `separator`; all of it where there is none.
std::string_view TakeUntil(char separator, std::string_view& text) {
  const size_t end = std::min(text.find(separator), text.size());
  const std::string_view taken = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return taken;
}

}  // namespace

std::string SealTableLine(std::string line) {
  line += ' ';
  return Format("{}{}{}\n", line, kCheckName, PrintHex(Checksum(line), kCheckDigits));
}

void ForEachTableLine(std::string_view text,
                      const std::function<void(std::string_view, int64_t)>& visit) {
  for (int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = TakeUntil('\n', text);
    if (!line.empty()) visit(line, number);
  }
}

void FailTableLine(std::string_view table, int64_t number, std::string what) {
  std::replace_if(
      what.begin(), what.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; }, '?');
  throw IoError(Format("{}, line {}: {}", table, number, what));
}

TableLine::TableLine(std::string_view table, std::string_view start, std::string_view line,
                     int64_t number)
    : table_(table), number_(number) {
  const size_t check = line.rfind(kCheckName);
  uint64_t checksum = 0;
  if (check == std::string_view::npos || line.size() != check + kCheckName.size() + kCheckDigits ||
      !ReadHex(line.substr(check + kCheckName.size()), checksum) ||
      checksum != Checksum(line.substr(0, check))) {
    FailTableLine(table_, number_, "damaged: its checksum is absent or another");
  }
  rest_ = line.substr(0, check);
  if (TakeUntil(' ', rest_) != start) {
    FailTableLine(table_, number_, Format("does not begin {}", start));
  }
}

void TableLine::Take(std::string_view name, const std::function<bool(std::string_view)>& read) {
  const std::string_view word = TakeUntil(' ', rest_);
  if (!word.starts_with(name) || word.substr(name.size(), 1) != "=" ||
      !read(word.substr(name.size() + 1))) {
    FailTableLine(table_, number_, Format("'{}' where {}= was expected", word, name));
  }
}

void TableLine::End() const {
  if (!rest_.empty()) FailTableLine(table_, number_, Format("'{}' is too much", rest_));
}

std::string PrintNumber(int64_t value) { return std::to_string(value); }

bool ReadNumber(std::string_view text, int64_t& value) { return ReadAll(text, 10, value); }

std::string PrintHex(uint64_t value, int64_t digits) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(static_cast<size_t>(digits), '0');
  for (auto digit = text.rbegin(); digit != text.rend(); ++digit, value >>= 4) {
    *digit = kDigits[value & 15];
  }
  return text;
}

bool ReadHex(std::string_view text, uint64_t& value) { return ReadAll(text, 16, value); }

}  // namespace hearth
