#include "kernels/api/embedding.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "kernels/api/workspace.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/cell.cuh"
#include "kernels/cuda/device/reduce.cuh"

namespace hearth {

namespace {

using cuda::kAllLanes;
using cuda::kCell;
using cuda::kWarp;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
// A warp looks at this many neighbours of a run's start, one per lane; longer runs get a block.
constexpr int kShortRun = kWarp;
// Rows that a block has in flight; 64 columns of them take 16 KiB (bf16) of shared memory, which
// leaves room for several blocks on every GPU.
constexpr int kStageRows = 128;
constexpr int kStageColumns = 64;
constexpr int kStageCells = kStageColumns / kCell;
constexpr int kRowsPerPass = kThreads / kStageCells;
constexpr int kPasses = kStageRows / kRowsPerPass;
// Blocks beyond this many take several rows each.
constexpr int64_t kMostBlocks = int64_t{1} << 24;

int Blocks(int64_t items, int64_t per_block) {
  return Narrow<int>(std::min(DivUp(items, per_block), kMostBlocks));
}

// A warp copies a row of `units` Units. Floor: a read and a write of each row. An id beyond the
// table stops the device: reading on would be silent garbage.
template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    GatherKernel(const int32_t* tokens, int64_t count, const Unit* table, int64_t vocab,
                 int64_t units, Unit* out) {
  constexpr int kInFlight = 4;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp; row < count;
       row += int64_t{gridDim.x} * kWarps) {
    const int32_t token = tokens[row];
    if (token >= vocab) __trap();
    const Unit* from = table + token * units;
    Unit* to = out + row * units;
    for (int64_t first = lane; first < units; first += kInFlight * kWarp) {
      Unit values[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int64_t at = first + i * kWarp;
        values[i] = token >= 0 && at < units ? from[at] : Unit{};
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int64_t at = first + i * kWarp;
        if (at < units) to[at] = values[i];
      }
    }
  }
}

template <typename Unit>
void LaunchGather(Stream& stream, const EmbeddingForwardArgs& args, int64_t row_bytes) {
  const int64_t count = args.tokens.elements();
  GatherKernel<Unit><<<Blocks(count, kWarps), kThreads, 0, NativeStream(stream)>>>(
      args.tokens.as<int32_t>(), count, static_cast<const Unit*>(args.table.data()),
      args.table.shape()[0], DivExact(row_bytes, sizeof(Unit)),
      static_cast<Unit*>(args.out.data()));
  CheckLaunch("embedding forward");
}

// keys[i] = the token at i, or `padding`, which is above all tokens.
__global__ void __launch_bounds__(kThreads)
    SortKeysKernel(const int32_t* tokens, int64_t count, int64_t vocab, uint32_t padding,
                   uint32_t* keys, int32_t* positions) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kThreads) {
    const int32_t token = tokens[i];
    if (token >= vocab) __trap();
    keys[i] = token < 0 ? padding : static_cast<uint32_t>(token);
    positions[i] = static_cast<int32_t>(i);
  }
}

// The tokens' positions in the order of their ids, and rising for equal ids. A run is all positions
// of one id.
struct Runs {
  const uint32_t* keys = nullptr;
  const int32_t* positions = nullptr;
  int64_t count = 0;
  uint32_t padding = 0;          // the key of positions without a token
  int32_t* long_runs = nullptr;  // starts of runs longer than kShortRun, in any order
  int32_t* long_count = nullptr;
};

struct Gradients {
  const void* d_out = nullptr;
  void* d_table = nullptr;
  int64_t columns = 0;
  bool is_wide = false;  // cells are whole and aligned in both
};

// What a thread adds up: a cell of `valid` columns, from rows of d_out to one of d_table.
template <typename T, typename Accumulator>
struct Column {
  const T* from;    // in the first row
  Accumulator* to;  // in the id's row
  int64_t columns;
  int valid;

  __device__ Column(const Gradients& gradients, uint32_t key, int64_t column)
      : from(static_cast<const T*>(gradients.d_out) + column),
        to(static_cast<Accumulator*>(gradients.d_table) + key * gradients.columns + column),
        columns(gradients.columns),
        valid(cuda::Within(gradients.columns - column, kCell)) {}
};

// Adds the rows at the first `length` lanes' positions, in order.
template <bool kVector, typename T, typename Accumulator>
__device__ void AddShortRun(const Column<T, Accumulator>& column, int32_t position, int length) {
  constexpr int kInFlight = 4;
  const cuda::Cell<Accumulator> before = cuda::LoadCell<kVector>(column.to, 0, column.valid);
  float sum[kCell] = {};
  for (int row = 0; row < length; row += kInFlight) {
    cuda::Cell<T> rows[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int64_t at = __shfl_sync(kAllLanes, position, row + i);
      // Zeros behind the end change no sum: it starts at +0 and so is never -0.
      rows[i] = cuda::LoadCell<kVector>(column.from + at * column.columns, 0,
                                        row + i < length ? column.valid : 0);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) cuda::AddCell(rows[i], 1.0f, sum);
  }
  float values[kCell];
  cuda::Unpack(before, values);
#pragma unroll
  for (int i = 0; i < kCell; ++i) values[i] += sum[i];
  cuda::StoreCell<kVector>(column.to, cuda::Round<Accumulator>(values), 0, column.valid);
}

