// Tiles of rows in shared memory and their products on the tensor cores.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/core/bfloat16.h"
#include "kernels/cuda/device/async_copy.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/vector.cuh"

namespace hearth::cuda {

constexpr float kLog2E = 1.4426950408889634f;

// Rows of kHeadDim bf16 in pieces of 16 bytes. Piece p of row r lies at place p ^ (r % 8) of the
// row: eight rows' pieces of one number, which is what a matrix load touches, lie in different
// banks.
template <int kHeadDim>
struct TileLayout {
  static_assert(kHeadDim == 64 || kHeadDim == 128);
  static constexpr int kPieces = kHeadDim / 8;
  static constexpr int kRowBytes = kHeadDim * 2;
  static constexpr int Bytes(int rows) { return rows * kRowBytes; }
  __device__ static uint32_t Offset(int row, int piece) {
    return static_cast<uint32_t>(row * kRowBytes + ((piece ^ (row & 7)) << 4));
  }
};

// One head's rows of a sequence in a tensor [tokens, heads, head_dim].
struct HeadRows {
  int heads;
  int first_token;
  int head;
};

// Such rows as a thread that copies tiles sees them: `from` is the thread's piece of the first row
// it copies, `stride` the elements from row to row.
template <int kHeadDim, int kThreads>
struct TileSource {
  using Layout = TileLayout<kHeadDim>;
  static constexpr int kRowsAtOnce = kThreads / Layout::kPieces;
  static_assert(kRowsAtOnce % 8 == 0);

  __device__ __forceinline__ TileSource(const BFloat16* tensor, const HeadRows& rows)
      : from(tensor + int64_t{rows.first_token + ThreadRow()} * (rows.heads * kHeadDim) +
             rows.head * kHeadDim + ThreadPiece() * 8),
        stride(rows.heads * kHeadDim) {}

  // The rows of the head that many heads further on.
  __device__ __forceinline__ TileSource Moved(int heads) const {
    TileSource moved = *this;
    moved.from += heads * kHeadDim;
    return moved;
  }

  // Starts to copy rows [first, first + kRows) to a tile, with zeros instead of rows from `count`
  // on, whose memory is not read. By all threads of the block.
  template <int kRows>
  __device__ __forceinline__ void CopyAsync(int first, int count, uint32_t tile) const {
    static_assert(kRows % kRowsAtOnce == 0);
    const uint32_t to = tile + Layout::Offset(ThreadRow(), ThreadPiece());
    const BFloat16* row = from + int64_t{first} * stride;
    const int valid = count - first - ThreadRow();
#pragma unroll
    for (int i = 0; i < kRows; i += kRowsAtOnce) {
      CopyAsync16(to + static_cast<uint32_t>(Layout::Bytes(i)), row, i < valid);
      row += kRowsAtOnce * stride;
    }
  }

  __device__ static int ThreadRow() { return static_cast<int>(threadIdx.x) / Layout::kPieces; }
  __device__ static int ThreadPiece() { return static_cast<int>(threadIdx.x) % Layout::kPieces; }

  const BFloat16* from;
  int stride;
};

// fp32 sums of a warp: 16 * kRowTiles rows by 8 * kTiles columns. The lane's four of a tile are in
// row lane / 4 (first two) and row lane / 4 + 8, columns 2 * (lane % 4) and the next one.
template <int kRowTiles, int kTiles>
struct Sums {
  float values[kRowTiles][kTiles][4];
  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) values[r][n][i] = 0.0f;
      }
    }
  }
  __device__ __forceinline__ void Scale(float factor) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) values[r][n][i] *= factor;
      }
    }
  }
};

// Rows of scores belong to queries and columns to keys, or the other way round.
enum class Hidden { kLaterColumns, kLaterRows };

// Scores of a query and a later key become minus infinity.
template <Hidden kHidden, int kRowTiles, int kTiles>
__device__ __forceinline__ void Mask(int first_row, int first_column,
                                     Sums<kRowTiles, kTiles>& scores) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = first_row + 16 * r + lane / 4 + i / 2 * 8;
        const int column = first_column + 8 * n + lane % 4 * 2 + i % 2;
        const bool hidden = kHidden == Hidden::kLaterColumns ? column > row : row > column;
        if (hidden) scores.values[r][n][i] = -INFINITY;
      }
    }
  }
}

// The same elements rounded to bf16, as operand A of a product that sums over the columns: the two
// layouts agree.
template <int kRowTiles, int kTiles>
struct Factors {
  FragmentA fragments[kRowTiles][kTiles / 2];

  __device__ __forceinline__ void Round(const Sums<kRowTiles, kTiles>& sums) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const float(&four)[4] = sums.values[r][n];
        FragmentA& fragment = fragments[r][n / 2];
        fragment.words[n % 2 * 2] = PackBFloat16(four[0], four[1]);
        fragment.words[n % 2 * 2 + 1] = PackBFloat16(four[2], four[3]);
      }
    }
  }
};

