// How the reference ops touch memory: f32 | bf16 storage, fp32 arithmetic, and cuts of the work
// that depend on the data alone.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "kernels/core/check.h"
#include "kernels/core/tensor_view.h"
#include "kernels/cpu/thread_pool.h"

namespace hearth {

// Calls function(T{}) with T the storage type, float or BFloat16.
template <typename Function>
void WithStorage(DType dtype, Function&& function) {
  if (dtype == DType::kF32) {
    function(float{});
  } else {
    CHECK(dtype == DType::kBF16, "storage type {}", Name(dtype));
    function(BFloat16{});
  }
}

// A value rounded to nearest into the storage type.
template <typename T>
inline T FromFloat(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    // ToBFloat16 without a branch, so that loops over it vectorise.
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40u;
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return {static_cast<uint16_t>(is_nan ? quiet : rounded)};
  }
}

// A value as it is after a trip through the storage type.
template <typename T>
inline float Rounded(float value) {
  return ToFloat(FromFloat<T>(value));
}

// sum of a[i] * b[i] in fp32 over sixteen interleaved partial sums, which vectorise; their order is
// fixed.
inline float DotRow(const float* a, const float* b, int64_t count) {
  constexpr int64_t kLanes = 16;
  float lanes[kLanes] = {};
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  for (int64_t i = whole; i < count; ++i) lanes[i - whole] += a[i] * b[i];
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

template <typename T>
inline void LoadRow(const T* row, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(row[i]);
}

template <typename T>
inline void StoreRow(const float* values, int64_t count, T* row) {
  for (int64_t i = 0; i < count; ++i) row[i] = FromFloat<T>(values[i]);
}

// accumulator[i] = round(accumulator[i] + sum[i]): the one rounding of an accumulated output.
inline void AddToAccumulator(const float* sum, int64_t count, const TensorView& accumulator) {
  WithStorage(accumulator.dtype(), [&](auto storage) {
    using T = decltype(storage);
    T* out = accumulator.as<T>();
    for (int64_t i = 0; i < count; ++i) out[i] = FromFloat<T>(ToFloat(out[i]) + sum[i]);
  });
}

// Calls work(begin, end) for pieces of [0, count) of `piece` items, the last one shorter.
template <typename Work>
void ForEachPiece(ThreadPool& pool, int64_t count, int64_t piece, const Work& work) {
  pool.ForEach(DivUp(count, piece),
               [&](int64_t index) { work(index * piece, std::min(count, (index + 1) * piece)); });
}

// accumulator[column] += the sum over `blocks` rows of partials[blocks, columns], in rising order,
// rounded once.
inline void AddPartialSums(ThreadPool& pool, const float* partials, int64_t blocks, int64_t columns,
                           const TensorView& accumulator) {
  constexpr int64_t kColumns = 256;
  ForEachPiece(pool, columns, kColumns, [&](int64_t begin, int64_t end) {
    float sum[kColumns] = {};
    for (int64_t block = 0; block < blocks; ++block) {
      const float* row = partials + block * columns + begin;
      for (int64_t i = 0; i < end - begin; ++i) sum[i] += row[i];
    }
    AddToAccumulator(sum, end - begin, accumulator.Flat(begin, end - begin));
  });
}

// Items of a piece so that it holds about 16,384 elements: some tens of microseconds of work.
inline int64_t PieceOfRows(int64_t columns) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, columns));
}

}  // namespace hearth
