#include "kernels/api/rms_norm.h"

#include <algorithm>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/grid.cuh"
#include "kernels/cuda/device/row_team.cuh"
#include "kernels/cuda/produce.cuh"

namespace hearth {

namespace {

using cuda::Chunk;
using cuda::kGroup;
using cuda::kTeamChunks;
using cuda::kWarp;
using cuda::kWide;
using cuda::Pack;

template <typename T>
struct NormArgs {
  const T* x;
  const T* weight;
  T* out;  // may be null
  float* rstd;
  float* amax;  // of the result, raised; may be null
  float epsilon;
  int lanes;
  int64_t rows;
  int64_t columns;
};

__device__ float RstdOf(float sum_of_squares, int columns, float epsilon) {
  const float mean = __fdiv_rn(sum_of_squares, static_cast<float>(columns));
  return __fdiv_rn(1.0f, __fsqrt_rn(mean + epsilon));
}

// Round(Round(x * rstd) * weight).
template <typename T, int N>
__device__ Pack<T, N> Normalize(const Pack<T, N>& x, const Pack<T, N>& weight, float rstd) {
  float values[N];
  float weights[N];
  Unpack(x, values);
  Unpack(weight, weights);
#pragma unroll
  for (float& value : values) value = value * rstd;
  cuda::RoundInPlace<T>(values);
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = values[i] * weights[i];
  return cuda::Round<T>(values);
}

// Positions within a row are ints.
constexpr int64_t kMostColumns = int64_t{1} << 30;
constexpr int kRowThreads = 256;  // of a block, if a team is not larger

// Floor: x once, and the result in storage if it is kept. A row stays in registers; rows that do
// not fit are read twice.
template <bool kVector, typename T>
__global__ void __launch_bounds__(cuda::kMaxTeam) NormRows(NormArgs<T> args) {
  __shared__ float sums[kWarp];
  const int lanes = args.lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int teams = static_cast<int>(blockDim.x) / lanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * teams + threadIdx.x / lanes;
  const int width = static_cast<int>(args.columns);
  const int columns = row < args.rows ? width : 0;  // none: nothing to load or store
  const T* x = args.x + row * width;
  const int segment = kTeamChunks * lanes;
  Chunk<T> chunks[kTeamChunks];
  float sum = 0.0f;
  for (int first = lane; (first - lane) * kWide<T> < width; first += segment) {
    cuda::LoadChunks<kVector>(x, columns, first, lanes, chunks);
    sum += cuda::SumOfSquares<T>(chunks);
  }
  const float rstd = RstdOf(cuda::TeamSum(sum, lanes, sums), width, args.epsilon);
  if (lane == 0 && columns > 0) args.rstd[row] = rstd;
  uint32_t largest = 0;
  for (int first = lane; (first - lane) * kWide<T> < columns; first += segment) {
    if (segment * kWide<T> < width) cuda::LoadChunks<kVector>(x, columns, first, lanes, chunks);
#pragma unroll
    for (int k = 0; k < kTeamChunks; ++k) {
      const int column = (first + k * lanes) * kWide<T>;
      const int count = columns - column;
      if (count <= 0) continue;
      const Chunk<T> result = Normalize(
          chunks[k], cuda::LoadPack<kVector, kWide<T>>(args.weight + column, count), rstd);
      largest = max(largest, cuda::LargestMagnitude(result));
      if (args.out != nullptr) {
        cuda::StorePack<kVector>(args.out + row * width + column, result, count);
      }
    }
  }
  if (args.amax != nullptr) cuda::AtomicMaxOverBlock(args.amax, largest);
}

// The second pass: the same result from the rows' statistics, element by element.
template <typename T>
struct NormSource {
  using Storage = T;
  static constexpr int kParts = 1;
  static constexpr int kDepth = 8 / static_cast<int>(sizeof(T));  // 128 bytes in flight
  static constexpr int kBlocks = 3;
  using Columns = Pack<T, kGroup>;  // the weight
  struct Raw {
    Pack<T, kGroup> x;
    float rstd;
  };

  const T* x;
  const T* weight;
  const float* rstd;
  int64_t columns;

