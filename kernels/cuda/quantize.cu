#include "kernels/api/quantize.h"

#include <algorithm>
#include <cmath>

#include "kernels/api/adamw.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/byte_tile.cuh"
#include "kernels/cuda/device/float8_pack.cuh"
#include "kernels/cuda/device/grid.cuh"
#include "kernels/cuda/produce.cuh"

namespace hearth {

namespace {

using cuda::kTile;
using cuda::kTileThreads;

constexpr int kAmaxThreads = 256;
// 16-byte loads that a thread has in flight: with 6 blocks of 256 threads, 98 KB a multiprocessor,
// several times what hides the memory's latency.
constexpr int kAmaxLoads = 4;

// Floor: the input once. A grid of any size finds the same: a maximum has no order.
template <typename T>
__global__ void __launch_bounds__(kAmaxThreads)
    AmaxOfVectors(const T* input, int64_t packs, float* amax) {
  using cuda::kWide;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kAmaxThreads;
  uint32_t largest = 0;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kAmaxThreads + threadIdx.x; i < packs;
       i += kAmaxLoads * step) {
    cuda::Pack<T, kWide<T>> loaded[kAmaxLoads];
#pragma unroll
    for (int k = 0; k < kAmaxLoads; ++k) {
      // Behind the end the first one again, which changes no maximum.
      const int64_t at = i + k * step < packs ? i + k * step : i;
      loaded[k] = cuda::LoadPack<true, kWide<T>>(input + at * kWide<T>, kWide<T>);
    }
#pragma unroll
    for (const auto& pack : loaded) largest = max(largest, cuda::LargestMagnitude(pack));
  }
  cuda::AtomicMaxOverBlock(amax, largest);
}

template <typename T>
__global__ void __launch_bounds__(kAmaxThreads)
    AmaxOfElements(const T* input, int64_t count, float* amax) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kAmaxThreads;
  uint32_t largest = 0;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kAmaxThreads + threadIdx.x; i < count;
       i += step) {
    largest = max(largest, __float_as_uint(ToFloat(input[i])) & 0x7fffffffu);
  }
  cuda::AtomicMaxOverBlock(amax, largest);
}

// One wave of blocks at most: each ends in an atomic.
uint32_t AmaxBlocks(int64_t items, int multiprocessors) {
  constexpr int64_t kBlocksPerMultiprocessor = 8;
  return static_cast<uint32_t>(std::clamp<int64_t>(DivUp(items, kAmaxThreads), 1,
                                                   kBlocksPerMultiprocessor * multiprocessors));
}

template <typename T>
void RaiseAmax(cudaStream_t stream, const TensorView& input, float* amax, int multiprocessors) {
  const T* from = input.as<T>();
  int64_t count = input.elements();
  const int64_t packs = cuda::IsAligned(from, 16) ? count / cuda::kWide<T> : 0;
  if (packs > 0) {
    AmaxOfVectors<<<AmaxBlocks(DivUp(packs, kAmaxLoads), multiprocessors), kAmaxThreads, 0,
                    stream>>>(from, packs, amax);
    from += packs * cuda::kWide<T>;
    count -= packs * cuda::kWide<T>;
  }
  if (count > 0) {
    AmaxOfElements<<<AmaxBlocks(count, multiprocessors), kAmaxThreads, 0, stream>>>(from, count,
                                                                                    amax);
  }
  CheckLaunch("Amax");
}

template <typename T>
void QuantizeTensor(cudaStream_t stream, const QuantizeArgs& args, int multiprocessors) {
  const bool current = args.output.mode == ScaleMode::kCurrent;
  if (current) cuda::ResetRecord(stream, args.output);
  if (args.input.elements() == 0) {
    if (current) cuda::CompleteRecord(stream, args.output);
    return;
  }
  if (current) {
    auto* record = static_cast<ScaleRecord*>(args.output.scale.data());
    RaiseAmax<T>(stream, args.input, &record->amax, multiprocessors);
  }
  cuda::QuantizeStored<T>(stream, args.input, args.output);
}

constexpr int kScaleThreads = 128;

