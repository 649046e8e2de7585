#include "runtime/config/suggestion.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace hearth {
namespace {

constexpr size_t kLongestWord = 64;  // nothing longer is a misspelt key

std::string Folded(std::string_view word) {
  std::string folded(word);
  for (char& c : folded) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == '-') c = '_';
  }
  return folded;
}

// Optimal string alignment distance; anything above `most` where it is more than that.
size_t EditDistance(const std::string& a, const std::string& b, size_t most) {
  size_t least_before = 0;  // of the row before
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    // A later row is reached from one of two that follow each other.
    const size_t least = *std::min_element(row.begin(), row.end());
    if (least > most && least_before > most) return least;
    least_before = least;
    before_last.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

}  // namespace

std::string_view ClosestWord(std::string_view word,
                             const std::vector<std::string_view>& candidates) {
  if (word.empty() || word.size() > kLongestWord) return "";
  const std::string folded = Folded(word);
  size_t best_distance = std::max<size_t>(1, folded.size() / 3);
  std::string_view best;
  for (const std::string_view candidate : candidates) {
    // No distance is smaller than that of the lengths.
    const size_t least =
        std::max(folded.size(), candidate.size()) - std::min(folded.size(), candidate.size());
    if (least > best_distance) continue;
    const size_t distance = EditDistance(folded, Folded(candidate), best_distance);
    if (distance < best_distance || (distance == best_distance && best.empty())) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string Printable(std::string_view text) {
  constexpr size_t kLimit = 80;
  std::string shown;
  for (const char c : text.substr(0, kLimit)) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte == 0x7f) {
      shown += fmt::format("\\x{:02x}", byte);
    } else {
      shown += c;
    }
  }
  if (text.size() > kLimit) {
    // Not in the middle of a character.
    while (!shown.empty() && (static_cast<uint8_t>(shown.back()) & 0xC0) == 0x80) shown.pop_back();
    if (!shown.empty() && (static_cast<uint8_t>(shown.back()) & 0x80) != 0) shown.pop_back();
    shown += "...";
  }
  return shown;
}

}  // namespace hearth
