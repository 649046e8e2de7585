// Text cut at blank lines, duplicates dropped: how the quickstart's corpus is made.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "runtime/data/hashing.h"

namespace hearth {

// Calls `visit` with each paragraph of `text` in order: the lines between blank lines (lines of
// white space only), the indentation of the first kept, white space at the end left out. `visit`
// returns false to stop.
void ForEachParagraph(std::string_view text, const std::function<bool(std::string_view)>& visit);

// Keeps each paragraph once over all documents added, and deals every n-th kept one to the holdout.
class ParagraphFilter {
 public:
  struct Options {
    int64_t max_bytes = 0;      // of all text returned; 0: no limit
    int64_t holdout_every = 0;  // 0: no holdout
  };
  struct Split {
    std::string train;
    std::string holdout;
  };

  explicit ParagraphFilter(const Options& options) : options_(options) {}

  // What remains of a document: its paragraphs joined by a blank line, ending with a newline; empty
  // when none remains.
  Split Add(std::string_view document);
  // The limit was reached: nothing more will be kept.
  bool full() const { return full_; }
  int64_t dropped() const { return dropped_; }

 private:
  struct HashOfHash {
    size_t operator()(const Hash128& hash) const { return static_cast<size_t>(hash.low); }
  };

  Options options_;
  bool full_ = false;
  int64_t kept_ = 0;
  int64_t kept_bytes_ = 0;
  int64_t dropped_ = 0;
  std::unordered_set<Hash128, HashOfHash> seen_;
};

}  // namespace hearth
