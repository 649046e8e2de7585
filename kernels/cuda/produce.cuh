// Element-wise producers whose result goes to storage, to FP8, or to both: the CUDA counterpart of
// kernels/cpu/quantize_rows.h.
//
// A producer is a Source:
//   Storage              float or BFloat16
//   kParts               1, or 2 when an element of the input yields one in each half of a row
//   kDepth               groups of 16 columns that a thread loads before it computes
//   kBlocks              per multiprocessor: no more than leave it enough registers
//   columns              of one part
//   Columns, Raw         what a group of 16 columns needs of every row, and of one row
//   LoadColumns, Load    fetch these; nothing but loads
//   Compute              the result, rounded to storage
//   Store                writes it where the op wants it in storage, if it does
// All are called with the group's first column, and the number of columns that exist of it.
#pragma once

#include <algorithm>

#include "kernels/api/quantize.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/byte_tile.cuh"
#include "kernels/cuda/device/float8_pack.cuh"
#include "kernels/cuda/device/grid.cuh"

namespace hearth::cuda {

// The result is there already.
template <typename T>
struct StoredSource {
  using Storage = T;
  static constexpr int kParts = 1;
  static constexpr int kDepth = 8 / static_cast<int>(sizeof(T));  // 128 bytes in flight
  static constexpr int kBlocks = 4;
  struct Columns {};
  using Raw = Pack<T, kGroup>;

  const T* input;
  int64_t columns;

  template <bool kVector>
  __device__ Columns LoadColumns(int64_t, int64_t) const {
    return {};
  }
  template <bool kVector>
  __device__ Raw Load(int64_t row, int64_t column, int64_t count) const {
    return LoadPack<kVector, kGroup>(input + row * columns + column, count);
  }
  __device__ void Compute(const Columns&, const Raw& raw, int64_t, Raw (&parts)[kParts]) const {
    parts[0] = raw;
  }
  template <bool kVector>
  __device__ void Store(int64_t, int64_t, int64_t, const Raw (&)[kParts]) const {}
};

// Where a tile of a producer's result lies: kTile rows, and kTile / kParts columns of each part.
template <typename Source>
struct TilePlace {
  static constexpr int kColumns = kTile / Source::kParts;
  int64_t row;
  int64_t column;

  __device__ TilePlace(uint32_t tile, int64_t columns) {
    const auto across = static_cast<uint32_t>((columns + kColumns - 1) / kColumns);
    row = static_cast<int64_t>(tile / across) * kTile;
    column = static_cast<int64_t>(tile % across) * kColumns;
  }
};

// Computes a tile and calls use(row, row within the tile, column, chunk within a part, columns
// that exist, parts) for each group.
template <bool kVector, typename Source, typename Use>
__device__ void ForEachGroup(const Source& source, const TilePlace<Source>& place, int64_t rows,
                             const Use& use) {
  constexpr int kChunks = TilePlace<Source>::kColumns / kGroup;
  constexpr int kRowStep = kTileThreads / kChunks;
  constexpr int kDepth = Source::kDepth;
  static_assert(kTile % (kRowStep * kDepth) == 0);
  const int chunk = static_cast<int>(threadIdx.x) % kChunks;
  const int first_row = static_cast<int>(threadIdx.x) / kChunks;
  const int64_t column = place.column + chunk * kGroup;
  const int64_t count = min(source.columns - column, static_cast<int64_t>(kGroup));
  if (count <= 0) return;
  const auto column_state = source.template LoadColumns<kVector>(column, count);
#pragma unroll 1
  for (int begin = 0; begin < kTile; begin += kRowStep * kDepth) {
    typename Source::Raw raw[kDepth];
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      const int64_t row = place.row + begin + first_row + i * kRowStep;
      if (row < rows) raw[i] = source.template Load<kVector>(row, column, count);
    }
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      const int tile_row = begin + first_row + i * kRowStep;
      const int64_t row = place.row + tile_row;
      if (row >= rows) continue;
      Pack<typename Source::Storage, kGroup> parts[Source::kParts];
      source.Compute(column_state, raw[i], row, parts);
      source.template Store<kVector>(row, column, count, parts);
      use(row, tile_row, column, chunk, count, parts);
    }
  }
}

// Floor: the source's bytes, and the result's in storage if it is kept. `amax`: raised to the
// largest magnitude of the result; may be null.
template <bool kVector, typename Source>
__global__ void __launch_bounds__(kTileThreads, Source::kBlocks)
    ProduceTiles(Source source, int64_t rows, float* amax) {
  uint32_t largest = 0;
  ForEachGroup<kVector>(source, TilePlace<Source>(blockIdx.x, source.columns), rows,
                        [&](int64_t, int, int64_t, int, int64_t, const auto& parts) {
                          for (const auto& part : parts) {
                            largest = max(largest, LargestMagnitude(part));
                          }
                        });
  if (amax != nullptr) AtomicMaxOverBlock(amax, largest);
}