  template <bool kVector>
  __device__ Columns LoadColumns(int64_t column, int64_t count) const {
    return cuda::LoadPack<kVector, kGroup>(weight + column, count);
  }
  template <bool kVector>
  __device__ Raw Load(int64_t row, int64_t column, int64_t count) const {
    return {cuda::LoadPack<kVector, kGroup>(x + row * columns + column, count), rstd[row]};
  }
  __device__ void Compute(const Columns& weights, const Raw& raw, int64_t,
                          Pack<T, kGroup> (&parts)[kParts]) const {
    parts[0] = Normalize(raw.x, weights, raw.rstd);
  }
  template <bool kVector>
  __device__ void Store(int64_t, int64_t, int64_t, const Pack<T, kGroup> (&)[kParts]) const {}
};

constexpr int kTileRowThreads = 512;

// Bytes of a row of the tile in NormQuantizeRows: whole lines of 32 banks.
__host__ __device__ int TileStride(int columns) { return (columns + 127) / 128 * 128; }

// Where byte `column` of a row lies: the second run of rows 16 banks away from the first, so that
// the two are read without conflict.
__device__ int TileOffset(int row, int column, int stride) {
  return row * stride + (column ^ ((row / cuda::kRun & 1) << 6));
}

// Writes tile_rows (16 or 32) whole rows as columns of the transpose: runs of 16 or 32 bytes, the
// latter one DRAM sector, each written by one instruction.
__device__ void WriteRowsTransposed(const uint8_t* tile, int tile_rows, int64_t first_row,
                                    int64_t rows, int columns, uint8_t* transposed) {
  const int stride = TileStride(columns);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int words = kWarp * cuda::kRun / tile_rows;  // of four columns, that a warp takes at a time
  const int run = lane / words * cuda::kRun;
  if (first_row + run >= rows) return;
  constexpr int kWarps = kTileRowThreads / kWarp;
  for (int column = (warp * words + lane % words) * 4; column < columns;
       column += kWarps * words * 4) {
    uint32_t gathered[cuda::kRun];
#pragma unroll
    for (int i = 0; i < cuda::kRun; ++i) {
      gathered[i] = *reinterpret_cast<const uint32_t*>(tile + TileOffset(run + i, column, stride));
    }
    cuda::StoreRuns(gathered, transposed + static_cast<int64_t>(column) * rows + first_row + run,
                    rows);
  }
}

// With a given scale, all in one pass. Floor: x once, one byte per element and form (and the result
// in storage if it is kept). A block normalises tile_rows rows into shared memory; its teams take
// rows in turn and load the next one before they reduce the present one. Rows are one segment, rows
// and columns multiples of 16. kAmax: also raises the record's amax.
template <bool kAmax, typename T>
__global__ void __launch_bounds__(kTileRowThreads, 2)
    NormQuantizeRows(NormArgs<T> args, cuda::QuantizeTarget target, int tile_rows) {
  extern __shared__ uint4 norm_tile[];
  __shared__ float sums[2][kTileRowThreads / kWarp];
  auto* tile = reinterpret_cast<uint8_t*>(norm_tile);
  const int lanes = args.lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int teams = kTileRowThreads / lanes;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * tile_rows;
  const int columns = static_cast<int>(args.columns);
  const int stride = TileStride(columns);
  const float scale = target.record->scale;
  const auto load = [&](int tile_row, Chunk<T>(&chunks)[kTeamChunks]) {
    const int64_t row = first_row + tile_row;
    const bool exists = row < args.rows && tile_row < tile_rows;
    cuda::LoadChunks<true>(args.x + row * columns, exists ? columns : 0, lane, lanes, chunks);
  };
  uint32_t largest = 0;
  Chunk<T> next[kTeamChunks];
  load(static_cast<int>(threadIdx.x) / lanes, next);
  for (int turn = 0; turn * teams < tile_rows; ++turn) {
    const int tile_row = turn * teams + static_cast<int>(threadIdx.x) / lanes;
    const int64_t row = first_row + tile_row;
    Chunk<T> x[kTeamChunks];
#pragma unroll
    for (int k = 0; k < kTeamChunks; ++k) x[k] = next[k];
    load(tile_row + teams, next);
    const float sum = cuda::TeamSum(cuda::SumOfSquares<T>(x), lanes, sums[turn % 2]);
    if (row >= args.rows || tile_row >= tile_rows) continue;
    const float rstd = RstdOf(sum, columns, args.epsilon);
    if (lane == 0) args.rstd[row] = rstd;
#pragma unroll
    for (int k = 0; k < kTeamChunks; ++k) {
      const int column = (lane + k * lanes) * kWide<T>;
      if (column >= columns) continue;
      const Chunk<T> result =
          Normalize(x[k], cuda::LoadPack<true, kWide<T>>(args.weight + column, kWide<T>), rstd);
      const int64_t at = row * columns + column;
      if (args.out != nullptr) cuda::StorePack<true>(args.out + at, result, kWide<T>);
      if constexpr (kAmax) largest = max(largest, cuda::LargestMagnitude(result));
      const auto bytes = cuda::Quantize(result, scale, target.e5m2);
      if (target.values != nullptr) cuda::StoreBytes<true>(target.values + at, bytes, kWide<T>);
      if (target.transposed != nullptr) {
        cuda::StoreBytes<true>(tile + TileOffset(tile_row, column, stride), bytes, kWide<T>);
      }
    }
  }
  if constexpr (kAmax) cuda::AtomicMaxOverBlock(&target.record->amax, largest);
  if (target.transposed == nullptr) return;
  __syncthreads();
  WriteRowsTransposed(tile, tile_rows, first_row, args.rows, columns, target.transposed);
}

// Shared memory, in bytes, less what the system and static arrays take of it for each block.
struct SharedMemory {
  explicit SharedMemory(int ordinal) {
    constexpr int kReserved = 2048;
    CheckCuda(cudaDeviceGetAttribute(&of_one, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal),
              "asking for the shared memory of a block");
    CheckCuda(cudaDeviceGetAttribute(&of_two, cudaDevAttrMaxSharedMemoryPerMultiprocessor, ordinal),
              "asking for the shared memory of a multiprocessor");
    of_one -= kReserved;
    of_two = of_two / 2 - kReserved;
  }
  int of_one = 0;  // a block's, if it has a multiprocessor for itself
  int of_two = 0;  // each block's of two that share one
};

// Rows of a tile of NormQuantizeRows: 32 if two blocks fit a multiprocessor, so that one loads
// while the other writes its transpose, else 16; 0 if not even these fit.
int TileRows(int columns, const SharedMemory& memory) {
  const int run = cuda::kRun * TileStride(columns);
  if (2 * run <= memory.of_two) return 2 * cuda::kRun;
  return run <= memory.of_one ? cuda::kRun : 0;
}

template <typename T>
void LaunchNormRows(cudaStream_t stream, const NormArgs<T>& args, bool vector) {
  const int threads = std::max(kRowThreads, args.lanes);
  const auto blocks = cuda::GridSize(DivUp(args.rows, threads / args.lanes));
  if (vector) {
    NormRows<true><<<blocks, threads, 0, stream>>>(args);
  } else {
    NormRows<false><<<blocks, threads, 0, stream>>>(args);
  }
  CheckLaunch("NormRows");
}

// False if a tile of such rows does not fit the chip.
template <bool kAmax, typename T>
bool LaunchNormQuantizeRows(cudaStream_t stream, const NormArgs<T>& args,
                            const QuantizedOutput& quantized, int ordinal) {
  const SharedMemory memory(ordinal);
  const int columns = static_cast<int>(args.columns);
  const int tile_rows = TileRows(columns, memory);
  if (tile_rows == 0) return false;
  // The limit, not what this launch takes: threads of several ranks may set it at once.
  const auto kernel = NormQuantizeRows<kAmax, T>;
  CheckCuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, memory.of_one),
      "asking for the shared memory of NormQuantizeRows");
  CheckCuda(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                 static_cast<int>(cudaSharedmemCarveoutMaxShared)),
            "asking for the shared memory of NormQuantizeRows");
  const auto bytes =
      static_cast<size_t>(quantized.transposed ? tile_rows * TileStride(columns) : 0);
  const uint32_t blocks = cuda::GridSize(DivUp(args.rows, tile_rows));
  kernel<<<blocks, kTileRowThreads, bytes, stream>>>(args, cuda::QuantizeTarget(quantized),
                                                     tile_rows);
  CheckLaunch("NormQuantizeRows");
  return true;
}

