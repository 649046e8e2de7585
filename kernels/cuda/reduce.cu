#include "kernels/api/reduce.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/api/adamw.h"
#include "kernels/api/workspace.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/async_copy.cuh"
#include "kernels/cuda/device/cell.cuh"
#include "kernels/cuda/device/fixed_point.cuh"
#include "kernels/cuda/device/reduce.cuh"

namespace hearth {

namespace {

using cuda::Cell;
using cuda::kCell;
using cuda::kWarp;

constexpr int kThreads = 256;

// The inputs as a kernel parameter, of which 4 KiB exist on every GPU and driver.
template <int kCapacity>
struct OrderedInputs {
  const void* addresses[kCapacity];
  uint32_t is_bf16[(kCapacity + 31) / 32];
  int count;

  __device__ bool IsBF16(int i) const { return (is_bf16[i / 32] >> (i % 32)) & 1u; }
};
constexpr int kFewInputs = 8;
constexpr int kMostInputs = 480;

struct OrderedOutput {
  void* address;
  bool is_wide;  // all addresses are aligned
  bool accumulate;
  float scale;
  int64_t count;
};

// sum += factor * values of `number` inputs from `first` on, all of type T, all loads in flight.
template <bool kVector, typename T, int kInFlight, typename Inputs>
__device__ void AddInputs(const Inputs& inputs, int first, int number, int64_t at, int valid,
                          float factor, float (&sum)[kCell]) {
  Cell<T> cells[kInFlight];
#pragma unroll
  for (int i = 0; i < kInFlight; ++i) {
    if (i < number) {
      cells[i] = cuda::LoadCell<kVector>(static_cast<const T*>(inputs.addresses[first + i]) + at, 0,
                                         valid);
    }
  }
#pragma unroll
  for (int i = 0; i < kInFlight; ++i) {
    if (i < number) cuda::AddCell(cells[i], factor, sum);
  }
}

// One cell of the output, whose type is T. It is read from all inputs before it is written, so that
// out may be one of them.
template <bool kVector, typename T, typename Inputs>
__device__ void SumCell(const Inputs& inputs, const OrderedOutput& out, int64_t at, int valid) {
  constexpr int kInFlight = 4;
  T* to = static_cast<T*>(out.address) + at;
  float sum[kCell];
  // Minus zero is the neutral element of addition.
#pragma unroll
  for (int i = 0; i < kCell; ++i) sum[i] = -0.0f;
  if (out.accumulate) cuda::AddCell(cuda::LoadCell<kVector>(to, 0, valid), 1.0f, sum);
  const float factor = out.accumulate ? out.scale : 1.0f;
  for (int first = 0; first < inputs.count;) {
    // As many of one type as may be in flight.
    const bool is_bf16 = inputs.IsBF16(first);
    int number = 1;
    while (number < kInFlight && first + number < inputs.count &&
           inputs.IsBF16(first + number) == is_bf16) {
      ++number;
    }
    if (is_bf16) {
      AddInputs<kVector, BFloat16, kInFlight>(inputs, first, number, at, valid, factor, sum);
    } else {
      AddInputs<kVector, float, kInFlight>(inputs, first, number, at, valid, factor, sum);
    }
    first += number;
  }
  if (!out.accumulate) {
#pragma unroll
    for (int i = 0; i < kCell; ++i) sum[i] *= out.scale;
  }
  cuda::StoreCell<kVector>(to, cuda::Round<T>(sum), 0, valid);
}

// Floor: a read of every input, a write of out, and with accumulate a read of it.
template <typename T, int kCapacity>
__global__ void __launch_bounds__(kThreads)
    OrderedSumKernel(const __grid_constant__ OrderedInputs<kCapacity> inputs,
                     const OrderedOutput out) {
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kCell;
  const int valid = cuda::Within(out.count - at, kCell);
  if (out.is_wide && valid == kCell) {
    SumCell<true, T>(inputs, out, at, valid);
  } else {
    SumCell<false, T>(inputs, out, at, valid);
  }
}

template <int kCapacity>
void LaunchOrderedSum(cudaStream_t stream, const OrderedSumArgs& args) {
  static_assert(sizeof(OrderedInputs<kCapacity>) + sizeof(OrderedOutput) <= 4096);
  OrderedOutput out{.address = args.out.data(),
                    .is_wide = cuda::IsAligned(args.out.data(), 16),
                    .accumulate = args.accumulate,
                    .scale = args.scale,
                    .count = args.out.elements()};
  OrderedInputs<kCapacity> inputs{};
  for (const TensorView& input : args.inputs) {
    const int i = inputs.count++;
    inputs.addresses[i] = input.data();
    inputs.is_bf16[i / 32] |= uint32_t{input.dtype() == DType::kBF16} << (i % 32);
    out.is_wide = out.is_wide && cuda::IsAligned(input.data(), 16);
  }
  const int blocks = Narrow<int>(DivUp(out.count, int64_t{kThreads} * kCell));
  if (args.out.dtype() == DType::kF32) {
    OrderedSumKernel<float><<<blocks, kThreads, 0, stream>>>(inputs, out);
  } else {
    OrderedSumKernel<BFloat16><<<blocks, kThreads, 0, stream>>>(inputs, out);
  }
  CheckLaunch("ordered sum");
}

// The sum of `count` rows of a cell of columns, in order. Rows behind the last are zeros, which
// change no sum: it starts at +0 and so is never -0.
template <bool kVector, typename T>
__device__ void SumRows(const T* from, int64_t columns, int count, int valid, float* to) {
  constexpr int kInFlight = 16 / static_cast<int>(sizeof(T));
  float sum[kCell] = {};
  for (int row = 0; row < count; row += kInFlight) {
    Cell<T> cells[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const bool present = row + i < count;
      cells[i] =
          cuda::LoadCell<kVector>(from + (present ? row + i : 0) * columns, 0, present ? valid : 0);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) cuda::AddCell(cells[i], 1.0f, sum);
  }
  cuda::StoreCell<kVector>(to, cuda::Round<float>(sum), 0, valid);
}

// A thread takes a cell of columns of sum_rows rows. Floor: a read of the input.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    SumRowBlocksKernel(const T* input, int64_t rows, int64_t columns, int sum_rows, bool is_wide,
                       float* partials) {
  const int64_t cells = (columns + kCell - 1) / kCell;
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t block = item / cells;
  if (block * sum_rows >= rows) return;
  const int64_t column = item % cells * kCell;
  const int valid = cuda::Within(columns - column, kCell);
  const T* from = input + block * sum_rows * columns + column;
  const int count = cuda::Within(rows - block * sum_rows, sum_rows);
  float* to = partials + block * columns + column;
  if (is_wide) {
    SumRows<true>(from, columns, count, valid, to);
  } else {
    SumRows<false>(from, columns, count, valid, to);
  }
}

constexpr int kPartialColumns = kWarp;
constexpr int kPartialThreads = 1024;
constexpr int kPartialWarps = kPartialThreads / kWarp;
// 32 KiB of shared memory hold the partial sums of up to 16,384 rows.
constexpr int kPartialRows = 256;

// A block takes 32 columns: all threads fetch partial sums, one warp adds them in order. Floor: a
// read of the partial sums, 1/32 (bf16) of the input where rows are many.
template <typename T>
__global__ void __launch_bounds__(kPartialThreads)
    AddPartialsKernel(const float* partials, int64_t blocks, int64_t columns, T* out) {
  __shared__ float stage[kPartialRows][kPartialColumns];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t column = int64_t{blockIdx.x} * kPartialColumns + lane;
  const bool is_writer = warp == 0 && column < columns;
  const float before = is_writer ? ToFloat(out[column]) : 0.0f;
  float sum = 0.0f;
  for (int64_t first = 0; first < blocks; first += kPartialRows) {
    const int count = cuda::Within(blocks - first, kPartialRows);
    const float* from = partials + (first + warp) * columns + column;
#pragma unroll
    for (int pass = 0; pass < kPartialRows / kPartialWarps; ++pass) {
      const int row = pass * kPartialWarps + warp;
      stage[row][lane] = row < count && column < columns ? *from : 0.0f;
      from += kPartialWarps * columns;
    }
    __syncthreads();
    if (warp == 0) {
      // The zeros behind the last partial sum change nothing: the sum starts at +0.
      constexpr int kInFlight = 16;
      static_assert(kPartialRows % kInFlight == 0);
      for (int row = 0; row < count; row += kInFlight) {
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) sum += stage[row + i][lane];
      }
    }
    __syncthreads();
  }
  if (is_writer) out[column] = cuda::FromFloat<T>(before + sum);
}