// A warp takes a place in the sorted order and 256 columns; where a run starts there it adds the
// run's rows, and leaves a long run to AddLongRunsKernel. Floor: a read of d_out, a read and a
// write of the touched rows of d_table.
template <typename T, typename Accumulator>
__global__ void __launch_bounds__(kThreads, 3)
    AddShortRunsKernel(const Runs runs, const Gradients gradients) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t tiles = (gradients.columns + kWarp * kCell - 1) / (kWarp * kCell);
  for (int64_t item = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp; item < runs.count * tiles;
       item += int64_t{gridDim.x} * kWarps) {
    const int64_t begin = item / tiles;
    const int64_t tile = item % tiles;
    // One key per lane from the start on, and the one before: all loads at once.
    const int64_t mine = begin + lane;
    const uint32_t my_key = mine < runs.count ? runs.keys[mine] : runs.padding;
    const uint32_t key_before = begin > 0 ? runs.keys[begin - 1] : runs.padding;
    const uint32_t key = __shfl_sync(kAllLanes, my_key, 0);
    if (key == runs.padding || key == key_before) continue;
    const bool same = my_key == key;
    const unsigned others = ~__ballot_sync(kAllLanes, same);
    const int length = others == 0 ? kShortRun : __ffs(static_cast<int>(others)) - 1;
    const int64_t behind = begin + kShortRun;
    if (length == kShortRun && behind < runs.count && runs.keys[behind] == key) {
      if (tile == 0 && lane == 0) {
        runs.long_runs[atomicAdd(runs.long_count, 1)] = static_cast<int32_t>(begin);
      }
      continue;
    }
    const int32_t position = same ? runs.positions[mine] : 0;
    const Column<T, Accumulator> column(gradients, key, (tile * kWarp + lane) * kCell);
    if (gradients.is_wide) {
      AddShortRun<true>(column, position, length);
    } else {
      AddShortRun<false>(column, position, length);
    }
  }
}

// Adds a long run for a block's columns: all threads load the rows of a stage, while one thread per
// column adds those of the stage before, in order.
template <bool kVector, typename T, typename Accumulator>
__device__ void AddLongRun(const Runs& runs, const Gradients& gradients, int64_t begin,
                           int64_t first_column, cuda::Cell<T> (&stage)[kStageRows][kStageCells]) {
  const int thread = static_cast<int>(threadIdx.x);
  const int my_row = thread / kStageCells;
  const int my_cell = thread % kStageCells;
  const uint32_t key = runs.keys[begin];
  const Column<T, Accumulator> column(gradients, key, first_column + my_cell * kCell);
  int32_t positions[kPasses];  // -1 behind the end of the run
  cuda::Cell<T> cells[kPasses];
  const auto find = [&](int64_t first) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int64_t at = first + my_row + pass * kRowsPerPass;
      const int32_t position = at < runs.count ? runs.positions[at] : -1;
      positions[pass] = at < runs.count && runs.keys[at] == key ? position : -1;
    }
  };
  const auto load = [&] {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const bool present = positions[pass] >= 0;
      cells[pass] =
          cuda::LoadCell<kVector>(column.from + (present ? positions[pass] : 0) * column.columns, 0,
                                  present ? column.valid : 0);
    }
  };
  find(begin);
  load();
  float sum = 0;
  for (bool more = true; more;) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      stage[my_row + pass * kRowsPerPass][my_cell] = cells[pass];
    }
    begin += kStageRows;
    find(begin);
    more = __syncthreads_or(positions[0] >= 0) != 0;
    if (more) load();
    if (thread < kStageColumns) {
#pragma unroll 16
      for (int row = 0; row < kStageRows; ++row) {
        sum += ToFloat(reinterpret_cast<const T*>(stage[row])[thread]);
      }
    }
    __syncthreads();
  }
  if (thread < kStageColumns && first_column + thread < gradients.columns) {
    Accumulator* to = static_cast<Accumulator*>(gradients.d_table) + key * gradients.columns +
                      first_column + thread;
    *to = cuda::FromFloat<Accumulator>(ToFloat(*to) + sum);
  }
}

// A block takes a long run and kStageColumns columns. About 1 us per 128 rows of the longest run,
// which the other runs overlap.
template <typename T, typename Accumulator>
__global__ void __launch_bounds__(kThreads)
    AddLongRunsKernel(const Runs runs, const Gradients gradients) {
  __shared__ cuda::Cell<T> stage[kStageRows][kStageCells];
  const int64_t tiles = (gradients.columns + kStageColumns - 1) / kStageColumns;
  const int64_t items = *runs.long_count * tiles;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t begin = runs.long_runs[item / tiles];
    const int64_t first_column = item % tiles * kStageColumns;
    if (gradients.is_wide) {
      AddLongRun<true, T, Accumulator>(runs, gradients, begin, first_column, stage);
    } else {
      AddLongRun<false, T, Accumulator>(runs, gradients, begin, first_column, stage);
    }
  }
}