// Quantises a tile with the scale. Returns the largest magnitude that the thread met, as bits, if
// it is asked for.
template <bool kVector, bool kAmax, typename Source>
__device__ uint32_t QuantizeTile(const Source& source, const TilePlace<Source>& place, int64_t rows,
                                 const QuantizeTarget& target, float scale, ByteTile& tile) {
  uint32_t largest = 0;
  ForEachGroup<kVector>(
      source, place, rows,
      [&](int64_t row, int tile_row, int64_t column, int chunk, int64_t count, const auto& parts) {
        constexpr int kPartChunks = TilePlace<Source>::kColumns / kGroup;
#pragma unroll
        for (int part = 0; part < Source::kParts; ++part) {
          if constexpr (kAmax) largest = max(largest, LargestMagnitude(parts[part]));
          const Pack<uint8_t, kGroup> bytes = Quantize(parts[part], scale, target.e5m2);
          if (target.values != nullptr) {
            StoreBytes<kVector>(
                target.values + (row * Source::kParts + part) * source.columns + column, bytes,
                count);
          }
          if (target.transposed != nullptr) {
            StoreBytes<true>(tile.bytes + ChunkOffset(tile_row, part * kPartChunks + chunk), bytes,
                             kGroup);
          }
        }
      });
  if (target.transposed == nullptr) return largest;
  __syncthreads();
  WriteTransposed<kVector, Source::kParts>(tile, {.to = target.transposed,
                                                  .rows = rows,
                                                  .part_columns = source.columns,
                                                  .row = place.row,
                                                  .column = place.column});
  return largest;
}

// Floor: the source's bytes, and one per element and form of the FP8 result (and the result's in
// storage if it is kept). Tiles are taken from the end: what the pass before this one, which found
// the amax, read or wrote last is still in the cache. kAmax: also raises the record's amax.
template <bool kVector, bool kAmax, typename Source>
__global__ void __launch_bounds__(kTileThreads, Source::kBlocks)
    QuantizeTiles(Source source, int64_t rows, QuantizeTarget target) {
  __shared__ ByteTile tile;
  const TilePlace<Source> place(gridDim.x - 1 - blockIdx.x, source.columns);
  const float scale = ResolveScale(target);
  const uint32_t largest = QuantizeTile<kVector, kAmax>(source, place, rows, target, scale, tile);
  if constexpr (kAmax) AtomicMaxOverBlock(&target.record->amax, largest);
}

// Quantises again what did not fit the scale that its pass was given; nothing where it held, so
// that few blocks, which take tiles in turns, are all a launch needs.
constexpr int kRepairBlocks = 256;