template <typename T>
void SumRowBlocks(cudaStream_t stream, const ColumnSumArgs& args) {
  const int64_t rows = args.input.shape()[0];
  const int64_t columns = args.input.shape()[1];
  if (rows == 0) return;
  const bool is_wide = columns % kCell == 0 && cuda::IsAligned(args.input.data(), 16);
  const int64_t items = PartialSumCount(rows) * DivUp(columns, kCell);
  SumRowBlocksKernel<T><<<Narrow<int>(DivUp(items, kThreads)), kThreads, 0, stream>>>(
      args.input.as<T>(), rows, columns, Narrow<int>(RowsPerPartialSum(rows)), is_wide,
      static_cast<float*>(args.workspace.data()));
  CheckLaunch("column sum: blocks of rows");
}

template <typename T>
void AddPartials(cudaStream_t stream, const ColumnSumArgs& args) {
  const int64_t columns = args.input.shape()[1];
  AddPartialsKernel<T>
      <<<Narrow<int>(DivUp(columns, kPartialColumns)), kPartialThreads, 0, stream>>>(
          static_cast<const float*>(args.workspace.data()), PartialSumCount(args.input.shape()[0]),
          columns, args.out.as<T>());
  CheckLaunch("column sum: partial sums");
}

// Meant for the few terms of losses: a warp adds 1,024 of them. Floor: a read of the input.
constexpr int kTermsPerThread = 32;
template <typename T>
__global__ void __launch_bounds__(kThreads)
    AddElementsKernel(const T* input, int64_t count, FixedPointSum* total) {
  FixedPointSum sum;
  const int64_t first = int64_t{blockIdx.x} * kThreads * kTermsPerThread + threadIdx.x;
#pragma unroll 8
  for (int i = 0; i < kTermsPerThread; ++i) {
    const int64_t at = first + int64_t{i} * kThreads;
    // Zero is a term that changes nothing.
    cuda::AddTermLazily(sum, at < count ? ToFloat(input[at]) : 0.0f);
  }
  cuda::AddWarpAtomically(sum, total);
}