// sums[i, j] += a[i, :] . b[j, :]. `a` is the address of the warp's first row in its tile, `b` the
// tile with the columns' rows.
template <int kHeadDim, int kRowTiles, int kTiles>
__device__ __forceinline__ void MultiplyRows(uint32_t a, uint32_t b,
                                             Sums<kRowTiles, kTiles>& sums) {
  using Layout = TileLayout<kHeadDim>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t a_row = a + static_cast<uint32_t>((lane & 15) * Layout::kRowBytes);
  const int b_in_pair = (lane & 7) + (lane >> 4 << 3);
  const uint32_t b_row = b + static_cast<uint32_t>(b_in_pair * Layout::kRowBytes);
  // 16 bytes times the place of the piece that holds the lane's half of the first 16 elements; a
  // later piece's place differs by the exclusive or of its number.
  const uint32_t a_place = static_cast<uint32_t>(((lane >> 4) ^ (lane & 7)) << 4);
  const uint32_t b_place = static_cast<uint32_t>(((lane >> 3 & 1) ^ (lane & 7)) << 4);
#pragma unroll
  for (int k = 0; k < kHeadDim / 16; ++k) {
    const uint32_t piece = static_cast<uint32_t>(k * 32);
    FragmentA fragment_a[kRowTiles];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      LoadMatrices(a_row + static_cast<uint32_t>(Layout::Bytes(16 * r)) + (piece ^ a_place),
                   fragment_a[r].words);
    }
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      FragmentB2 fragment_b;
      LoadMatrices(b_row + static_cast<uint32_t>(Layout::Bytes(8 * n)) + (piece ^ b_place),
                   fragment_b.words);
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        MultiplyAdd(fragment_a[r], fragment_b.words[0], fragment_b.words[1], sums.values[r][n]);
        MultiplyAdd(fragment_a[r], fragment_b.words[2], fragment_b.words[3], sums.values[r][n + 1]);
      }
    }
  }
}

// sums[i, :] += sum over j of factors[i, j] * rows[j, :], the first 8 * kColumnTiles columns;
// `rows` is a tile of 8 * kTiles rows, or 64 columns (128 bytes) further on.
template <int kHeadDim, int kRowTiles, int kTiles, int kColumnTiles>
__device__ __forceinline__ void MultiplyFactors(const Factors<kRowTiles, kTiles>& factors,
                                                uint32_t rows,
                                                Sums<kRowTiles, kColumnTiles>& sums) {
  using Layout = TileLayout<kHeadDim>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t row = rows + static_cast<uint32_t>((lane & 15) * Layout::kRowBytes);
  const uint32_t place = static_cast<uint32_t>(((lane >> 4) ^ (lane & 7)) << 4);
#pragma unroll
  for (int k = 0; k < kTiles / 2; ++k) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; n += 2) {
      FragmentB2 fragment_b;
      const uint32_t piece = static_cast<uint32_t>(n * 16);
      LoadMatricesTransposed(row + static_cast<uint32_t>(Layout::Bytes(16 * k)) + (piece ^ place),
                             fragment_b.words);
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        const FragmentA& fragment_a = factors.fragments[r][k];
        MultiplyAdd(fragment_a, fragment_b.words[0], fragment_b.words[1], sums.values[r][n]);
        MultiplyAdd(fragment_a, fragment_b.words[2], fragment_b.words[3], sums.values[r][n + 1]);
      }
    }
  }
}

// Rounds a warp's rows to bf16 and writes those below `count` to global memory, `stride` elements
// apart, in 16-byte pieces. `tile` is memory for the warp's rows that nobody else uses.
template <int kHeadDim, int kRowTiles>
__device__ __forceinline__ void StoreRows(const Sums<kRowTiles, kHeadDim / 8>& sums, uint8_t* tile,
                                          BFloat16* to, int64_t stride, int count) {
  using Layout = TileLayout<kHeadDim>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncwarp();
  // Row lane / 4 of the tile and those 8, 16, 24 behind it, whose pieces lie in the same places.
  uint8_t* const words = tile + lane / 4 * Layout::kRowBytes + lane % 4 * 4;
#pragma unroll
  for (int n = 0; n < kHeadDim / 8; ++n) {
    uint8_t* const piece = words + ((n ^ (lane / 4)) << 4);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      const float(&four)[4] = sums.values[r][n];
      *reinterpret_cast<uint32_t*>(piece + Layout::Bytes(16 * r)) = PackBFloat16(four[0], four[1]);
      *reinterpret_cast<uint32_t*>(piece + Layout::Bytes(16 * r + 8)) =
          PackBFloat16(four[2], four[3]);
    }
  }
  __syncwarp();
  constexpr int kRowsAtOnce = 32 / Layout::kPieces;
  const int piece = lane % Layout::kPieces;
  int row = lane / Layout::kPieces;
  to += row * stride + piece * 8;
#pragma unroll 4
  for (; row < min(16 * kRowTiles, count); row += kRowsAtOnce) {
    Store(to, *reinterpret_cast<const Vec<BFloat16, 8>*>(tile + Layout::Offset(row, piece)));
    to += kRowsAtOnce * stride;
  }
}

// Rows [first, first + kRows) of a head below `count` become zero; by all kThreads threads of the
// block.
template <int kHeadDim, int kRows, int kThreads>
__device__ inline void ZeroRows(BFloat16* tensor, const HeadRows& rows, int first, int count) {
  constexpr int kPieces = kHeadDim / 8;
  const int64_t stride = rows.heads * kHeadDim;
  BFloat16* const to = tensor + rows.first_token * stride + rows.head * kHeadDim;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPieces; i += kThreads) {
    const int row = first + i / kPieces;
    if (row < count) Store(to + row * stride + i % kPieces * 8, Vec<BFloat16, 8>{});
  }
}

}  // namespace hearth::cuda