// records[i] = MakeScale(amax[i * stride]); the words may lie in the records themselves.
__global__ void __launch_bounds__(kScaleThreads)
    MakeScales(const float* amax, int64_t stride, int64_t count, bool e5m2, ScaleRecord* records) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kScaleThreads + threadIdx.x;
  if (i < count) records[i] = cuda::MakeScaleOnDevice(amax[i * stride], e5m2);
}

// Without a transposed output the shape does not matter, and one long row, such as a piece of a
// weight, would fill one row of each tile only.
QuantizeArgs FillTiles(const QuantizeArgs& args) {
  const int64_t elements = args.input.elements();
  if (args.input.shape()[0] != 1 || args.output.transposed || elements % kTile != 0) return args;
  const Shape square{elements / kTile, kTile};
  QuantizeArgs filled = args;
  filled.input = args.input.Reshape(square);
  filled.output.values = args.output.values.Reshape(square);
  return filled;
}

// Of a few hundred records.
__global__ void __launch_bounds__(kScaleThreads)
    CollectAmaxes(const ScaleRecord* records, int64_t count, float* amax,
                  unsigned long long* repairs) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kScaleThreads + threadIdx.x;
  if (i >= count) return;
  const ScaleRecord record = records[i];
  if (isfinite(record.amax)) amax[i] = fmaxf(amax[i], record.amax);
  if (record.reserved != 0.0f) atomicAdd(repairs, 1ull);
}

// The formats of the rows: bit i % period of `e5m2`.
__global__ void __launch_bounds__(kScaleThreads)
    UpdateRecords(const float* amax, int64_t count, const UpdateControl* control, uint32_t e5m2,
                  int period, float* history, ScaleRecord* scales) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kScaleThreads + threadIdx.x;
  if (i >= count || control->skip != 0) return;
  ScaleRecord record = MakePowerScale(amax[i], (e5m2 >> (i % period) & 1u) != 0);
  record.amax = 0.0f;
  history[i] = amax[i];
  scales[i] = record;
}

// Floor: 2 bytes per element.
template <bool kVector>
__global__ void __launch_bounds__(kTileThreads)
    TransposeTiles(const uint8_t* input, uint8_t* output, int64_t rows, int64_t columns) {
  __shared__ cuda::ByteTile tile;
  constexpr int kChunks = kTile / 16;
  constexpr int kSteps = kTile * kChunks / kTileThreads;
  const auto across = static_cast<uint32_t>((columns + kTile - 1) / kTile);
  const int64_t tile_row = static_cast<int64_t>(blockIdx.x / across) * kTile;
  const int64_t tile_column = static_cast<int64_t>(blockIdx.x % across) * kTile;
  if constexpr (kVector) {
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    const int64_t column = tile_column + chunk * 16;
    uint4 loaded[kSteps];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int64_t row = tile_row + (static_cast<int>(threadIdx.x) + i * kTileThreads) / kChunks;
      if (row < rows && column < columns) {
        loaded[i] = *reinterpret_cast<const uint4*>(input + row * columns + column);
      }
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int row = (static_cast<int>(threadIdx.x) + i * kTileThreads) / kChunks;
      if (tile_row + row < rows && column < columns) {
        *reinterpret_cast<uint4*>(tile.bytes + cuda::ChunkOffset(row, chunk)) = loaded[i];
      }
    }
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < kTile * kTile; i += kTileThreads) {
      const int row = i / kTile;
      const int column = i % kTile;
      if (tile_row + row >= rows || tile_column + column >= columns) continue;
      tile.bytes[cuda::ChunkOffset(row, column / 16) + column % 16] =
          input[(tile_row + row) * columns + tile_column + column];
    }
  }
  __syncthreads();
  cuda::WriteTransposed<kVector, 1>(tile, {.to = output,
                                           .rows = rows,
                                           .part_columns = columns,
                                           .row = tile_row,
                                           .column = tile_column});
}

}  // namespace

namespace cuda {

void ResetRecord(cudaStream_t stream, const QuantizedOutput& quantized) {
  CheckCuda(cudaMemsetAsync(quantized.scale.data(), 0, sizeof(ScaleRecord), stream),
            "clearing a scale record");
}

void CompleteRecord(cudaStream_t stream, const QuantizedOutput& quantized) {
  const QuantizeTarget target(quantized);
  MakeScales<<<1, kScaleThreads, 0, stream>>>(&target.record->amax, 0, 1, target.e5m2,
                                              target.record);
  CheckLaunch("MakeScales");
}

}  // namespace cuda

