#include "kernels/api/rope.h"

#include <algorithm>

#include "kernels/api/workspace.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/grid.cuh"
#include "kernels/cuda/device/rotary.cuh"
#include "kernels/cuda/partial_sums.cuh"

namespace hearth {

namespace {

using cuda::Halves;
using cuda::kWarp;
using cuda::kWide;
using cuda::RotaryArgs;

constexpr int kThreads = 256;
// Heads that a thread turns with the angles it has loaded: 32 bytes each, all in flight at once.
constexpr int kHeadsPerThread = 4;

// Floor: every head that is touched, read and written: 4 bytes per element in bf16. A thread holds
// the same 16 bytes of each half of several heads of a token. Wide accesses; half a head is a
// multiple of 16 bytes, with kNorm a power of two of them, at most 32.
template <bool kNorm, typename T>
__global__ void __launch_bounds__(kThreads) TurnHeads(RotaryArgs<T> args) {
  constexpr int N = kWide<T>;
  const int half = args.head_dim / 2;
  const int lanes = half / N;
  const int slots = (args.touched + kHeadsPerThread - 1) / kHeadsPerThread;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int column = static_cast<int>(thread % lanes) * N;
  const int slot = static_cast<int>(thread / lanes % slots);
  const int64_t token = thread / lanes / slots;
  // Threads beyond the end stay for the warp's sums.
  const int heads = token < args.tokens ? args.touched : 0;
  const int64_t offset = token * args.all * args.head_dim + column;
  cuda::Pack<T, N> low[kHeadsPerThread];
  cuda::Pack<T, N> high[kHeadsPerThread];
#pragma unroll
  for (int i = 0; i < kHeadsPerThread; ++i) {
    const int h = slot + i * slots;
    low[i] = high[i] = {};
    if (h >= heads) continue;
    const T* head = args.in + offset + static_cast<int64_t>(h) * args.head_dim;
    low[i] = cuda::LoadPack<true, N>(head, N);
    high[i] = cuda::LoadPack<true, N>(head + half, N);
  }
  Halves<N> angles = {};
  if (heads > 0) angles = cuda::LoadAngles<true, N>(args, args.positions[token], column);
#pragma unroll
  for (int i = 0; i < kHeadsPerThread; ++i) {
    const int h = slot + i * slots;
    Halves<N> head;
    Unpack(low[i], head.low);
    Unpack(high[i], head.high);
    float squares = 0.0f;
    if constexpr (kNorm) squares = cuda::LaneSum(cuda::SumOfProducts(head, head), lanes);
    if (h >= heads) continue;
    T* out = args.out + offset + static_cast<int64_t>(h) * args.head_dim;
    if (h >= args.rotated) {
      cuda::StorePack<true>(out, low[i], N);
      cuda::StorePack<true>(out + half, high[i], N);
      continue;
    }
    if constexpr (kNorm) {
      const T* norm = (h < args.heads ? args.norm_q : args.norm_k) + column;
      Halves<N> weight;
      Unpack(cuda::LoadPack<true, N>(norm, N), weight.low);
      Unpack(cuda::LoadPack<true, N>(norm + half, N), weight.high);
      float* rstd = column == 0 ? args.rstd + token * args.rotated + h : nullptr;
      cuda::NormalizeHead<T>(args, squares, weight, rstd, head);
    }
    cuda::Rotate(angles, args.sign, head);
    cuda::StorePack<true>(out, cuda::Round<T>(head.low), N);
    cuda::StorePack<true>(out + half, cuda::Round<T>(head.high), N);
  }
}

// The same for any size: a warp per head, a pair of columns at a time.
template <bool kNorm, typename T>
__global__ void __launch_bounds__(kThreads) TurnAnyHeads(RotaryArgs<T> args) {
  const int half = args.head_dim / 2;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  const int64_t token = warp / args.touched;
  const int h = static_cast<int>(warp % args.touched);
  if (token >= args.tokens) return;  // the whole warp
  const int64_t offset = (token * args.all + h) * args.head_dim;
  const T* in = args.in + offset;
  T* out = args.out + offset;
  if (h >= args.rotated) {
    for (int i = lane; i < args.head_dim; i += kWarp) out[i] = in[i];
    return;
  }
  const auto load = [](const T* from, int column, int distance) {
    return Halves<1>{{ToFloat(from[column])}, {ToFloat(from[column + distance])}};
  };
  float squares = 0.0f;
  if constexpr (kNorm) {
    for (int i = lane; i < half; i += kWarp) {
      const Halves<1> head = load(in, i, half);
      squares += cuda::SumOfProducts(head, head);
    }
    squares = cuda::WarpSum(squares);
  }
  for (int i = lane; i < half; i += kWarp) {
    Halves<1> head = load(in, i, half);
    if constexpr (kNorm) {
      const Halves<1> weight = load(h < args.heads ? args.norm_q : args.norm_k, i, half);
      float* rstd = i == 0 ? args.rstd + token * args.rotated + h : nullptr;
      cuda::NormalizeHead<T>(args, squares, weight, rstd, head);
    }
    cuda::Rotate(cuda::LoadAngles<false, 1>(args, args.positions[token], i), args.sign, head);
    out[i] = cuda::FromFloat<T>(head.low[0]);
    out[i + half] = cuda::FromFloat<T>(head.high[0]);
  }
}

// The gradient through the norm of a head: `d` arrives rotated back, `x` as forward read it. Adds
// to the gradient of the norm's weight and returns the thread's part of sum(g * n).
template <typename T, int N>
__device__ float NormGradient(float rstd, const Halves<N>& weight, Halves<N>& d, Halves<N>& x,
                              Halves<N>& d_weight) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    x.low[i] = x.low[i] * rstd;
    x.high[i] = x.high[i] * rstd;
  }
  Halves<N> rounded = x;
  cuda::RoundHalves<T>(rounded);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    d_weight.low[i] = fmaf(d.low[i], rounded.low[i], d_weight.low[i]);
    d_weight.high[i] = fmaf(d.high[i], rounded.high[i], d_weight.high[i]);
    d.low[i] = d.low[i] * weight.low[i];
    d.high[i] = d.high[i] * weight.high[i];
  }
  return cuda::SumOfProducts(d, x);
}

