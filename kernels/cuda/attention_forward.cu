// Forward attention on tensor cores, after "FlashAttention-2" (Dao, 2023): a thread block keeps a
// block of query rows with the running maximum and sum of their softmax, and passes over the keys
// up to the diagonal.
#include <cmath>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/attention_sequences.cuh"
#include "kernels/cuda/device/attention_tiles.cuh"

namespace hearth {

namespace cuda {
namespace {

struct ForwardParams {
  SequenceOffsets sequences;
  const BFloat16* qkv;
  BFloat16* out;
  float* log_sum_exp;
  int heads;
  int kv_heads;
  float scale;
};

// A warp has 16 * kRowTiles query rows. Two row tiles use each fragment of a key or value twice,
// without which shared memory (128 bytes a clock) would be slower than Hopper's tensor cores; they
// fill the register file with two blocks of four warps. One row tile and smaller blocks let two
// thread blocks share the 100 KB of shared memory of the smaller chips.
template <int kHeadDim_, int kRowTiles_, int kKeys_>
struct ForwardConfig {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kRowTiles = kRowTiles_;
  static constexpr int kKeys = kKeys_;  // of a step
  static constexpr int kWarps = 4;
  static constexpr int kBlocks = 2;  // on a multiprocessor
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kWarpRows = 16 * kRowTiles;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kTiles = kKeys / 8;
  using Layout = TileLayout<kHeadDim>;
  static constexpr int kQueryBytes = Layout::Bytes(kRows);
  static constexpr int kKeyBytes = Layout::Bytes(kKeys);
  static constexpr int kSharedBytes = kQueryBytes + 2 * kKeyBytes;
};

// The running softmax of the lane's rows: per row tile, row lane / 4 and row lane / 4 + 8. The
// maximum (or nearly that) is the same in the four lanes of a row; of the sum each has its own
// columns' part.
template <int kRowTiles>
struct RunningSoftmax {
  static constexpr float kSlack = 8.0f;
  float maximum[kRowTiles][2];
  float sum[kRowTiles][2];

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        maximum[r][half] = -INFINITY;
        sum[r][half] = 0.0f;
      }
    }
  }

  // scores -> 2^(exp2_scale * (score - maximum)), with `out` and the sums brought to the new
  // maximum; exp2_scale = scale / ln 2. The maximum follows the scores only where they pass it by
  // 2^kSlack: until then a probability is at most that, which costs no precision, and the sums can
  // mostly stay as they are.
  template <int kTiles, int kOutTiles>
  __device__ __forceinline__ void Update(float exp2_scale, Sums<kRowTiles, kTiles>& scores,
                                         Sums<kRowTiles, kOutTiles>& out) {
    float correction[kRowTiles][2];
    bool is_corrected = false;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float old = maximum[r][half];
        float largest = old;
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          const float(&four)[4] = scores.values[r][n];
          largest = fmaxf(largest, fmaxf(four[2 * half], four[2 * half + 1]));
        }
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
        const bool follows = (largest - old) * exp2_scale > kSlack;
        maximum[r][half] = follows ? largest : old;
        correction[r][half] = follows ? Exp2((old - largest) * exp2_scale) : 1.0f;
        is_corrected |= follows;
      }
    }
    if (__any_sync(kAllLanes, is_corrected)) Correct(correction, out);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float shift = maximum[r][half] * exp2_scale;
        float total = sum[r][half];
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          float(&four)[4] = scores.values[r][n];
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; ++i) {
            four[i] = Exp2(fmaf(four[i], exp2_scale, -shift));
            total += four[i];
          }
        }
        sum[r][half] = total;
      }
    }
  }

  template <int kOutTiles>
  __device__ __forceinline__ void Correct(const float (&correction)[kRowTiles][2],
                                          Sums<kRowTiles, kOutTiles>& out) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        sum[r][half] *= correction[r][half];
