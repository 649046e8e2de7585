// Byte-pair encoding of single words: the pair of lowest rank is merged first, the leftmost of
// equals.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace hearth {

// std::string keys found by std::string_view.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using StringIds = std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>;

struct Merge {
  int32_t rank = -1;  // -1: the two tokens do not merge
  int32_t token = 0;  // what they become
};

// Pairs of tokens in a hash table with open addressing. A pair that is added twice has the later
// rank.
class MergeTable {
 public:
  explicit MergeTable(size_t merge_count);

  void Add(int32_t left, int32_t right, Merge merge);
  Merge Find(int32_t left, int32_t right) const {
    return slots_[SlotOf(PairKey(left, right))].merge;
  }

 private:
  struct Slot {
    uint64_t key = 0;  // meaningless where the rank is -1
    Merge merge;
  };

  static uint64_t PairKey(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  // Where the key is, or would be.
  size_t SlotOf(uint64_t key) const;

  std::vector<Slot> slots_;  // a power of two, at most half full
  int shift_;                // 64 less the bits of an index
};

class BpeModel {
 public:
  // `byte_tokens`: the token of each byte, -1 for bytes that no UTF-8 has. `whole_words`: words
  // that are one token whatever the merges say (ignore_merges); may be empty.
  BpeModel(const std::array<int32_t, 256>& byte_tokens, MergeTable merges, StringIds whole_words);

  // Memory of EncodeWord, kept from word to word.
  struct Scratch {
    struct Symbol {
      int32_t token;
      int32_t previous;  // index, -1 at the front
      int32_t next;      // index, -1 at the end
      Merge merge;       // with the next symbol
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;  // a heap of rank << 32 | index, smallest first
  };

  // Appends the tokens of `word`. Time is in the order of n log n.
  void EncodeWord(std::string_view word, Scratch* scratch, std::vector<int32_t>* tokens) const;

 private:
  void StartWord(std::string_view word, Scratch* scratch) const;

  std::array<int32_t, 256> byte_tokens_;
  MergeTable merges_;
  StringIds whole_words_;
};

}  // namespace hearth