// The chains of AddSquaresKernel: a warp of its own block computes 32 sums of kSquareBlock squares
// side by side, one per lane, each in rising order. Pieces of 128 bytes of each of the 32 rows come
// to shared memory, three steps ahead.
template <typename T>
struct SquareStage {
  static constexpr int kStages = 4;
  static constexpr int kParts = 8;  // of 16 bytes
  static constexpr int kPartElements = 16 / static_cast<int>(sizeof(T));
  static constexpr int kElements = kParts * kPartElements;
  static constexpr int kSteps = static_cast<int>(kSquareBlock) / kElements;
  // 16 bytes more than it holds: then eight lanes reading 16 bytes of their rows meet all banks.
  static constexpr int kPitch = (kParts + 1) * 16;

  // Fills `to` with step `step` of rows [32 * tile, 32 * tile + 32); zeros behind the input's end,
  // which change no sum of squares.
  static __device__ void Fetch(const T* input, int64_t count, bool is_wide, int64_t tile, int step,
                               char* to) {
    const int lane = static_cast<int>(threadIdx.x);
    constexpr int kRowsPerPass = kWarp / kParts;
    const int part = lane % kParts;
#pragma unroll
    for (int pass = 0; pass < kWarp / kRowsPerPass; ++pass) {
      const int row = pass * kRowsPerPass + lane / kParts;
      const int64_t at =
          (tile * kWarp + row) * kSquareBlock + step * kElements + part * kPartElements;
      char* place = to + row * kPitch + part * 16;
      if (is_wide && at + kPartElements <= count) {
        cuda::CopyAsync16(cuda::SharedAddress(place), input + at, true);
      } else {
        for (int i = 0; i < kPartElements; ++i) {
          reinterpret_cast<T*>(place)[i] = at + i < count ? input[at + i] : T{};
        }
      }
    }
  }

  static __device__ float AddSquares(const char* from, float sum) {
    const char* row = from + threadIdx.x * kPitch;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      float values[kPartElements];
      cuda::Unpack(cuda::LoadPack<true, kPartElements>(reinterpret_cast<const T*>(row + part * 16),
                                                       kPartElements),
                   values);
#pragma unroll
      for (int i = 0; i < kPartElements; ++i) sum = fmaf(values[i], values[i], sum);
    }
    return sum;
  }
};

// Blocks of one warp, each of which takes every gridDim-th tile of 32 * kSquareBlock elements.
// Floor: a read of the input. A chain of 1,024 dependent fma takes about 3 us; five such warps on a
// multiprocessor keep up with its share of an H200's bandwidth, and twelve fit.
template <typename T>
__global__ void __launch_bounds__(kWarp)
    AddSquaresKernel(const T* input, int64_t count, bool is_wide, FixedPointSum* total) {
  using Stage = SquareStage<T>;
  __shared__ __align__(16) char stages[Stage::kStages][kWarp * Stage::kPitch];
  const int64_t tiles = (count + kWarp * kSquareBlock - 1) / (kWarp * kSquareBlock);
  const int64_t my_tiles = (tiles - blockIdx.x + gridDim.x - 1) / gridDim.x;
  const int64_t steps = my_tiles * Stage::kSteps;
  const auto fetch = [&](int64_t step) {
    if (step < steps) {
      Stage::Fetch(input, count, is_wide, blockIdx.x + step / Stage::kSteps * gridDim.x,
                   static_cast<int>(step % Stage::kSteps), stages[step % Stage::kStages]);
    }
    cuda::CopyAsyncCommit();
  };
  for (int64_t step = 0; step < Stage::kStages - 1; ++step) fetch(step);
  FixedPointSum terms;
  float squares = 0.0f;
  for (int64_t step = 0; step < steps; ++step) {
    cuda::CopyAsyncWait<Stage::kStages - 2>();
    // What the other lanes fetched is here, and all have read what the next fetch overwrites.
    __syncwarp();
    fetch(step + Stage::kStages - 1);
    squares = Stage::AddSquares(stages[step % Stage::kStages], squares);
    if (step % Stage::kSteps == Stage::kSteps - 1) {
      cuda::AddTermLazily(terms, squares);
      squares = 0.0f;
    }
  }
  cuda::AddWarpAtomically(terms, total);
}

