#include "kernels/api/rms_norm.h"
#include "kernels/api/workspace.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/grid.cuh"
#include "kernels/cuda/device/row_team.cuh"
#include "kernels/cuda/partial_sums.cuh"

namespace hearth {

namespace {

using cuda::Chunk;
using cuda::kTeamChunks;
using cuda::kWarp;
using cuda::kWide;

template <typename T>
struct BackwardArgs {
  const T* d_out;
  const T* x;
  const T* weight;
  const float* rstd;
  const T* d_residual;  // may be null, or d_x: a thread has read what it overwrites
  T* d_x;
  float* partials;  // [rows / sum_rows, rounded up; columns]
  int sum_rows;     // of a partial sum
  int lanes;
  int64_t rows;
  int64_t columns;
};

constexpr int kThreads = 256;  // of a block, if a team is not larger
// Values of the weight's gradient that the threads of a block of kThreads hold.
template <typename T>
constexpr int kHeld = kThreads* kTeamChunks* kWide<T>;

// Adds the teams' sums of the weight's gradient in order and writes the block's partial sum.
template <bool kVector, typename T>
__device__ void WritePartial(const float (&d_weight)[kTeamChunks][kWide<T>], int lanes, int columns,
                             float* partial) {
  // [team][chunk of the thread][element][lane]: neighbouring threads in neighbouring banks.
  __shared__ float held[kHeld<T>];
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int team = static_cast<int>(threadIdx.x) / lanes;
  const int teams = static_cast<int>(blockDim.x) / lanes;
  const auto at = [&](int of_team, int k, int i) {
    return ((of_team * kTeamChunks + k) * kWide<T> + i) * lanes + lane;
  };
  if (teams > 1) {
#pragma unroll
    for (int k = 0; k < kTeamChunks; ++k) {
#pragma unroll
      for (int i = 0; i < kWide<T>; ++i) held[at(team, k, i)] = d_weight[k][i];
    }
    __syncthreads();
  }
#pragma unroll
  for (int k = 0; k < kTeamChunks; ++k) {
    const int column = (lane + k * lanes) * kWide<T>;
    if (k % teams != team || column >= columns) continue;
    float sums[kWide<T>];
#pragma unroll
    for (int i = 0; i < kWide<T>; ++i) sums[i] = teams > 1 ? held[at(0, k, i)] : d_weight[k][i];
#pragma unroll 1
    for (int other = 1; other < teams; ++other) {
#pragma unroll
      for (int i = 0; i < kWide<T>; ++i) sums[i] += held[at(other, k, i)];
    }
    cuda::StorePack<kVector>(partial + column, cuda::Round<float>(sums), columns - column);
  }
}

// Of a chunk: adds d_out * n, with n as forward multiplied it, to the weight's gradient and returns
// the sum of d_out * weight * n.
template <typename T>
__device__ float AddProducts(const Chunk<T>& x, const Chunk<T>& d_out, const Chunk<T>& weight,
                             float rstd, float (&d_weight)[kWide<T>]) {
  float n[kWide<T>], rounded[kWide<T>], d[kWide<T>], w[kWide<T>];
  Unpack(x, n);
  Unpack(d_out, d);
  Unpack(weight, w);
  float dot = 0.0f;
#pragma unroll
  for (int i = 0; i < kWide<T>; ++i) rounded[i] = n[i] = n[i] * rstd;
  cuda::RoundInPlace<T>(rounded);
#pragma unroll
  for (int i = 0; i < kWide<T>; ++i) {
    dot = fmaf(d[i] * w[i], n[i], dot);
    d_weight[i] = fmaf(d[i], rounded[i], d_weight[i]);
  }
  return dot;
}

// Of a chunk: rstd * (d_out * weight - n * mean) + residual.
template <typename T>
__device__ Chunk<T> InputGradient(const Chunk<T>& x, const Chunk<T>& d_out, const Chunk<T>& weight,
                                  const Chunk<T>& residual, float rstd, float mean) {
  float n[kWide<T>], d[kWide<T>], w[kWide<T>], add[kWide<T>];
  Unpack(x, n);
  Unpack(d_out, d);
  Unpack(weight, w);
  Unpack(residual, add);
#pragma unroll
  for (int i = 0; i < kWide<T>; ++i) {
    d[i] = fmaf(rstd, fmaf(-(n[i] * rstd), mean, d[i] * w[i]), add[i]);
  }
  return cuda::Round<T>(d);
}

// Floor per element: d_out, x and the residual's gradient read, d_x written: 8 bytes in bf16; the
// partial sums add 4 / sum_rows written and read once more. A block takes sum_rows rows, a team
// every teams-th of them; columns, and with them the weight's gradient, belong to threads. Rows are
// one segment.
template <bool kVector, typename T>
__global__ void __launch_bounds__(cuda::kMaxTeam) BackwardRows(BackwardArgs<T> args) {
  __shared__ float shared[2][kWarp];
  const int lanes = args.lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int teams = static_cast<int>(blockDim.x) / lanes;
  const int width = static_cast<int>(args.columns);
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * args.sum_rows;
  const int64_t end_row = min(args.rows, first_row + args.sum_rows);
  float d_weight[kTeamChunks][kWide<T>] = {};
  for (int turn = 0; turn * teams < args.sum_rows; ++turn) {
    const int64_t row = first_row + turn * teams + threadIdx.x / lanes;
    const int columns = row < end_row ? width : 0;
    const float rstd = row < end_row ? args.rstd[row] : 0.0f;
    const int64_t offset = row * width;
    Chunk<T> x[kTeamChunks];
    Chunk<T> d_out[kTeamChunks];
    Chunk<T> residual[kTeamChunks] = {};
    cuda::LoadChunks<kVector>(args.x + offset, columns, lane, lanes, x);
    cuda::LoadChunks<kVector>(args.d_out + offset, columns, lane, lanes, d_out);
    if (args.d_residual != nullptr) {
      cuda::LoadChunks<kVector>(args.d_residual + offset, columns, lane, lanes, residual);
    }
    // The weight comes from the first-level cache for each row: registers are short.
    Chunk<T> weight[kTeamChunks];
    cuda::LoadChunks<kVector>(args.weight, columns, lane, lanes, weight);
    float dots[kTeamChunks];
#pragma unroll
    for (int k = 0; k < kTeamChunks; ++k) {
      dots[k] = AddProducts<T>(x[k], d_out[k], weight[k], rstd, d_weight[k]);
    }
    const float dot = cuda::TeamSum(cuda::AddChunkSums(dots), lanes, shared[turn % 2]);
    const float mean = __fdiv_rn(dot, static_cast<float>(width));
#pragma unroll
    for (int k = 0; k < kTeamChunks; ++k) {
      const int column = (lane + k * lanes) * kWide<T>;
      const int count = columns - column;
      if (count <= 0) continue;
      const Chunk<T> d_x = InputGradient<T>(x[k], d_out[k], weight[k], residual[k], rstd, mean);
      cuda::StorePack<kVector>(args.d_x + offset + column, d_x, count);
    }
  }
  WritePartial<kVector, T>(d_weight, lanes, width,
                           args.partials + static_cast<int64_t>(blockIdx.x) * width);
}

// The same for rows of any width, an element at a time; the partial sums grow in memory.
template <typename T>
__global__ void __launch_bounds__(cuda::kMaxTeam) BackwardWideRows(BackwardArgs<T> args) {
  __shared__ float shared[2][kWarp];
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * args.sum_rows;
  const int64_t end_row = min(args.rows, first_row + args.sum_rows);
  float* partial = args.partials + static_cast<int64_t>(blockIdx.x) * args.columns;
  for (int64_t row = first_row; row < end_row; ++row) {
    const float rstd = args.rstd[row];
    const int64_t offset = row * args.columns;
    float dot = 0.0f;
    for (int64_t i = threadIdx.x; i < args.columns; i += cuda::kMaxTeam) {
      const float d = ToFloat(args.d_out[offset + i]);
      const float n = ToFloat(args.x[offset + i]) * rstd;
      dot = fmaf(d * ToFloat(args.weight[i]), n, dot);
      const float before = row == first_row ? 0.0f : partial[i];
      partial[i] = fmaf(d, ToFloat(cuda::FromFloat<T>(n)), before);
    }
    const float mean =
        __fdiv_rn(cuda::BlockSum(dot, shared[row % 2]), static_cast<float>(args.columns));
    for (int64_t i = threadIdx.x; i < args.columns; i += cuda::kMaxTeam) {
      const float g = ToFloat(args.d_out[offset + i]) * ToFloat(args.weight[i]);
      const float n = ToFloat(args.x[offset + i]) * rstd;
      const float add = args.d_residual != nullptr ? ToFloat(args.d_residual[offset + i]) : 0.0f;
      args.d_x[offset + i] = cuda::FromFloat<T>(fmaf(rstd, fmaf(-n, mean, g), add));
    }
  }
}

template <typename T>
void LaunchRows(cudaStream_t stream, const BackwardArgs<T>& args, uint32_t blocks) {
  const bool vector = args.columns % kWide<T> == 0 && cuda::IsAligned(args.d_out, 16) &&
                      cuda::IsAligned(args.x, 16) && cuda::IsAligned(args.weight, 16) &&
                      cuda::IsAligned(args.d_residual, 16) && cuda::IsAligned(args.d_x, 16);
  // No team without a row.
  const int threads = std::max(std::min(kThreads, args.lanes * args.sum_rows), args.lanes);
  if (!cuda::FitsOneSegment<T>(args.columns)) {
    BackwardWideRows<<<blocks, cuda::kMaxTeam, 0, stream>>>(args);
  } else if (vector) {
    BackwardRows<true><<<blocks, threads, 0, stream>>>(args);
  } else {
    BackwardRows<false><<<blocks, threads, 0, stream>>>(args);
  }
  CheckLaunch("RmsNormBackward");
}

template <typename T>
void Backward(cudaStream_t stream, const RmsNormBackwardArgs& args) {
  const int64_t rows = args.x.shape()[0];
  const int64_t columns = args.x.shape()[1];
  if (rows == 0) return;
  const int64_t blocks = PartialSumCount(rows);
  auto* partials = static_cast<float*>(args.workspace.data());
  LaunchRows<T>(stream,
                {.d_out = args.d_out.as<T>(),
                 .x = args.x.as<T>(),
                 .weight = args.weight.as<T>(),
                 .rstd = args.rstd.as<float>(),
                 .d_residual = args.d_residual ? args.d_residual.as<T>() : nullptr,
                 .d_x = args.d_x.as<T>(),
                 .partials = partials,
                 .sum_rows = Narrow<int>(RowsPerPartialSum(rows)),
                 .lanes = cuda::TeamLanes<T>(columns),
                 .rows = rows,
                 .columns = columns},
                cuda::GridSize(blocks));
  cuda::AddPartialSums(stream, partials, blocks, args.d_weight);
}

}  // namespace

void CudaBackend::DoRmsNormBackward(Stream& stream, const RmsNormBackwardArgs& args) {
  if (args.x.dtype() == DType::kF32) {
    Backward<float>(NativeStream(stream), args);
  } else {
    Backward<BFloat16>(NativeStream(stream), args);
  }
}

}  // namespace hearth
