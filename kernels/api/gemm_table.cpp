#include "kernels/api/gemm_table.h"

#include <set>
#include <utility>

#include "kernels/api/attention_table.h"
#include "kernels/api/table_line.h"
#include "kernels/core/check.h"

namespace hearth {

namespace {

constexpr std::string_view kTableName = "matmul table";
constexpr std::string_view kLineStart = "matmul/1";
constexpr std::string_view kNoType = "none";

std::string Print(int64_t value) { return PrintNumber(value); }
bool Read(std::string_view text, int64_t& value) { return ReadNumber(text, value); }

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

constexpr int64_t kWordDigits = 16;

std::string Print(const GemmAlgorithm& value) {
  std::string text;
  for (uint64_t word : value) text += PrintHex(word, kWordDigits);
  return text;
}
bool Read(std::string_view text, GemmAlgorithm& value) {
  if (std::ssize(text) != std::ssize(value) * kWordDigits) return false;
  for (size_t i = 0; i < value.size(); ++i) {
    if (!ReadHex(text.substr(i * kWordDigits, kWordDigits), value[i])) return false;
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

GemmTableEntry ParseLine(std::string_view text, int64_t number) {
  TableLine line(kTableName, kLineStart, text, number);
  GemmTableEntry entry;
  ForEachEntryField(entry, [&](std::string_view name, auto& field) {
    line.Take(name, [&](std::string_view word) { return Read(word, field); });
  });
  line.End();
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
    text += SealTableLine(std::move(line));
  }
  return text;
}

std::vector<GemmTableEntry> ParseGemmTable(std::string_view text) {
  std::vector<GemmTableEntry> entries;
  std::set<GemmKey> keys;
  ForEachTableLine(text, [&](std::string_view line, int64_t number) {
    if (IsAttentionTableLine(line)) return;
    entries.push_back(ParseLine(line, number));
    if (!keys.insert(entries.back().key).second) {
      FailTableLine(kTableName, number,
                    Format("{} for the second time", Describe(entries.back().key)));
    }
  });
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
