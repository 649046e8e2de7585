#include "kernels/api/attention_table.h"

#include <set>
#include <utility>

#include "kernels/api/table_line.h"
#include "kernels/core/check.h"

namespace hearth {

namespace {

constexpr std::string_view kTableName = "attention table";
constexpr std::string_view kLineStart = "attention/1";
constexpr double kClearlyFaster = 0.97;

// Calls visit(name, field) for every field of a key.
void ForEachField(auto& key, const auto& visit) {
  visit("heads", key.heads);
  visit("kv_heads", key.kv_heads);
  visit("head_dim", key.head_dim);
  visit("sequence_len", key.sequence_len);
  visit("sequences", key.sequences);
  visit("tokens", key.tokens);
}

bool ReadProvider(std::string_view text, AttentionProvider& value) {
  for (const AttentionProvider provider : {AttentionProvider::kOwn, AttentionProvider::kCudnn}) {
    value = provider;
    if (Name(provider) == text) return true;
  }
  return false;
}

AttentionTableEntry ParseLine(std::string_view text, int64_t number) {
  TableLine line(kTableName, kLineStart, text, number);
  AttentionTableEntry entry;
  ForEachField(entry.key, [&](std::string_view name, int64_t& field) {
    line.Take(name, [&](std::string_view word) { return ReadNumber(word, field); });
  });
  line.Take("provider", [&](std::string_view word) { return ReadProvider(word, entry.provider); });
  line.Take("library", [&](std::string_view word) {
    entry.library = word;
    return !word.empty();
  });
  line.End();
  return entry;
}

}  // namespace

std::string Describe(const AttentionKey& key) {
  std::string text;
  ForEachField(key, [&](std::string_view name, int64_t field) {
    text += Format("{}{}={}", text.empty() ? "" : " ", name, field);
  });
  return text;
}

std::string PrintAttentionTable(std::span<const AttentionTableEntry> entries) {
  std::string text;
  for (const AttentionTableEntry& entry : entries) {
    CHECK(entry.library.find_first_of(" \n") == std::string::npos && !entry.library.empty() &&
              entry.provider != AttentionProvider::kAuto,
          "attention by '{}' of '{}'", Name(entry.provider), entry.library);
    text += SealTableLine(Format("{} {} provider={} library={}", kLineStart, Describe(entry.key),
                                 Name(entry.provider), entry.library));
  }
  return text;
}

std::vector<AttentionTableEntry> ParseAttentionTable(std::string_view text) {
  std::vector<AttentionTableEntry> entries;
  std::set<AttentionKey> keys;
  ForEachTableLine(text, [&](std::string_view line, int64_t number) {
    if (!IsAttentionTableLine(line)) return;
    entries.push_back(ParseLine(line, number));
    if (!keys.insert(entries.back().key).second) {
      FailTableLine(kTableName, number,
                    Format("{} for the second time", Describe(entries.back().key)));
    }
  });
  return entries;
}

bool IsAttentionTableLine(std::string_view line) { return line.starts_with("attention/"); }

bool PrefersCudnn(double own_microseconds, double cudnn_microseconds) {
  return cudnn_microseconds < kClearlyFaster * own_microseconds;
}

}  // namespace hearth