// rstd * (g - n * mean).
template <int N>
__device__ void FinishNormGradient(float rstd, float mean, const Halves<N>& n, Halves<N>& g) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    g.low[i] = rstd * fmaf(-n.low[i], mean, g.low[i]);
    g.high[i] = rstd * fmaf(-n.high[i], mean, g.high[i]);
  }
}

// The heads of one kind (0 queries, 1 keys) of sum_tokens tokens, and the place of their partial
// sum.
struct HeadBlock {
  template <typename T>
  __device__ explicit HeadBlock(const RotaryArgs<T>& args)
      : first_token(static_cast<int64_t>(blockIdx.x) * args.sum_tokens),
        first_head(blockIdx.y == 0 ? 0 : args.heads),
        heads(blockIdx.y == 0 ? args.heads : args.rotated - args.heads),
        items(static_cast<int>(
                  min(args.tokens - first_token, static_cast<int64_t>(args.sum_tokens))) *
              heads),
        partial(args.partials +
                (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * args.head_dim) {}
  int64_t first_token;
  int first_head;
  int heads;
  int items;  // heads of all tokens
  float* partial;
};

// Heads that a group of threads has in flight: 64 bytes for each thread.
constexpr int kItemsInFlight = 2;

// d_out and x of a head, the thread's columns of both halves, and what its arithmetic waits for.
template <typename T>
struct LoadedHead {
  cuda::Pack<T, kWide<T>> d_low, d_high, x_low, x_high;
  int64_t offset;
  float rstd;
  int position;
};

template <typename T>
__device__ LoadedHead<T> LoadHead(const RotaryArgs<T>& args, int64_t token, int h, int column) {
  constexpr int N = kWide<T>;
  const int half = args.head_dim / 2;
  const int64_t offset = (token * args.all + h) * args.head_dim + column;
  return {cuda::LoadPack<true, N>(args.in + offset, N),
          cuda::LoadPack<true, N>(args.in + offset + half, N),
          cuda::LoadPack<true, N>(args.x + offset, N),
          cuda::LoadPack<true, N>(args.x + offset + half, N),
          offset,
          args.rstd[token * args.rotated + h],
          args.positions[token]};
}

// partial[i] = the sum over rows of held[rows, columns], in order.
__device__ void WritePartial(const float* held, int rows, int columns, float* partial) {
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < columns; i += static_cast<int>(blockDim.x)) {
    float sum = 0.0f;
    for (int row = 0; row < rows; ++row) sum += held[row * columns + i];
    partial[i] = sum;
  }
}