#pragma unroll
        for (int n = 0; n < kOutTiles; ++n) {
          out.values[r][n][2 * half] *= correction[r][half];
          out.values[r][n][2 * half + 1] *= correction[r][half];
        }
      }
    }
  }

  // out / sum; log_sum_exp[row] for rows below `count`, counted from the warp's first.
  template <int kOutTiles>
  __device__ __forceinline__ void Finish(float scale, int count, float* log_sum_exp,
                                         Sums<kRowTiles, kOutTiles>& out) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float total = sum[r][half];
        total += __shfl_xor_sync(kAllLanes, total, 1);
        total += __shfl_xor_sync(kAllLanes, total, 2);
        const int row = 16 * r + 8 * half + lane / 4;
        if (lane % 4 == 0 && row < count) {
          log_sum_exp[row] = fmaf(maximum[r][half], scale, logf(total));
        }
        const float inverse = __fdividef(1.0f, total);
#pragma unroll
        for (int n = 0; n < kOutTiles; ++n) {
          out.values[r][n][2 * half] *= inverse;
          out.values[r][n][2 * half + 1] *= inverse;
        }
      }
    }
  }
};

template <typename Config>
__device__ __forceinline__ void ForwardBlock(const ForwardParams& params, const RowBlock& block,
                                             int head, uint8_t* shared) {
  constexpr int kHeadDim = Config::kHeadDim;
  constexpr int kKeys = Config::kKeys;
  using Source = TileSource<kHeadDim, Config::kThreads>;
  const int row_heads = params.heads + 2 * params.kv_heads;
  const int kv_head = head / (params.heads / params.kv_heads);
  const Source keys(params.qkv, {row_heads, block.begin, params.heads + kv_head});
  const uint32_t query_tile = SharedAddress(shared);
  const uint32_t key_tile = query_tile + Config::kQueryBytes;
  const uint32_t value_tile = key_tile + Config::kKeyBytes;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * Config::kWarpRows;
  const int first_query = block.first_row + warp_row;
  const int past_keys = min(block.first_row + Config::kRows, block.length);

  Source(params.qkv, {row_heads, block.begin, head})
      .template CopyAsync<Config::kRows>(block.first_row, block.length, query_tile);
  keys.template CopyAsync<kKeys>(0, block.length, key_tile);
  CopyAsyncCommit();
  Sums<Config::kRowTiles, kHeadDim / 8> out;
  RunningSoftmax<Config::kRowTiles> softmax;
  out.Clear();
  softmax.Clear();
  for (int first_key = 0; first_key < past_keys; first_key += kKeys) {
    // Keys of a block whose first lies behind the warp's last query are none of its business.
    const bool sees = first_key < first_query + Config::kWarpRows && first_query < block.length;
    Sums<Config::kRowTiles, Config::kTiles> scores;
    CopyAsyncWait<0>();
    __syncthreads();  // the keys are there, and nobody needs the last values any more
    keys.Moved(params.kv_heads).template CopyAsync<kKeys>(first_key, block.length, value_tile);
    CopyAsyncCommit();
    if (sees) {
      scores.Clear();
      MultiplyRows<kHeadDim>(query_tile + Config::Layout::Bytes(warp_row), key_tile, scores);
    }
    CopyAsyncWait<0>();
    __syncthreads();  // the values are there, and nobody needs the keys any more
    if (first_key + kKeys < past_keys) {
      keys.template CopyAsync<kKeys>(first_key + kKeys, block.length, key_tile);
    }
    CopyAsyncCommit();
    if (!sees) continue;
    if (first_key + kKeys - 1 > first_query) {
      Mask<Hidden::kLaterColumns>(first_query, first_key, scores);
    }
    softmax.Update(params.scale * kLog2E, scores, out);
    Factors<Config::kRowTiles, Config::kTiles> probabilities;
    probabilities.Round(scores);
    MultiplyFactors<kHeadDim>(probabilities, value_tile, out);
  }

  const int count = block.length - first_query;
  const int64_t token = block.begin + first_query;
  softmax.Finish(params.scale, count, params.log_sum_exp + head * params.sequences.tokens + token,
                 out);
  const int64_t out_stride = int64_t{params.heads} * kHeadDim;
  StoreRows<kHeadDim>(out, shared + Config::Layout::Bytes(warp_row),
                      params.out + token * out_stride + head * kHeadDim, out_stride, count);
}