template <bool kVector, typename Source>
__global__ void __launch_bounds__(kTileThreads, 2)
    RepairTiles(Source source, int64_t rows, uint32_t tiles, QuantizeTarget target) {
  __shared__ ByteTile tile;
  // {inverse, scale, amax, reserved}: read once, for the last block to finish writes it.
  const float4 found = __ldcg(reinterpret_cast<const float4*>(target.record));
  if (ScaleHolds(found.z, found.y, target.e5m2)) return;
  const ScaleRecord own = MakePowerScale(found.z, target.e5m2);
  for (uint32_t at = blockIdx.x; at < tiles; at += gridDim.x) {
    const TilePlace<Source> place(at, source.columns);
    QuantizeTile<kVector, false>(source, place, rows, target, own.scale, tile);
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  __threadfence();
  // Counts the blocks that have read the record, all of which have a tile.
  auto* finished = reinterpret_cast<unsigned*>(&target.record->reserved);
  if (atomicAdd(finished, 1u) + 1 < gridDim.x) return;
  *target.record = {own.inverse, own.scale, own.amax, 1.0f};
}

// Whether 16-byte accesses reach every group: of the result in FP8 as well, if there is one.
inline bool TilesAreVector(int64_t rows, int64_t part_columns, const QuantizedOutput& quantized) {
  return part_columns % kGroup == 0 && (!quantized.transposed || rows % kGroup == 0) &&
         IsAligned(static_cast<const uint8_t*>(quantized.values.data()), kGroup) &&
         IsAligned(static_cast<const uint8_t*>(quantized.transposed.data()), kGroup);
}

template <typename Source>
uint32_t TileCount(const Source& source, int64_t rows) {
  return GridSize(DivUp(rows, kTile) * DivUp(source.columns, TilePlace<Source>::kColumns));
}

template <typename Source>
void LaunchProduce(cudaStream_t stream, const Source& source, int64_t rows, bool vector,
                   float* amax) {
  const uint32_t tiles = TileCount(source, rows);
  if (vector) {
    ProduceTiles<true><<<tiles, kTileThreads, 0, stream>>>(source, rows, amax);
  } else {
    ProduceTiles<false><<<tiles, kTileThreads, 0, stream>>>(source, rows, amax);
  }
  CheckLaunch("ProduceTiles");
}

template <bool kAmax, typename Source>
void LaunchQuantizeTiles(cudaStream_t stream, const Source& source, int64_t rows, bool vector,
                         const QuantizedOutput& quantized) {
  const uint32_t tiles = TileCount(source, rows);
  const QuantizeTarget target(quantized);
  if (vector && TilesAreVector(rows, source.columns, quantized)) {
    QuantizeTiles<true, kAmax><<<tiles, kTileThreads, 0, stream>>>(source, rows, target);
  } else {
    QuantizeTiles<false, kAmax><<<tiles, kTileThreads, 0, stream>>>(source, rows, target);
  }
  CheckLaunch("QuantizeTiles");
}

template <typename Source>
void LaunchRepair(cudaStream_t stream, const Source& source, int64_t rows, bool vector,
                  const QuantizedOutput& quantized) {
  const uint32_t tiles = TileCount(source, rows);
  const uint32_t blocks = std::min<uint32_t>(tiles, kRepairBlocks);
  const QuantizeTarget target(quantized);
  if (vector && TilesAreVector(rows, source.columns, quantized)) {
    RepairTiles<true><<<blocks, kTileThreads, 0, stream>>>(source, rows, tiles, target);
  } else {
    RepairTiles<false><<<blocks, kTileThreads, 0, stream>>>(source, rows, tiles, target);
  }
  CheckLaunch("RepairTiles");
}

// The FP8 form of what the source gives, whose amax is in the record under kCurrent. Under
// kVerified one pass with the record's scale and the launch that repairs it.
template <typename Source>
void LaunchQuantize(cudaStream_t stream, const Source& source, int64_t rows, bool vector,
                    const QuantizedOutput& quantized) {
  if (quantized.mode != ScaleMode::kVerified) {
    return LaunchQuantizeTiles<false>(stream, source, rows, vector, quantized);
  }
  LaunchQuantizeTiles<true>(stream, source, rows, vector, quantized);
  LaunchRepair(stream, source, rows, vector, quantized);
}

template <typename T>
StoredSource<T> Stored(const TensorView& stored) {
  return {.input = stored.as<T>(), .columns = stored.shape()[1]};
}

template <typename T>
bool IsVector(const StoredSource<T>& source) {
  return source.columns % kGroup == 0 && IsAligned(source.input, 16);
}

// The FP8 form of a result that is in storage, [rows, columns].
template <typename T>
void QuantizeStored(cudaStream_t stream, const TensorView& stored,
                    const QuantizedOutput& quantized) {
  const StoredSource<T> source = Stored<T>(stored);
  LaunchQuantize(stream, source, stored.shape()[0], IsVector(source), quantized);
}

// Repairs the FP8 form of such a result.
template <typename T>
void RepairStored(cudaStream_t stream, const TensorView& stored, const QuantizedOutput& quantized) {
  const StoredSource<T> source = Stored<T>(stored);
  LaunchRepair(stream, source, stored.shape()[0], IsVector(source), quantized);
}

// Sets the record to zeros, so that a pass can raise its amax.
void ResetRecord(cudaStream_t stream, const QuantizedOutput& quantized);
// Completes a record that holds its amax only.
void CompleteRecord(cudaStream_t stream, const QuantizedOutput& quantized);

// Runs a Source over `rows` rows. `out`: where it stores its result, absent if it does not.
// `vector`: its inputs and `out` have rows and addresses of 16-byte multiples.
template <typename Source>
void Produce(cudaStream_t stream, Source source, int64_t rows, bool vector, const TensorView& out,
             const QuantizedOutput& quantized) {
  const bool current = quantized && quantized.mode == ScaleMode::kCurrent;
  if (current) ResetRecord(stream, quantized);
  if (rows == 0 || source.columns == 0) {
    if (current) CompleteRecord(stream, quantized);
    return;
  }
  if (quantized && quantized.mode == ScaleMode::kVerified && out) {
    // The source may have written over what it read.
    LaunchQuantizeTiles<true>(stream, source, rows, vector, quantized);
    return RepairStored<typename Source::Storage>(stream, out, quantized);
  }
  if (quantized && !current) return LaunchQuantize(stream, source, rows, vector, quantized);
  float* amax = current ? &static_cast<ScaleRecord*>(quantized.scale.data())->amax : nullptr;
  LaunchProduce(stream, source, rows, vector, amax);
  if (!current) return;
  if (out) return QuantizeStored<typename Source::Storage>(stream, out, quantized);
  LaunchQuantize(stream, source, rows, vector, quantized);
}

}  // namespace hearth::cuda