// Floor: d_out and x read, d_qkv written: 6 bytes per element of query and key heads in bf16. A
// block takes the heads of one kind of sum_tokens tokens; groups of head_dim / 2 / N threads take
// these in turn, so that a thread's columns, and its sums for the norm's weight, stay the same.
// Wide accesses, as in TurnHeads.
template <typename T>
__global__ void __launch_bounds__(kThreads, 2) TurnBackHeads(RotaryArgs<T> args) {
  constexpr int N = kWide<T>;
  __shared__ float held[2 * N * kThreads];  // [group][head_dim]
  const HeadBlock block(args);
  const int half = args.head_dim / 2;
  const int lanes = half / N;
  const int groups = kThreads / lanes;
  const int group = static_cast<int>(threadIdx.x) / lanes;
  const int column = static_cast<int>(threadIdx.x) % lanes * N;
  const T* norm = (blockIdx.y == 0 ? args.norm_q : args.norm_k) + column;
  Halves<N> weight;
  Unpack(cuda::LoadPack<true, N>(norm, N), weight.low);
  Unpack(cuda::LoadPack<true, N>(norm + half, N), weight.high);
  Halves<N> d_weight = {};
  for (int begin = 0; begin < block.items; begin += groups * kItemsInFlight) {
    LoadedHead<T> loaded[kItemsInFlight];
#pragma unroll
    for (int i = 0; i < kItemsInFlight; ++i) {
      const int item = begin + i * groups + group;
      loaded[i] = {};
      if (item >= block.items) continue;
      loaded[i] = LoadHead(args, block.first_token + item / block.heads,
                           block.first_head + item % block.heads, column);
    }
#pragma unroll
    for (int i = 0; i < kItemsInFlight; ++i) {
      const bool exists = begin + i * groups + group < block.items;  // others stay, with zeros
      const float rstd = loaded[i].rstd;
      Halves<N> d;
      Halves<N> x;
      Unpack(loaded[i].d_low, d.low);
      Unpack(loaded[i].d_high, d.high);
      Unpack(loaded[i].x_low, x.low);
      Unpack(loaded[i].x_high, x.high);
      if (exists) {
        cuda::Rotate(cuda::LoadAngles<true, N>(args, loaded[i].position, column), args.sign, d);
      }
      const float dot = cuda::LaneSum(NormGradient<T>(rstd, weight, d, x, d_weight), lanes);
      if (!exists) continue;
      FinishNormGradient(rstd, __fdiv_rn(dot, static_cast<float>(args.head_dim)), x, d);
      T* out = args.out + loaded[i].offset;
      cuda::StorePack<true>(out, cuda::Round<T>(d.low), N);
      cuda::StorePack<true>(out + half, cuda::Round<T>(d.high), N);
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    held[group * args.head_dim + column + i] = d_weight.low[i];
    held[group * args.head_dim + column + half + i] = d_weight.high[i];
  }
  WritePartial(held, groups, args.head_dim, block.partial);
}

// The same for any size: a warp per head, its sums for the norm's weight in shared memory.
template <typename T>
__global__ void __launch_bounds__(kThreads) TurnBackAnyHeads(RotaryArgs<T> args) {
  extern __shared__ float any_held[];  // [warp][head_dim]
  const HeadBlock block(args);
  const int half = args.head_dim / 2;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const T* norm = blockIdx.y == 0 ? args.norm_q : args.norm_k;
  float* mine = any_held + warp * args.head_dim;
  for (int i = lane; i < args.head_dim; i += kWarp) mine[i] = 0.0f;
  __syncwarp();
  const auto load = [&](const T* from, int column) {
    return Halves<1>{{ToFloat(from[column])}, {ToFloat(from[column + half])}};
  };
  for (int item = warp; item < block.items; item += warps) {
    const int64_t token = block.first_token + item / block.heads;
    const int h = block.first_head + item % block.heads;
    const int64_t offset = (token * args.all + h) * args.head_dim;
    const float rstd = args.rstd[token * args.rotated + h];
    // The two sweeps compute the same; only the first one's sums are kept.
    const auto gradient = [&](int i, Halves<1>& d, Halves<1>& x, Halves<1>& d_weight) {
      d = load(args.in + offset, i);
      x = load(args.x + offset, i);
      cuda::Rotate(cuda::LoadAngles<false, 1>(args, args.positions[token], i), args.sign, d);
      return NormGradient<T>(rstd, load(norm, i), d, x, d_weight);
    };
    float dot = 0.0f;
    Halves<1> d;
    Halves<1> x;
    for (int i = lane; i < half; i += kWarp) {
      Halves<1> d_weight{{mine[i]}, {mine[i + half]}};
      dot += gradient(i, d, x, d_weight);
      mine[i] = d_weight.low[0];
      mine[i + half] = d_weight.high[0];
    }
    const float mean = __fdiv_rn(cuda::WarpSum(dot), static_cast<float>(args.head_dim));
    for (int i = lane; i < half; i += kWarp) {
      Halves<1> unused = {};
      gradient(i, d, x, unused);
      FinishNormGradient(rstd, mean, x, d);
      args.out[offset + i] = cuda::FromFloat<T>(d.low[0]);
      args.out[offset + i + half] = cuda::FromFloat<T>(d.high[0]);
    }
  }
  WritePartial(any_held, warps, args.head_dim, block.partial);
}

// What RopeForwardArgs and RopeBackwardArgs have in common, as a kernel wants it.
template <typename T>
RotaryArgs<T> CommonArgs(const auto& args, const TensorView& in, const TensorView& out) {
  const bool in_place = in.data() == out.data();
  const int64_t all = args.heads + 2 * args.kv_heads;
  const int64_t rotated = args.heads + args.kv_heads;
  return {.in = in.as<T>(),
          .out = out.as<T>(),
          .positions = args.positions.template as<int32_t>(),
          .cos_sin = args.cos_sin.template as<float>(),
          .tokens = in.shape()[0],
          .heads = Narrow<int>(args.heads),
          .rotated = Narrow<int>(rotated),
          .touched = Narrow<int>(in_place ? rotated : all),
          .all = Narrow<int>(all),
          .head_dim = Narrow<int>(in.shape()[2]),
          .angles = args.cos_sin.shape()[0],
          .sign = 1.0f,
          .norm_q = args.norm ? args.norm.q.template as<T>() : nullptr,
          .norm_k = args.norm ? args.norm.k.template as<T>() : nullptr,
          .rstd = args.norm ? args.rstd.template as<float>() : nullptr,
          .epsilon = args.norm.epsilon,
          .x = nullptr,
          .partials = nullptr,
          .sum_tokens = 0};
}

// Whether 16-byte accesses reach every half of a head, and with a norm, shuffles every thread of
// it.
template <typename T>
bool IsVector(const RotaryArgs<T>& args) {
  const int half = args.head_dim / 2;
  const int lanes = half / kWide<T>;
  const bool aligned = cuda::IsAligned(args.in, 16) && cuda::IsAligned(args.out, 16) &&
                       cuda::IsAligned(args.cos_sin, 16) && cuda::IsAligned(args.norm_q, 16) &&
                       cuda::IsAligned(args.norm_k, 16) && cuda::IsAligned(args.x, 16);
  const bool grouped = args.norm_q == nullptr || (lanes <= kWarp && (lanes & (lanes - 1)) == 0);
  return aligned && half % kWide<T> == 0 && grouped;
}

template <bool kNorm, typename T>
void LaunchTurn(cudaStream_t stream, const RotaryArgs<T>& args) {
  if (args.tokens == 0) return;
  if (IsVector(args)) {
    const int64_t slots = DivUp(args.touched, kHeadsPerThread);
    const int64_t threads = args.tokens * slots * (args.head_dim / 2 / kWide<T>);
    TurnHeads<kNorm><<<cuda::GridSize(DivUp(threads, kThreads)), kThreads, 0, stream>>>(args);
  } else {
    const int64_t threads = args.tokens * args.touched * kWarp;
    TurnAnyHeads<kNorm><<<cuda::GridSize(DivUp(threads, kThreads)), kThreads, 0, stream>>>(args);
  }
  CheckLaunch("Rope");
}

template <typename T>
void Forward(cudaStream_t stream, const RopeForwardArgs& args) {
  const RotaryArgs<T> rotary = CommonArgs<T>(args, args.qkv, args.out);
  if (args.norm) {
    LaunchTurn<true>(stream, rotary);
  } else {
    LaunchTurn<false>(stream, rotary);
  }
}

// The kernel with a norm passes by the value heads.
void CopyValueHeads(cudaStream_t stream, const RopeBackwardArgs& args) {
  if (args.d_qkv.data() == args.d_out.data()) return;
  const int64_t head = args.d_out.shape()[2] * SizeOf(args.d_out.dtype());
  const int64_t offset = (args.heads + args.kv_heads) * head;
  const auto pitch = static_cast<size_t>((args.heads + 2 * args.kv_heads) * head);
  CheckCuda(cudaMemcpy2DAsync(static_cast<uint8_t*>(args.d_qkv.data()) + offset, pitch,
                              static_cast<const uint8_t*>(args.d_out.data()) + offset, pitch,
                              static_cast<size_t>(args.kv_heads * head),
                              static_cast<size_t>(args.d_out.shape()[0]), cudaMemcpyDeviceToDevice,
                              stream),
            "copying value heads");
}

template <typename T>
void Backward(cudaStream_t stream, const RopeBackwardArgs& args) {
  RotaryArgs<T> rotary = CommonArgs<T>(args, args.d_out, args.d_qkv);
  rotary.sign = -1.0f;
  if (!args.norm) return LaunchTurn<false>(stream, rotary);
  if (rotary.tokens == 0) return;
  rotary.x = args.qkv.as<T>();
  rotary.partials = static_cast<float*>(args.workspace.data());
  rotary.sum_tokens = Narrow<int>(RowsPerPartialSum(rotary.tokens));
  const int64_t blocks = PartialSumCount(rotary.tokens);
  const dim3 grid(cuda::GridSize(blocks), 2);
  if (IsVector(rotary)) {
    TurnBackHeads<<<grid, kThreads, 0, stream>>>(rotary);
  } else {
    constexpr int64_t kSharedFloats = 12'288;  // what every chip gives a block unasked
    CHECK(rotary.head_dim <= kSharedFloats, "rope: heads of {} columns", rotary.head_dim);
    const int64_t warps = std::min<int64_t>(kThreads / kWarp, kSharedFloats / rotary.head_dim);
    const auto shared = static_cast<size_t>(warps * rotary.head_dim) * sizeof(float);
    TurnBackAnyHeads<<<grid, static_cast<uint32_t>(warps * kWarp), shared, stream>>>(rotary);
  }
  CheckLaunch("RopeBackward");
  CopyValueHeads(stream, args);
  cuda::AddPartialSums(stream, rotary.partials, blocks, args.d_norm_q, args.d_norm_k);
}

}  // namespace

void CudaBackend::DoRopeForward(Stream& stream, const RopeForwardArgs& args) {
  if (args.qkv.dtype() == DType::kF32) {
    Forward<float>(NativeStream(stream), args);
  } else {
    Forward<BFloat16>(NativeStream(stream), args);
  }
}

void CudaBackend::DoRopeBackward(Stream& stream, const RopeBackwardArgs& args) {
  if (args.d_out.dtype() == DType::kF32) {
    Backward<float>(NativeStream(stream), args);
  } else {
    Backward<BFloat16>(NativeStream(stream), args);
  }
}

}  // namespace hearth
