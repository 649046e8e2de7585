// A tile of bytes in shared memory that is written by rows and read by columns, both without bank
// conflicts, so that a matrix and its transpose leave a block in whole 128-byte lines.
#pragma once

#include <cstdint>

namespace hearth::cuda {

// Rows and columns of a tile: one 128-byte line in either direction.
constexpr int kTile = 128;
// Threads of a block that works on a tile.
constexpr int kTileThreads = 256;
// Rows that a thread gathers into one 16-byte store of the transpose.
constexpr int kRun = 16;

struct alignas(16) ByteTile {
  uint8_t bytes[kTile * kTile];
};

// Where 16-byte chunk `chunk` (0..7) of a row lies. The row's run decides which banks it takes, so
// that 8 runs of one column lie in different ones; its lowest bit, that two neighbouring half rows
// do.
__device__ inline int ChunkOffset(int row, int chunk) {
  return row * kTile + (chunk ^ (((row / kRun) ^ ((row & 1) << 2)) & 7)) * 16;
}

// Byte (i, j) of the 4 x 4 bytes in `rows` becomes byte (j, i) of `columns`.
__device__ inline void Transpose4x4(const uint32_t* rows, uint32_t* columns) {
  const uint32_t low01 = __byte_perm(rows[0], rows[1], 0x5140);
  const uint32_t high01 = __byte_perm(rows[0], rows[1], 0x7362);
  const uint32_t low23 = __byte_perm(rows[2], rows[3], 0x5140);
  const uint32_t high23 = __byte_perm(rows[2], rows[3], 0x7362);
  columns[0] = __byte_perm(low01, low23, 0x5410);
  columns[1] = __byte_perm(low01, low23, 0x7632);
  columns[2] = __byte_perm(high01, high23, 0x5410);
  columns[3] = __byte_perm(high01, high23, 0x7632);
}

// `rows` holds 4 columns of 16 rows, a word per row. Writes the 4 columns as runs of 16 bytes,
// `stride` bytes apart; `to` and `stride` are multiples of 16.
__device__ inline void StoreRuns(const uint32_t (&rows)[kRun], uint8_t* to, int64_t stride) {
  uint32_t columns[kRun];
#pragma unroll
  for (int i = 0; i < 4; ++i) Transpose4x4(rows + 4 * i, columns + 4 * i);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    *reinterpret_cast<uint4*>(to + j * stride) =
        make_uint4(columns[j], columns[4 + j], columns[8 + j], columns[12 + j]);
  }
}

// Where the columns of a tile go in the transposed matrix. A tile may hold kParts ranges of columns
// side by side, each kTile / kParts wide and `part_columns` apart in the matrix.
struct TransposedTile {
  uint8_t* to = nullptr;     // [parts * part_columns, rows]
  int64_t rows = 0;          // of the whole matrix
  int64_t part_columns = 0;  // of one part of the whole matrix
  int64_t row = 0;           // of the tile's first byte
  int64_t column = 0;        // of the tile's first byte within its part
};

// Writes a filled tile (a __syncthreads lies between). With kVector, `to` is 16-byte aligned and
// rows and columns are multiples of 16. A warp takes one chunk of 16 columns and all 128 rows.
template <bool kVector, int kParts>
__device__ inline void WriteTransposed(const ByteTile& tile, const TransposedTile& target) {
  constexpr int kPartColumns = kTile / kParts;
  if constexpr (kVector) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int chunk = static_cast<int>(threadIdx.x) / 32;
    const int first_row = lane / 4 * kRun;
    const int in_part = chunk * 16 % kPartColumns + lane % 4 * 4;
    const int64_t column = target.column + in_part;
    if (target.row + first_row >= target.rows || column >= target.part_columns) return;
    uint32_t rows[kRun];
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      rows[i] = *reinterpret_cast<const uint32_t*>(tile.bytes + ChunkOffset(first_row + i, chunk) +
                                                   lane % 4 * 4);
    }
    const int64_t to_column = chunk * 16 / kPartColumns * target.part_columns + column;
    StoreRuns(rows, target.to + to_column * target.rows + target.row + first_row, target.rows);
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < kTile * kTile; i += kTileThreads) {
      const int row = i % kTile;
      const int tile_column = i / kTile;
      const int64_t column = target.column + tile_column % kPartColumns;
      if (target.row + row >= target.rows || column >= target.part_columns) continue;
      const int64_t to_column = tile_column / kPartColumns * target.part_columns + column;
      target.to[to_column * target.rows + target.row + row] =
          tile.bytes[ChunkOffset(row, tile_column / 16) + tile_column % 16];
    }
  }
}

}  // namespace hearth::cuda