__global__ void CarryKernel(FixedPointSum* sum) { cuda::Carry(*sum); }

template <typename T>
void AddTerms(cudaStream_t stream, const FixedPointSumArgs& args, int multiprocessors) {
  const T* input = args.input.as<T>();
  const int64_t count = args.input.elements();
  auto* sum = static_cast<FixedPointSum*>(args.sum.data());
  if (args.terms == SumTerms::kElements) {
    const int blocks = Narrow<int>(DivUp(count, int64_t{kThreads} * kTermsPerThread));
    AddElementsKernel<T><<<blocks, kThreads, 0, stream>>>(input, count, sum);
  } else {
    constexpr int64_t kWarpsPerMultiprocessor = 12;
    const int64_t tiles = DivUp(count, kWarp * kSquareBlock);
    const int blocks = Narrow<int>(std::min(tiles, kWarpsPerMultiprocessor * multiprocessors));
    AddSquaresKernel<T>
        <<<blocks, kWarp, 0, stream>>>(input, count, cuda::IsAligned(input, 16), sum);
  }
  CheckLaunch("fixed-point sum");
  CarryKernel<<<1, 1, 0, stream>>>(sum);
  CheckLaunch("fixed-point sum: carry");
}

__global__ void ClipKernel(const FixedPointSum* sum, const FixedPointSum* losses, float max_norm,
                           float* norm, UpdateControl* control) {
  const double value = sqrt(cuda::ToDouble(*sum));
  UpdateControl result;
  if (!isfinite(value) || (losses != nullptr && losses->not_representable != 0)) {
    result.skip = 1;
  } else if (max_norm > 0) {
    const double factor = static_cast<double>(max_norm) / (value + 1e-6);
    result.clip_factor = static_cast<float>(factor < 1.0 ? factor : 1.0);
  }
  *norm = static_cast<float>(value);
  *control = result;
}

}  // namespace

void CudaBackend::DoOrderedSum(Stream& stream, const OrderedSumArgs& args) {
  if (args.out.elements() == 0) return;
  CHECK(args.inputs.size() <= kMostInputs, "ordered_sum has {} inputs, at most {} are possible",
        args.inputs.size(), kMostInputs);
  if (args.inputs.size() <= kFewInputs) {
    LaunchOrderedSum<kFewInputs>(NativeStream(stream), args);
  } else {
    LaunchOrderedSum<kMostInputs>(NativeStream(stream), args);
  }
}

void CudaBackend::DoColumnSum(Stream& stream, const ColumnSumArgs& args) {
  if (args.out.elements() == 0) return;
  cudaStream_t native = NativeStream(stream);
  if (args.input.dtype() == DType::kF32) {
    SumRowBlocks<float>(native, args);
  } else {
    SumRowBlocks<BFloat16>(native, args);
  }
  if (args.out.dtype() == DType::kF32) {
    AddPartials<float>(native, args);
  } else {
    AddPartials<BFloat16>(native, args);
  }
}

void CudaBackend::DoAddFixedPoint(Stream& stream, const FixedPointSumArgs& args) {
  if (args.input.elements() == 0) return;
  if (args.input.dtype() == DType::kF32) {
    AddTerms<float>(NativeStream(stream), args, device_.multiprocessors());
  } else {
    AddTerms<BFloat16>(NativeStream(stream), args, device_.multiprocessors());
  }
}

void CudaBackend::DoClip(Stream& stream, const ClipArgs& args) {
  static_assert(sizeof(UpdateControl) == 2 * sizeof(int32_t));
  ClipKernel<<<1, 1, 0, NativeStream(stream)>>>(
      static_cast<const FixedPointSum*>(args.sum.data()),
      args.losses ? static_cast<const FixedPointSum*>(args.losses.data()) : nullptr, args.max_norm,
      args.norm.as<float>(), reinterpret_cast<UpdateControl*>(args.control.as<int32_t>()));
  CheckLaunch("clip");
}

}  // namespace hearth
