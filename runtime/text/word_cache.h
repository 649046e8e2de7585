// The tokens of words that were seen before. Forgets everything when it is full.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 64;  // longer words seldom come again

  WordCache();

  // Valid until the next Add.
  std::optional<std::span<const int32_t>> Find(std::string_view word) const;
  // For words that Find did not find.
  void Add(std::string_view word, std::span<const int32_t> tokens);

 private:
  static constexpr size_t kFirstSlots = 256;
  static constexpr size_t kMaxSlots = size_t{1} << 17;  // with their words about 6 MiB

  struct Slot {
    uint64_t hash = 0;
    uint32_t word_begin = 0;
    uint32_t tokens_begin = 0;
    uint16_t word_bytes = 0;  // 0: empty
    uint16_t token_count = 0;
  };

  void Grow();
  size_t FreeSlot(uint64_t hash) const;

  std::vector<Slot> slots_;
  size_t used_ = 0;
  std::string words_;
  std::vector<int32_t> tokens_;
};

}  // namespace hearth
