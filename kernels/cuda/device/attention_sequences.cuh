// Which sequence, and which of its blocks of rows, a thread block works on. The host knows neither
// lengths nor number of the sequences, so a grid is made for tokens alone and every warp looks its
// work up, 32 offsets at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cuda/device/reduce.cuh"

namespace hearth::cuda {

// Offsets as in AttentionForwardArgs. Where they break the rules (fall, or exceed the tokens),
// nothing out of bounds is touched, but what is computed has no meaning.
struct SequenceOffsets {
  const int32_t* offsets;  // [capacity + 1]
  int64_t capacity;
  int64_t tokens;

  // Clamped, so that no address depends on what the array holds.
  __device__ int64_t At(int64_t sequence) const {
    return min(max(int64_t{offsets[sequence]}, int64_t{0}), tokens);
  }
};

// The first index in [low, high] for which is_true holds; it must hold from there on and is taken
// for granted at `high`. By a whole warp, which gets one answer.
template <typename Predicate>
__device__ int64_t WarpLowerBound(int64_t low, int64_t high, const Predicate& is_true) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  while (low < high) {
    const int64_t step = (high - low + kWarp - 1) / kWarp;
    const int64_t probe = low + (lane + 1) * step - 1;
    const unsigned found = __ballot_sync(kAllLanes, probe >= high || is_true(probe));
    const int before = found == 0 ? kWarp : __ffs(static_cast<int>(found)) - 1;
    low += before * step;
    high = min(high, low + step - 1);
  }
  return min(low, high);
}

// The number of sequences that are not the unused tail: the first whose offset is the last offset.
// Most often few of many, so the search starts at the front in steps that double.
__device__ inline int64_t WarpUsedSequences(const SequenceOffsets& sequences) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t real = sequences.At(sequences.capacity);
  const auto is_tail = [&](int64_t index) { return sequences.At(index) >= real; };
  const int64_t probe = (int64_t{1} << lane) - 1;
  const unsigned found = __ballot_sync(kAllLanes, probe >= sequences.capacity || is_tail(probe));
  const int before = found == 0 ? kWarp : __ffs(static_cast<int>(found)) - 1;
  const int64_t low = before == 0 ? 0 : int64_t{1} << (before - 1);
  const int64_t high = min((int64_t{1} << before) - 1, sequences.capacity);
  return WarpLowerBound(low, high, is_tail);
}

// A block of rows of a sequence, or of the padding behind the last one.
struct RowBlock {
  int begin = 0;      // the sequence's first token
  int length = 0;     // and its number of tokens
  int first_row = 0;  // of the block, counted from the sequence's first; may lie behind the last
  bool is_padding = false;
};

// Numbers the blocks of kRows rows: sequence s has those from begin / kRows + s on, which is room
// for all its blocks and at times one more, empty; the padding follows as one more sequence.
template <int kRows>
class RowBlocks {
 public:
  __device__ explicit RowBlocks(const SequenceOffsets& sequences)
      : sequences_(sequences), used_(WarpUsedSequences(sequences)) {}

  __device__ int64_t count() const { return sequences_.tokens / kRows + used_ + 1; }

  // The `index`-th block in the order of the rows' places in their sequences: sequences of one
  // length have their first blocks first, then their second ones, and so on. A permutation of
  // [0, count()). Blocks that take long should start first, or a few of them end a kernel alone.
  __device__ int64_t ByPlace(int64_t index) const {
    if (used_ == 0) return index;
    const auto used = static_cast<uint32_t>(used_);
    const auto numbers = static_cast<uint32_t>(FirstNumber(used_));
    const auto i = static_cast<uint32_t>(index);
    const uint32_t per_sequence = numbers / used;
    return i < used * per_sequence ? i % used * per_sequence + i / used : i;
  }

  // By a whole warp; number in [0, count()).
  __device__ RowBlock Find(int64_t number) const {
    const int64_t sequence =
        WarpLowerBound(1, used_ + 1, [&](int64_t s) { return FirstNumber(s) > number; }) - 1;
    RowBlock block;
    const int64_t begin = sequences_.At(sequence);
    block.begin = static_cast<int>(begin);
    block.is_padding = sequence == used_;
    const int64_t end = block.is_padding ? sequences_.tokens : sequences_.At(sequence + 1);
    block.length = static_cast<int>(end - begin);
    const int64_t place = max(number - FirstNumber(sequence), int64_t{0});
    block.first_row = static_cast<int>(place * kRows);
    return block;
  }

 private:
  __device__ int64_t FirstNumber(int64_t sequence) const {
    return sequences_.At(sequence) / kRows + sequence;
  }
  SequenceOffsets sequences_;
  int64_t used_;
};

// How many thread blocks share the blocks of rows, of which there are at most
// tokens / kRows + sequences + 1: enough for one each where sequences are a few blocks long; where
// they are shorter, a thread block takes several.
template <int kRows>
int64_t RowBlockSlots(int64_t tokens, int64_t capacity) {
  const int64_t full = DivUp(tokens, kRows);
  return full + std::min(capacity, full / 4 + 16) + 1;
}

// The sequence of one token: [begin, end), empty for padding. By a whole warp.
struct TokenSequence {
  int64_t begin = 0;
  int64_t end = 0;
};

__device__ inline TokenSequence WarpFindSequence(const SequenceOffsets& sequences, int64_t token) {
  const int64_t next = WarpLowerBound(1, sequences.capacity + 1,
                                      [&](int64_t index) { return sequences.At(index) > token; });
  if (next > sequences.capacity || sequences.At(next - 1) > token) return {};
  return {sequences.At(next - 1), sequences.At(next)};
}

}  // namespace hearth::cuda
