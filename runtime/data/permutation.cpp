#include "runtime/data/permutation.h"

#include <cmath>

#include "kernels/core/check.h"
#include "kernels/core/philox.h"

namespace hearth {

namespace {

// Two elements of one row of the grid stay neighbours with probability rows^-(rounds/2): with fewer
// rounds that shows in data of a few dozen samples.
constexpr uint32_t kRounds = 10;
constexpr int64_t kMaxSize = int64_t{1} << 62;
// Fourth counter words that RandomStream cannot form: its use field never holds 15.
constexpr uint32_t kKeyTag = 0xF0000u | 0xF000u;
constexpr uint32_t kRoundTag = 0xF0000u | 0xF001u;

uint64_t FirstWord(uint64_t key, const Philox4& counter) {
  const Philox4 draw = Philox4x32(key, counter);
  return uint64_t{draw[1]} << 32 | draw[0];
}

uint64_t CeilSqrt(uint64_t value) {
  uint64_t root = static_cast<uint64_t>(std::sqrt(static_cast<double>(value)));
  while (root > 0 && (root - 1) * (root - 1) >= value) --root;
  while (root * root < value) ++root;
  return root;
}

}  // namespace

Permutation::Permutation(const Key& key, int64_t size) : size_(size) {
  CHECK(size >= 1 && size <= kMaxSize, "a permutation of {} elements", size);
  CHECK(key.pass >= 0, "pass {}", key.pass);
  columns_ = CeilSqrt(static_cast<uint64_t>(size));
  rows_ = (static_cast<uint64_t>(size) + columns_ - 1) / columns_;
  const uint64_t pass = static_cast<uint64_t>(key.pass);
  const uint64_t stream_key =
      FirstWord(key.seed, {key.stream, static_cast<uint32_t>(key.use), 0, kKeyTag});
  key_ = FirstWord(stream_key,
                   {static_cast<uint32_t>(pass), static_cast<uint32_t>(pass >> 32), 1, kKeyTag});
}

uint64_t Permutation::Round(uint64_t index) const {
  uint64_t column = index % columns_;
  uint64_t row = index / columns_;
  for (uint32_t round = 0; round < kRounds; ++round) {
    const bool move_column = round % 2 == 0;
    const uint64_t fixed = move_column ? row : column;
    const uint64_t shift = FirstWord(
        key_, {static_cast<uint32_t>(fixed), static_cast<uint32_t>(fixed >> 32), round, kRoundTag});
    if (move_column) {
      column = (column + shift % columns_) % columns_;
    } else {
      row = (row + shift % rows_) % rows_;
    }
  }
  return row * columns_ + column;
}

int64_t Permutation::operator()(int64_t index) const {
  CHECK(index >= 0 && index < size_, "index {} of a permutation of {}", index, size_);
  uint64_t image = static_cast<uint64_t>(index);
  do {
    image = Round(image);
  } while (image >= static_cast<uint64_t>(size_));
  return static_cast<int64_t>(image);
}

}  // namespace hearth
