#include "runtime/text/bpe_model.h"

#include <algorithm>
#include <bit>

#include "kernels/core/check.h"

namespace hearth {

MergeTable::MergeTable(size_t merge_count) : slots_(std::bit_ceil(2 * merge_count + 2)) {
  shift_ = 64 - std::countr_zero(slots_.size());
}

size_t MergeTable::SlotOf(uint64_t key) const {
  // Fibonacci hashing: the high bits of the product depend on all bits of the key.
  size_t slot = static_cast<size_t>((key ^ key >> 29) * 0x9e3779b97f4a7c15u >> shift_);
  while (slots_[slot].merge.rank >= 0 && slots_[slot].key != key) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slot;
}

void MergeTable::Add(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = PairKey(left, right);
  slots_[SlotOf(key)] = {.key = key, .merge = merge};
}

BpeModel::BpeModel(const std::array<int32_t, 256>& byte_tokens, MergeTable merges,
                   StringIds whole_words)
    : byte_tokens_(byte_tokens), merges_(std::move(merges)), whole_words_(std::move(whole_words)) {}

void BpeModel::StartWord(std::string_view word, Scratch* scratch) const {
  scratch->symbols.clear();
  scratch->queue.clear();
  const auto count = Narrow<int32_t>(word.size());
  for (int32_t i = 0; i < count; ++i) {
    const int32_t token = byte_tokens_[static_cast<uint8_t>(word[static_cast<size_t>(i)])];
    CHECK(token >= 0, "a byte that no UTF-8 has: {}",
          static_cast<int>(word[static_cast<size_t>(i)]));
    scratch->symbols.push_back(
        {.token = token, .previous = i - 1, .next = i + 1 < count ? i + 1 : -1, .merge = {}});
  }
}

void BpeModel::EncodeWord(std::string_view word, Scratch* scratch,
                          std::vector<int32_t>* tokens) const {
  if (!whole_words_.empty()) {
    if (const auto whole = whole_words_.find(word); whole != whole_words_.end()) {
      tokens->push_back(whole->second);
      return;
    }
  }
  StartWord(word, scratch);
  std::vector<Scratch::Symbol>& symbols = scratch->symbols;
  std::vector<uint64_t>& queue = scratch->queue;
  // Looks up what a symbol and its next would become. An entry of the queue whose rank is not its
  // symbol's any more is stale.
  const auto renew = [&](int32_t index) {
    Scratch::Symbol& symbol = symbols[static_cast<size_t>(index)];
    symbol.merge = {};
    if (symbol.next >= 0) {
      symbol.merge = merges_.Find(symbol.token, symbols[static_cast<size_t>(symbol.next)].token);
    }
    if (symbol.merge.rank < 0) return;
    queue.push_back(uint64_t{static_cast<uint32_t>(symbol.merge.rank)} << 32 |
                    static_cast<uint32_t>(index));
    std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };
  for (size_t i = 0; i < symbols.size(); ++i) renew(static_cast<int32_t>(i));
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const auto rank = static_cast<int32_t>(queue.back() >> 32);
    const auto index = static_cast<int32_t>(queue.back() & 0xffffffffu);
    queue.pop_back();
    Scratch::Symbol& left = symbols[static_cast<size_t>(index)];
    if (left.merge.rank != rank) continue;
    Scratch::Symbol& right = symbols[static_cast<size_t>(left.next)];
    left.token = left.merge.token;
    left.next = right.next;
    right.merge = {};
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = index;
    renew(index);
    if (left.previous >= 0) renew(left.previous);
  }
  for (int32_t i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    tokens->push_back(symbols[static_cast<size_t>(i)].token);
  }
}

}  // namespace hearth