template <typename T>
void Forward(cudaStream_t stream, const RmsNormForwardArgs& args, int ordinal) {
  const QuantizedOutput& quantized = args.quantized;
  const bool current = quantized && quantized.mode == ScaleMode::kCurrent;
  CHECK(args.x.shape()[1] < kMostColumns, "rms_norm: {} columns", args.x.shape()[1]);
  NormArgs<T> norm{.x = args.x.as<T>(),
                   .weight = args.weight.as<T>(),
                   .out = args.out ? args.out.as<T>() : nullptr,
                   .rstd = args.rstd.as<float>(),
                   .amax = nullptr,
                   .epsilon = args.epsilon,
                   .lanes = cuda::TeamLanes<T>(args.x.shape()[1]),
                   .rows = args.x.shape()[0],
                   .columns = args.x.shape()[1]};
  if (current) {
    cuda::ResetRecord(stream, quantized);
    norm.amax = &static_cast<ScaleRecord*>(quantized.scale.data())->amax;
  }
  if (norm.rows == 0) {
    if (current) cuda::CompleteRecord(stream, quantized);
    return;
  }
  const bool aligned = cuda::IsAligned(norm.x, 16) && cuda::IsAligned(norm.weight, 16) &&
                       cuda::IsAligned(norm.out, 16);
  const bool tiles = aligned && norm.columns % kGroup == 0;
  const NormSource<T> source{
      .x = norm.x, .weight = norm.weight, .rstd = norm.rstd, .columns = norm.columns};
  if (quantized && !current && tiles && cuda::FitsOneSegment<T>(norm.columns) &&
      cuda::TilesAreVector(norm.rows, norm.columns, quantized)) {
    if (quantized.mode == ScaleMode::kGiven) {
      if (LaunchNormQuantizeRows<false>(stream, norm, quantized, ordinal)) return;
    } else if (LaunchNormQuantizeRows<true>(stream, norm, quantized, ordinal)) {
      return cuda::LaunchRepair(stream, source, norm.rows, tiles, quantized);
    }
  }
  LaunchNormRows(stream, norm, aligned && norm.columns % kWide<T> == 0);
  if (!quantized) return;
  if (args.out) return cuda::QuantizeStored<T>(stream, args.out, quantized);
  cuda::LaunchQuantize(stream, source, norm.rows, tiles, quantized);
}

}  // namespace

void CudaBackend::DoRmsNormForward(Stream& stream, const RmsNormForwardArgs& args) {
  if (args.x.dtype() == DType::kF32) {
    Forward<float>(NativeStream(stream), args, device_.ordinal());
  } else {
    Forward<BFloat16>(NativeStream(stream), args, device_.ordinal());
  }
}

}  // namespace hearth
