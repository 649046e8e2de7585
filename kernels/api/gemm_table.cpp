#include "kernels/api/gemm_table.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "kernels/core/check.h"

namespace hearth {

namespace {

constexpr std::string_view kLineStart = "matmul/1";
constexpr std::string_view kCheckName = "check=";
constexpr std::string_view kNoType = "none";

std::string Hex(uint64_t value, int digits) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(static_cast<size_t>(digits), '0');
  for (auto digit = text.rbegin(); digit != text.rend(); ++digit, value >>= 4) {
    *digit = kDigits[value & 15];
  }
  return text;
}

// The whole of `text` as a number; digits and lower case alone.
bool ReadNumber(std::string_view text, int base, auto& value) {
  if (text.find_first_not_of("0123456789abcdef") != std::string_view::npos) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

std::string Print(int64_t value) { return std::to_string(value); }
bool Read(std::string_view text, int64_t& value) { return ReadNumber(text, 10, value); }

std::string Print(bool value) { return value ? "1" : "0"; }
bool Read(std::string_view text, bool& value) {
  value = text == "1";
  return text == "0" || text == "1";
}

std::string Print(DType value) { return std::string(Name(value)); }
bool Read(std::string_view text, DType& value) {
  for (DType type : {DType::kF32, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2}) {
    value = type;
    if (Name(type) == text) return true;
  }
  return false;
}

std::string Print(const std::optional<DType>& value) {
  return value ? Print(*value) : std::string(kNoType);
}
bool Read(std::string_view text, std::optional<DType>& value) {
  value.reset();
  return text == kNoType || Read(text, value.emplace());
}

std::string Print(const std::string& value) { return value; }
bool Read(std::string_view text, std::string& value) {
  value = text;
  return !text.empty();
}

constexpr size_t kWordDigits = 16;

std::string Print(const GemmAlgorithm& value) {
  std::string text;
  for (uint64_t word : value) text += Hex(word, kWordDigits);
  return text;
}
bool Read(std::string_view text, GemmAlgorithm& value) {
  if (text.size() != value.size() * kWordDigits) return false;
  for (size_t i = 0; i < value.size(); ++i) {
    if (!ReadNumber(text.substr(i * kWordDigits, kWordDigits), 16, value[i])) return false;
  }
  return true;
}

// Calls visit(name, field) for every field of a key.
void ForEachField(auto& key, const auto& visit) {
  visit("m", key.m);
  visit("n", key.n);
  visit("k", key.k);
  visit("a", key.a);
  visit("b", key.b);
  visit("out", key.out);
  visit("a_transposed", key.a_transposed);
  visit("b_transposed", key.b_transposed);
  visit("bias", key.bias);
  visit("accumulate", key.accumulate);
  visit("fast_accumulation", key.fast_accumulation);
  visit("alignment", key.alignment);
}

void ForEachEntryField(auto& entry, const auto& visit) {
  ForEachField(entry.key, visit);
  visit("library", entry.library);
  visit("algorithm", entry.algorithm);
}

// FNV-1a: finds damage, not malice.
uint32_t Checksum(std::string_view text) {
  uint32_t hash = 2166136261u;
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash;
}

// One line of text whatever the table contains.
[[noreturn]] void Fail(int64_t line, std::string what) {
  std::replace_if(
      what.begin(), what.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; }, '?');
  throw IoError(Format("matmul table, line {}: {}", line, what));
}

// Cuts `text` at the first `separator`; all of it where there is none.
std::string_view TakeUntil(char separator, std::string_view& text) {
  const size_t end = std::min(text.find(separator), text.size());
  const std::string_view taken = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return taken;
}

GemmTableEntry ParseLine(std::string_view line, int64_t number) {
  const size_t check = line.rfind(kCheckName);
  uint32_t checksum = 0;
  if (check == std::string_view::npos ||
      line.size() != check + kCheckName.size() + kWordDigits / 2 ||
      !ReadNumber(line.substr(check + kCheckName.size()), 16, checksum) ||
      checksum != Checksum(line.substr(0, check))) {
    Fail(number, "damaged: its checksum is absent or another");
  }
  line = line.substr(0, check);
  if (TakeUntil(' ', line) != kLineStart) Fail(number, Format("does not begin {}", kLineStart));
  GemmTableEntry entry;
  ForEachEntryField(entry, [&](std::string_view name, auto& field) {
    const std::string_view word = TakeUntil(' ', line);
    if (!word.starts_with(name) || word.substr(name.size(), 1) != "=" ||
        !Read(word.substr(name.size() + 1), field)) {
      Fail(number, Format("'{}' where {}= was expected", word, name));
    }
  });
  if (!line.empty()) Fail(number, Format("'{}' is too much", line));
  return entry;
}

}  // namespace

std::string Describe(const GemmKey& key) {
  std::string text;
  ForEachField(key, [&](std::string_view name, const auto& field) {
    text += Format("{}{}={}", text.empty() ? "" : " ", name, Print(field));
  });
  return text;
}

std::string PrintGemmTable(std::span<const GemmTableEntry> entries) {
  std::string text;
  for (const GemmTableEntry& entry : entries) {
    CHECK(entry.library.find_first_of(" \n") == std::string::npos && !entry.library.empty(),
          "a library named '{}'", entry.library);
    std::string line(kLineStart);
    ForEachEntryField(entry, [&](std::string_view name, const auto& field) {
      line += Format(" {}={}", name, Print(field));
    });
    line += ' ';
    text += Format("{}{}{}\n", line, kCheckName, Hex(Checksum(line), kWordDigits / 2));
  }
  return text;
}

std::vector<GemmTableEntry> ParseGemmTable(std::string_view text) {
  std::vector<GemmTableEntry> entries;
  std::set<GemmKey> keys;
  for (int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = TakeUntil('\n', text);
    if (line.empty()) continue;
    entries.push_back(ParseLine(line, number));
    if (!keys.insert(entries.back().key).second) {
      Fail(number, Format("{} for the second time", Describe(entries.back().key)));
    }
  }
  return entries;
}

size_t ChooseCandidate(std::span<const GemmTiming> candidates) {
  CHECK(!candidates.empty(), "{} candidates", candidates.size());
  size_t best = 0;
  for (size_t i = 1; i < candidates.size(); ++i) {
    // Not a number is never below.
    if (candidates[i].same_bits && candidates[i].microseconds < candidates[best].microseconds) {
      best = i;
    }
  }
  return best;
}

}  // namespace hearth
