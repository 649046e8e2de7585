#include "runtime/text/word_cache.h"

#include <xxhash.h>

namespace hearth {

namespace {

uint64_t HashOf(std::string_view word) { return XXH3_64bits(word.data(), word.size()); }

}  // namespace

WordCache::WordCache() : slots_(kFirstSlots) {}

std::optional<std::span<const int32_t>> WordCache::Find(std::string_view word) const {
  const uint64_t hash = HashOf(word);
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask; slots_[i].word_bytes != 0; i = (i + 1) & mask) {
    const Slot& slot = slots_[i];
    if (slot.hash == hash && slot.word_bytes == word.size() &&
        std::string_view(words_.data() + slot.word_begin, slot.word_bytes) == word) {
      return std::span(tokens_).subspan(slot.tokens_begin, slot.token_count);
    }
  }
  return std::nullopt;
}

size_t WordCache::FreeSlot(uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  while (slots_[i].word_bytes != 0) i = (i + 1) & mask;
  return i;
}

void WordCache::Grow() {
  if (slots_.size() == kMaxSlots) {
    slots_.assign(slots_.size(), Slot{});
    words_.clear();
    tokens_.clear();
    used_ = 0;
    return;
  }
  std::vector<Slot> before(slots_.size() * 2);
  before.swap(slots_);
  for (const Slot& slot : before) {
    if (slot.word_bytes != 0) slots_[FreeSlot(slot.hash)] = slot;
  }
}

void WordCache::Add(std::string_view word, std::span<const int32_t> tokens) {
  if (word.empty() || word.size() > kMaxWordBytes) return;
  if (++used_ > slots_.size() / 4 * 3) {
    Grow();
    used_ = used_ == 0 ? 1 : used_;
  }
  const uint64_t hash = HashOf(word);
  slots_[FreeSlot(hash)] = {.hash = hash,
                            .word_begin = static_cast<uint32_t>(words_.size()),
                            .tokens_begin = static_cast<uint32_t>(tokens_.size()),
                            .word_bytes = static_cast<uint16_t>(word.size()),
                            .token_count = static_cast<uint16_t>(tokens.size())};
  words_.append(word);
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

}  // namespace hearth