template <typename Config>
__device__ __forceinline__ void ForwardPadding(const ForwardParams& params, const RowBlock& block,
                                               int head) {
  ZeroRows<Config::kHeadDim, Config::kRows, Config::kThreads>(
      params.out, {params.heads, block.begin, head}, block.first_row, block.length);
  float* log_sum_exp = params.log_sum_exp + head * params.sequences.tokens + block.begin;
  for (int i = static_cast<int>(threadIdx.x); i < Config::kRows; i += Config::kThreads) {
    if (block.first_row + i < block.length) log_sum_exp[block.first_row + i] = 0.0f;
  }
}

// Floor: 4 * head_dim operations per query head and pair of a query and a key it sees, on the
// tensor cores; bytes matter only for sequences of a few hundred tokens. The heads of a block of
// rows start together, so those that share a key/value head find it in the L2 cache; the last rows
// of the sequences, which see most keys, start first.
template <typename Config>
__global__ void __launch_bounds__(Config::kThreads, Config::kBlocks)
    ForwardKernel(const ForwardParams params) {
  extern __shared__ __align__(128) uint8_t shared[];
  const int head = static_cast<int>(blockIdx.x) % params.heads;
  const int slots = static_cast<int>(gridDim.x) / params.heads;
  for (int i = static_cast<int>(blockIdx.x) / params.heads;; i += slots) {
    // Made again in each round: in registers it would be in the way of the round's work.
    const RowBlocks<Config::kRows> blocks(params.sequences);
    if (i >= blocks.count()) return;
    const RowBlock block = blocks.Find(blocks.ByPlace(blocks.count() - 1 - i));
    if (block.first_row >= block.length) continue;
    if (block.is_padding) {
      ForwardPadding<Config>(params, block, head);
    } else {
      ForwardBlock<Config>(params, block, head, shared);
      __syncthreads();  // the tiles belong to the next block of rows
    }
  }
}

template <typename Config>
void Launch(cudaStream_t stream, const AttentionForwardArgs& args) {
  const AttentionShape& shape = args.shape;
  const ForwardParams params{.sequences = Sequences(args.sequence_offsets, args.qkv.shape()[0]),
                             .qkv = args.qkv.as<BFloat16>(),
                             .out = args.out.as<BFloat16>(),
                             .log_sum_exp = args.log_sum_exp.as<float>(),
                             .heads = Narrow<int>(shape.heads),
                             .kv_heads = Narrow<int>(shape.kv_heads),
                             .scale = shape.softmax_scale};
  LaunchBlocks<Config>(stream, ForwardKernel<Config>, "attention forward", shape.heads, params);
}

}  // namespace
}  // namespace cuda

void TiledAttentionForward(cudaStream_t stream, const GpuChip& chip,
                           const AttentionForwardArgs& args) {
  using Large64 = cuda::ForwardConfig<64, 2, 64>;
  using Large128 = cuda::ForwardConfig<128, 2, 64>;
  const int64_t blocks = args.shape.heads * DivUp(args.qkv.shape()[0], Large128::kRows);
  const bool few = AreFew(blocks, chip);
  if (args.shape.head_dim == 64) {
    Fits<Large64>(chip) && !few ? cuda::Launch<Large64>(stream, args)
                                : cuda::Launch<cuda::ForwardConfig<64, 1, 64>>(stream, args);
  } else {
    Fits<Large128>(chip) && !few ? cuda::Launch<Large128>(stream, args)
                                 : cuda::Launch<cuda::ForwardConfig<128, 1, 64>>(stream, args);
  }
}

}  // namespace hearth