void CudaBackend::DoQuantize(Stream& stream, const QuantizeArgs& given) {
  const QuantizeArgs args = FillTiles(given);
  if (args.input.dtype() == DType::kF32) {
    QuantizeTensor<float>(NativeStream(stream), args, device_.multiprocessors());
  } else {
    QuantizeTensor<BFloat16>(NativeStream(stream), args, device_.multiprocessors());
  }
}

void CudaBackend::DoTranspose(Stream& stream, const TransposeArgs& args) {
  const int64_t rows = args.input.shape()[0];
  const int64_t columns = args.input.shape()[1];
  if (rows == 0 || columns == 0) return;
  const auto* input = static_cast<const uint8_t*>(args.input.data());
  auto* output = static_cast<uint8_t*>(args.output.data());
  const uint32_t blocks = cuda::GridSize(DivUp(rows, kTile) * DivUp(columns, kTile));
  if (rows % 16 == 0 && columns % 16 == 0 && cuda::IsAligned(input, 16) &&
      cuda::IsAligned(output, 16)) {
    TransposeTiles<true>
        <<<blocks, kTileThreads, 0, NativeStream(stream)>>>(input, output, rows, columns);
  } else {
    TransposeTiles<false>
        <<<blocks, kTileThreads, 0, NativeStream(stream)>>>(input, output, rows, columns);
  }
  CheckLaunch("TransposeTiles");
}

void CudaBackend::DoAmax(Stream& stream, const AmaxArgs& args) {
  float* amax = args.amax.as<float>();
  if (!args.accumulate) {
    CheckCuda(cudaMemsetAsync(amax, 0, sizeof(float), NativeStream(stream)), "clearing an amax");
  }
  if (args.input.elements() == 0) return;
  if (args.input.dtype() == DType::kF32) {
    RaiseAmax<float>(NativeStream(stream), args.input, amax, device_.multiprocessors());
  } else {
    RaiseAmax<BFloat16>(NativeStream(stream), args.input, amax, device_.multiprocessors());
  }
}

void CudaBackend::DoScaleFromAmax(Stream& stream, const ScaleFromAmaxArgs& args) {
  const int64_t count = args.amax.elements();
  if (count == 0) return;
  MakeScales<<<cuda::GridSize(DivUp(count, kScaleThreads)), kScaleThreads, 0,
               NativeStream(stream)>>>(args.amax.as<float>(), 1, count,
                                       args.format == DType::kF8E5M2,
                                       static_cast<ScaleRecord*>(args.scales.data()));
  CheckLaunch("MakeScales");
}

void CudaBackend::DoCollectAmax(Stream& stream, const CollectAmaxArgs& args) {
  const int64_t count = args.amax.elements();
  if (count == 0) return;
  CollectAmaxes<<<cuda::GridSize(DivUp(count, kScaleThreads)), kScaleThreads, 0,
                  NativeStream(stream)>>>(static_cast<const ScaleRecord*>(args.records.data()),
                                          count, args.amax.as<float>(),
                                          static_cast<unsigned long long*>(args.repairs.data()));
  CheckLaunch("CollectAmaxes");
}

void CudaBackend::DoUpdateScales(Stream& stream, const UpdateScalesArgs& args) {
  const int64_t count = args.amax.elements();
  if (count == 0) return;
  uint32_t e5m2 = 0;
  for (size_t i = 0; i < args.formats.size(); ++i) {
    if (args.formats[i] == DType::kF8E5M2) e5m2 |= 1u << i;
  }
  UpdateRecords<<<cuda::GridSize(DivUp(count, kScaleThreads)), kScaleThreads, 0,
                  NativeStream(stream)>>>(
      args.amax.as<float>(), count, static_cast<const UpdateControl*>(args.control.data()), e5m2,
      static_cast<int>(args.formats.size()), args.history.as<float>(),
      static_cast<ScaleRecord*>(args.scales.data()));
  CheckLaunch("UpdateRecords");
}

}  // namespace hearth