// Sorts the tokens, all in the workspace.
Runs SortTokens(cudaStream_t stream, const EmbeddingBackwardArgs& args) {
  const int64_t count = args.tokens.elements();
  const int64_t vocab = args.d_table.shape()[0];
  const auto padding = static_cast<uint32_t>(std::min(vocab, int64_t{1} << 31));
  constexpr int64_t kAlignment = 256;
  const int64_t piece = RoundUp(count * int64_t{sizeof(int32_t)}, kAlignment);
  auto* bytes = static_cast<std::byte*>(args.workspace.data());
  cub::DoubleBuffer<uint32_t> keys(reinterpret_cast<uint32_t*>(bytes),
                                   reinterpret_cast<uint32_t*>(bytes + piece));
  cub::DoubleBuffer<int32_t> positions(reinterpret_cast<int32_t*>(bytes + 2 * piece),
                                       reinterpret_cast<int32_t*>(bytes + 3 * piece));
  SortKeysKernel<<<Blocks(count, kThreads), kThreads, 0, stream>>>(
      args.tokens.as<int32_t>(), count, vocab, padding, keys.Current(), positions.Current());
  CheckLaunch("embedding backward: keys");
  const int items = Narrow<int>(count);
  const int bits = static_cast<int>(std::bit_width(padding));
  size_t needed = 0;
  CheckCuda(cub::DeviceRadixSort::SortPairs(nullptr, needed, keys, positions, items, 0, bits),
            "embedding backward: sort");
  const int64_t left = EmbeddingBackwardWorkspaceBytes(count) - 4 * piece;
  CHECK(static_cast<int64_t>(needed) <= left,
        "sorting {} tokens needs {} bytes beside them, the workspace has {}", count, needed, left);
  CheckCuda(cub::DeviceRadixSort::SortPairs(bytes + 4 * piece, needed, keys, positions, items, 0,
                                            bits, stream),
            "embedding backward: sort");
  // The buffers that the sort has left are free.
  Runs runs{.keys = keys.Current(),
            .positions = positions.Current(),
            .count = count,
            .padding = padding,
            .long_runs = reinterpret_cast<int32_t*>(keys.Alternate()),
            .long_count = positions.Alternate()};
  CheckCuda(cudaMemsetAsync(runs.long_count, 0, sizeof(int32_t), stream),
            "embedding backward: no long runs yet");
  return runs;
}

template <typename T, typename Accumulator>
void AddRuns(cudaStream_t stream, const Runs& runs, const Gradients& gradients,
             int multiprocessors) {
  const int64_t tiles = DivUp(gradients.columns, int64_t{kWarp} * kCell);
  AddShortRunsKernel<T, Accumulator>
      <<<Blocks(runs.count * tiles, kWarps), kThreads, 0, stream>>>(runs, gradients);
  CheckLaunch("embedding backward: short runs");
  // They find out on the device how much there is to do.
  constexpr int kBlocksPerMultiprocessor = 4;
  AddLongRunsKernel<T, Accumulator>
      <<<kBlocksPerMultiprocessor * multiprocessors, kThreads, 0, stream>>>(runs, gradients);
  CheckLaunch("embedding backward: long runs");
}

}  // namespace

void CudaBackend::DoEmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args) {
  if (args.out.elements() == 0) return;
  const int64_t row_bytes = args.table.shape()[1] * SizeOf(args.table.dtype());
  const bool is_wide = row_bytes % int64_t{sizeof(uint4)} == 0 &&
                       cuda::IsAligned(args.table.data(), sizeof(uint4)) &&
                       cuda::IsAligned(args.out.data(), sizeof(uint4));
  if (is_wide) {
    LaunchGather<uint4>(stream, args, row_bytes);
  } else if (args.table.dtype() == DType::kF32) {
    LaunchGather<uint32_t>(stream, args, row_bytes);
  } else {
    LaunchGather<uint16_t>(stream, args, row_bytes);
  }
}

void CudaBackend::DoEmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args) {
  if (args.d_out.elements() == 0) return;
  const Gradients gradients{.d_out = args.d_out.data(),
                            .d_table = args.d_table.data(),
                            .columns = args.d_table.shape()[1],
                            .is_wide = args.d_table.shape()[1] % kCell == 0 &&
                                       cuda::IsAligned(args.d_out.data(), 16) &&
                                       cuda::IsAligned(args.d_table.data(), 16)};
  cudaStream_t native = NativeStream(stream);
  const Runs runs = SortTokens(native, args);
  const auto add = [&](auto type, auto accumulator) {
    AddRuns<decltype(type), decltype(accumulator)>(native, runs, gradients,
                                                   device_.multiprocessors());
  };
  const bool wide_sum = args.d_table.dtype() == DType::kF32;
  if (args.d_out.dtype() == DType::kF32) {
    wide_sum ? add(float{}, float{}) : add(float{}, BFloat16{});
  } else {
    wide_sum ? add(BFloat16{}, float{}) : add(BFloat16{}, BFloat16{});
  }
}

}  // namespace hearth
