// Backward attention on tensor cores, without atomics: one kernel gathers each key's and value's
// gradient over the queries that see them, another each query's over its keys. Both compute the
// probabilities again from the log-sum-exp; with P of scores S = scale * Q K^T and
// D[i] = out[i] . d_out[i]:
//   dV = P^T dO, dS = P * (dO V^T - D), dQ = scale * dS K, dK = scale * dS^T Q.
#include <cmath>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/attention_sequences.cuh"
#include "kernels/cuda/device/attention_tiles.cuh"

namespace hearth {

namespace cuda {
namespace {

struct BackwardParams {
  SequenceOffsets sequences;
  const BFloat16* qkv;
  const BFloat16* d_out;
  const float* log_sum_exp;    // [heads, tokens]
  const float* out_dot_d_out;  // [heads, tokens]
  BFloat16* d_qkv;
  int heads;
  int kv_heads;
  float scale;

  // Elements between the rows of a head in qkv.
  template <int kHeadDim>
  __device__ int Stride() const {
    return (heads + 2 * kv_heads) * kHeadDim;
  }
};

// The keys' kernel: a warp has 16 * kRowTiles keys, whose scores are kept as rows, so that P^T and
// dS^T are operands of the next products without leaving the registers.
template <int kHeadDim_, int kRowTiles_, int kWarps_, int kQueries_, int kBlocks_>
struct KeysConfig {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kRowTiles = kRowTiles_;
  static constexpr int kWarps = kWarps_;
  static constexpr int kQueries = kQueries_;  // of a step
  static constexpr int kBlocks = kBlocks_;    // on a multiprocessor
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kWarpRows = 16 * kRowTiles;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kTiles = kQueries / 8;
  using Layout = TileLayout<kHeadDim>;
  static constexpr int kRowBytes = Layout::Bytes(kRows);
  static constexpr int kQueryBytes = Layout::Bytes(kQueries);
  // Queries, d_out, log_sum_exp and D of a step; two steps are in memory.
  static constexpr int kStageBytes = 2 * kQueryBytes + 2 * kQueries * 4;
  static constexpr int kSharedBytes = 2 * kRowBytes + 2 * kStageBytes;
  static_assert(kStageBytes % 128 == 0);
};

// What of one step lies in shared memory.
template <typename Config>
struct QueryStage {
  __device__ QueryStage(uint8_t* shared, int stage)
      : memory(shared + 2 * Config::kRowBytes + stage * Config::kStageBytes) {}
  __device__ uint32_t queries() const { return SharedAddress(memory); }
  __device__ uint32_t d_out() const { return queries() + Config::kQueryBytes; }
  __device__ const float* log_sum_exp() const {
    return reinterpret_cast<const float*>(memory + 2 * Config::kQueryBytes);
  }
  __device__ const float* out_dot_d_out() const { return log_sum_exp() + Config::kQueries; }
  uint8_t* memory;
};

// Starts to copy the queries [first, first + kQueries) of a head.
template <typename Config>
__device__ __forceinline__ void CopyQueriesAsync(const BackwardParams& params,
                                                 const RowBlock& block, int head, int first,
                                                 const QueryStage<Config>& stage) {
  constexpr int kHeadDim = Config::kHeadDim;
  using Source = TileSource<kHeadDim, Config::kThreads>;
  const int stride = params.template Stride<kHeadDim>();
  const int out_stride = params.heads * kHeadDim;
  const Source queries(params.qkv + int64_t{block.begin} * stride + head * kHeadDim, stride);
  const Source d_out(params.d_out + int64_t{block.begin} * out_stride + head * kHeadDim,
                     out_stride);
  queries.template CopyAsync<Config::kQueries>(first, block.length, stage.queries());
  d_out.template CopyAsync<Config::kQueries>(first, block.length, stage.d_out());
  static_assert(Config::kThreads >= 2 * Config::kQueries);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < 2 * Config::kQueries) {
    const int row = first + thread % Config::kQueries;
    const bool valid = row < block.length;
    const float* from = thread < Config::kQueries ? params.log_sum_exp : params.out_dot_d_out;
    CopyAsync4(stage.queries() + static_cast<uint32_t>(2 * Config::kQueryBytes + 4 * thread),
               from + head * params.sequences.tokens + block.begin + (valid ? row : 0), valid);
  }
}

// scores -> probabilities; column j's log-sum-exp is log_sum_exp[j].
template <int kRowTiles, int kTiles>
__device__ __forceinline__ void ColumnProbabilities(float exp2_scale, const float* log_sum_exp,
                                                    Sums<kRowTiles, kTiles>& scores) {
  const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const auto two = Load<2>(log_sum_exp + 8 * n + column);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& score = scores.values[r][n][i];
        score = Exp2(fmaf(score, exp2_scale, -(two[i % 2] * kLog2E)));
      }
    }
  }
}

// d_p -> dS.
template <int kRowTiles, int kTiles>
__device__ __forceinline__ void ColumnScoreGradients(const Sums<kRowTiles, kTiles>& p,
                                                     const float* out_dot_d_out,
                                                     Sums<kRowTiles, kTiles>& d_p) {
  const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const auto two = Load<2>(out_dot_d_out + 8 * n + column);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        d_p.values[r][n][i] = p.values[r][n][i] * (d_p.values[r][n][i] - two[i % 2]);
      }
    }
  }
}

template <typename Config>
using KeySums = Sums<Config::kRowTiles, Config::kHeadDim / 8>;

// Adds what the queries of a stage give to the warp's keys.
template <typename Config>
__device__ __forceinline__ void KeysStep(const BackwardParams& params, uint8_t* shared,
                                         const QueryStage<Config>& stage, int first_key,
                                         int warp_row, int first_query, KeySums<Config>& d_k,
                                         KeySums<Config>& d_v) {
  constexpr int kHeadDim = Config::kHeadDim;
  const uint32_t keys = SharedAddress(shared) + Config::Layout::Bytes(warp_row);
  Sums<Config::kRowTiles, Config::kTiles> p;
  Factors<Config::kRowTiles, Config::kTiles> factors;
  p.Clear();
  MultiplyRows<kHeadDim>(keys, stage.queries(), p);
  if (first_query < first_key + Config::kWarpRows - 1) {
    Mask<Hidden::kLaterRows>(first_key, first_query, p);
  }
  ColumnProbabilities(params.scale * kLog2E, stage.log_sum_exp(), p);
  factors.Round(p);
  MultiplyFactors<kHeadDim>(factors, stage.d_out(), d_v);
  Sums<Config::kRowTiles, Config::kTiles> d_p;
  d_p.Clear();
  MultiplyRows<kHeadDim>(keys + Config::kRowBytes, stage.d_out(), d_p);
  ColumnScoreGradients(p, stage.out_dot_d_out(), d_p);
  factors.Round(d_p);
  MultiplyFactors<kHeadDim>(factors, stage.queries(), d_k);
}

template <typename Config>
__device__ __forceinline__ void KeysBlock(const BackwardParams& params, const RowBlock& block,
                                          int kv_head, uint8_t* shared) {
  constexpr int kHeadDim = Config::kHeadDim;
  constexpr int kQueries = Config::kQueries;
  using Source = TileSource<kHeadDim, Config::kThreads>;
  const int stride = params.template Stride<kHeadDim>();
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * Config::kWarpRows;
  const int first_key = block.first_row + warp_row;
  const int group = params.heads / params.kv_heads;
  const uint32_t key_tile = SharedAddress(shared);
  const Source keys(
      params.qkv + int64_t{block.begin} * stride + (params.heads + kv_head) * kHeadDim, stride);

  keys.template CopyAsync<Config::kRows>(block.first_row, block.length, key_tile);
  keys.Moved(params.kv_heads * kHeadDim)
      .template CopyAsync<Config::kRows>(block.first_row, block.length,
                                         key_tile + Config::kRowBytes);
  int head = kv_head * group;
  int first_query = block.first_row;
  CopyQueriesAsync(params, block, head, first_query, QueryStage<Config>(shared, 0));
  CopyAsyncCommit();
  KeySums<Config> d_k;
  KeySums<Config> d_v;
  d_k.Clear();
  d_v.Clear();
  int stage = 0;
  while (head < (kv_head + 1) * group) {
    const bool is_last_of_head = first_query + kQueries >= block.length;
    const int next_head = is_last_of_head ? head + 1 : head;
    const int next_query = is_last_of_head ? block.first_row : first_query + kQueries;
    CopyAsyncWait<0>();
    __syncthreads();  // this stage is there, and nobody needs the other one any more
    if (next_head < (kv_head + 1) * group) {
      CopyQueriesAsync(params, block, next_head, next_query, QueryStage<Config>(shared, stage ^ 1));
    }
    CopyAsyncCommit();
    // Queries before the warp's first key see none of its keys.
    if (first_query + kQueries > first_key && first_key < block.length) {
      KeysStep(params, shared, QueryStage<Config>(shared, stage), first_key, warp_row, first_query,
               d_k, d_v);
    }
    head = next_head;
    first_query = next_query;
    stage ^= 1;
  }

  // The warp's own rows of both tiles, which nobody else reads, take the results.
  const int count = block.length - first_key;
  uint8_t* tile = shared + Config::Layout::Bytes(warp_row);
  BFloat16* to = params.d_qkv + int64_t{block.begin + first_key} * stride +
                 (params.heads + kv_head) * kHeadDim;
  d_k.Scale(params.scale);
  StoreRows<kHeadDim>(d_k, tile, to, stride, count);
  StoreRows<kHeadDim>(d_v, tile + Config::kRowBytes, to + params.kv_heads * kHeadDim, stride,
                      count);
}

// Floor: 8 * head_dim operations per query head and pair, of which 4 * head_dim compute scores and
// dO V^T, which the queries' kernel computes again. The first keys, which most queries see, start
// first.
template <typename Config>
__global__ void __launch_bounds__(Config::kThreads, Config::kBlocks)
    KeysKernel(const BackwardParams params) {
  extern __shared__ __align__(128) uint8_t shared[];
  const int kv_head = static_cast<int>(blockIdx.x) % params.kv_heads;
  const int slots = static_cast<int>(gridDim.x) / params.kv_heads;
  for (int i = static_cast<int>(blockIdx.x) / params.kv_heads;; i += slots) {
    // Made again in each round: in registers it would be in the way of the round's work.
    const RowBlocks<Config::kRows> blocks(params.sequences);
    if (i >= blocks.count()) return;
    const RowBlock block = blocks.Find(i);
    if (block.first_row >= block.length) continue;
    if (block.is_padding) {
      BFloat16* rows = params.d_qkv +
                       int64_t{block.begin} * params.template Stride<Config::kHeadDim>() +
                       (params.heads + kv_head) * Config::kHeadDim;
      for (const int part : {0, params.kv_heads}) {
        ZeroRows<Config::kHeadDim, Config::kRows, Config::kThreads>(
            rows + part * Config::kHeadDim, params.template Stride<Config::kHeadDim>(),
            block.first_row, block.length);
      }
    } else {
      KeysBlock<Config>(params, block, kv_head, shared);
      __syncthreads();  // the tiles belong to the next block of rows
    }
  }
}

// The queries' kernel: a warp has 16 * kRowTiles queries.
template <int kHeadDim_, int kRowTiles_, int kWarps_, int kKeys_, int kBlocks_>
struct QueriesConfig {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kRowTiles = kRowTiles_;
  static constexpr int kWarps = kWarps_;
  static constexpr int kKeys = kKeys_;      // of a step
  static constexpr int kBlocks = kBlocks_;  // on a multiprocessor
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kWarpRows = 16 * kRowTiles;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kTiles = kKeys / 8;
  using Layout = TileLayout<kHeadDim>;
  static constexpr int kRowBytes = Layout::Bytes(kRows);
  static constexpr int kKeyBytes = Layout::Bytes(kKeys);
  // Queries and d_out; keys and values of two steps.
  static constexpr int kSharedBytes = 2 * kRowBytes + 4 * kKeyBytes;
};

// Numbers of the lane's rows: row lane / 4 and lane / 4 + 8 of each row tile.
template <int kRowTiles>
struct RowNumbers {
  float values[kRowTiles][2];

  // factor * numbers[row], counted from the warp's first row; those from `count` on get zero.
  __device__ __forceinline__ void Read(const float* numbers, int count, float factor) {
    const int row = static_cast<int>(threadIdx.x) % kWarp / 4;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int at = 16 * r + 8 * half + row;
        values[r][half] = at < count ? factor * numbers[at] : 0.0f;
      }
    }
  }
};

// Adds what the keys of a stage give to the warp's queries.
template <typename Config>
__device__ __forceinline__ void QueriesStep(float exp2_scale, uint32_t queries, uint32_t keys,
                                            int first_query, int first_key,
                                            const RowNumbers<Config::kRowTiles>& log2_sum_exp,
                                            const RowNumbers<Config::kRowTiles>& out_dot_d_out,
                                            KeySums<Config>& d_q) {
  constexpr int kHeadDim = Config::kHeadDim;
  Sums<Config::kRowTiles, Config::kTiles> p;
  Sums<Config::kRowTiles, Config::kTiles> d_p;
  p.Clear();
  MultiplyRows<kHeadDim>(queries, keys, p);
  if (first_key + Config::kKeys - 1 > first_query) {
    Mask<Hidden::kLaterColumns>(first_query, first_key, p);
  }
  d_p.Clear();
  MultiplyRows<kHeadDim>(queries + Config::kRowBytes, keys + Config::kKeyBytes, d_p);
#pragma unroll
  for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
    for (int n = 0; n < Config::kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float probability =
            Exp2(fmaf(p.values[r][n][i], exp2_scale, -log2_sum_exp.values[r][i / 2]));
        float& value = d_p.values[r][n][i];
        value = probability * (value - out_dot_d_out.values[r][i / 2]);
      }
    }
  }
  Factors<Config::kRowTiles, Config::kTiles> factors;
  factors.Round(d_p);
  MultiplyFactors<kHeadDim>(factors, keys, d_q);
}

template <typename Config>
__device__ __forceinline__ void QueriesBlock(const BackwardParams& params, const RowBlock& block,
                                             int head, uint8_t* shared) {
  constexpr int kHeadDim = Config::kHeadDim;
  constexpr int kKeys = Config::kKeys;
  using Source = TileSource<kHeadDim, Config::kThreads>;
  const int stride = params.template Stride<kHeadDim>();
  const BFloat16* row = params.qkv + int64_t{block.begin} * stride;
  const int kv_head = head / (params.heads / params.kv_heads);
  const Source keys(row + (params.heads + kv_head) * kHeadDim, stride);
  const uint32_t tiles = SharedAddress(shared);
  const uint32_t key_tiles = tiles + 2 * Config::kRowBytes;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * Config::kWarpRows;
  const int first_query = block.first_row + warp_row;
  const int past_keys = min(block.first_row + Config::kRows, block.length);
  const auto copy_keys_async = [&](int first, uint32_t tile) {
    keys.template CopyAsync<kKeys>(first, block.length, tile);
    keys.Moved(params.kv_heads * kHeadDim)
        .template CopyAsync<kKeys>(first, block.length, tile + Config::kKeyBytes);
  };

  Source(row + head * kHeadDim, stride)
      .template CopyAsync<Config::kRows>(block.first_row, block.length, tiles);
  const int out_stride = params.heads * kHeadDim;
  Source(params.d_out + int64_t{block.begin} * out_stride + head * kHeadDim, out_stride)
      .template CopyAsync<Config::kRows>(block.first_row, block.length, tiles + Config::kRowBytes);
  copy_keys_async(0, key_tiles);
  CopyAsyncCommit();
  const int64_t numbers = head * params.sequences.tokens + block.begin + first_query;
  RowNumbers<Config::kRowTiles> log2_sum_exp;
  RowNumbers<Config::kRowTiles> out_dot_d_out;
  log2_sum_exp.Read(params.log_sum_exp + numbers, block.length - first_query, kLog2E);
  out_dot_d_out.Read(params.out_dot_d_out + numbers, block.length - first_query, 1.0f);
  KeySums<Config> d_q;
  d_q.Clear();
  uint32_t stage = 0;
  for (int first_key = 0; first_key < past_keys; first_key += kKeys) {
    CopyAsyncWait<0>();
    __syncthreads();  // this stage is there, and nobody needs the other one any more
    if (first_key + kKeys < past_keys) {
      copy_keys_async(first_key + kKeys, key_tiles + (stage ^ 1) * 2 * Config::kKeyBytes);
    }
    CopyAsyncCommit();
    // Keys behind the warp's last query are none of its business.
    if (first_key < first_query + Config::kWarpRows && first_query < block.length) {
      QueriesStep<Config>(params.scale * kLog2E, tiles + Config::Layout::Bytes(warp_row),
                          key_tiles + stage * 2 * Config::kKeyBytes, first_query, first_key,
                          log2_sum_exp, out_dot_d_out, d_q);
    }
    stage ^= 1;
  }
  d_q.Scale(params.scale);
  StoreRows<kHeadDim>(d_q, shared + Config::Layout::Bytes(warp_row),
                      params.d_qkv + int64_t{block.begin + first_query} * stride + head * kHeadDim,
                      stride, block.length - first_query);
}

// Floor: 6 * head_dim operations per query head and pair.
template <typename Config>
__global__ void __launch_bounds__(Config::kThreads, Config::kBlocks)
    QueriesKernel(const BackwardParams params) {
  extern __shared__ __align__(128) uint8_t shared[];
  const int head = static_cast<int>(blockIdx.x) % params.heads;
  const int slots = static_cast<int>(gridDim.x) / params.heads;
  for (int i = static_cast<int>(blockIdx.x) / params.heads;; i += slots) {
    // Made again in each round: in registers it would be in the way of the round's work.
    const RowBlocks<Config::kRows> blocks(params.sequences);
    if (i >= blocks.count()) return;
    const RowBlock block = blocks.Find(blocks.count() - 1 - i);
    if (block.first_row >= block.length) continue;
    if (block.is_padding) {
      ZeroRows<Config::kHeadDim, Config::kRows, Config::kThreads>(
          params.d_qkv + int64_t{block.begin} * params.template Stride<Config::kHeadDim>() +
              head * Config::kHeadDim,
          params.template Stride<Config::kHeadDim>(), block.first_row, block.length);
    } else {
      QueriesBlock<Config>(params, block, head, shared);
      __syncthreads();  // the tiles belong to the next block of rows
    }
  }
}

template <typename Config>
void LaunchKeys(cudaStream_t stream, const BackwardParams& params) {
  LaunchBlocks<Config>(stream, KeysKernel<Config>, "attention backward of keys", params.kv_heads,
                       params);
}

template <typename Config>
void LaunchQueries(cudaStream_t stream, const BackwardParams& params) {
  LaunchBlocks<Config>(stream, QueriesKernel<Config>, "attention backward of queries", params.heads,
                       params);
}

}  // namespace
}  // namespace cuda

void TiledAttentionBackward(cudaStream_t stream, int compute_capability,
                            const AttentionBackwardArgs& args) {
  const AttentionShape& shape = args.shape;
  const cuda::BackwardParams params{
      .sequences = Sequences(args.sequence_offsets, args.qkv.shape()[0]),
      .qkv = args.qkv.as<BFloat16>(),
      .d_out = args.d_out.as<BFloat16>(),
      .log_sum_exp = args.log_sum_exp.as<float>(),
      .out_dot_d_out = static_cast<const float*>(args.workspace.data()),
      .d_qkv = args.d_qkv.as<BFloat16>(),
      .heads = Narrow<int>(shape.heads),
      .kv_heads = Narrow<int>(shape.kv_heads),
      .scale = shape.softmax_scale};
  const bool large = HasLargeSharedMemory(compute_capability);
  if (shape.head_dim == 64) {
    cuda::LaunchKeys<cuda::KeysConfig<64, 2, 4, 32, 2>>(stream, params);
    large ? cuda::LaunchQueries<cuda::QueriesConfig<64, 2, 4, 64, 2>>(stream, params)
          : cuda::LaunchQueries<cuda::QueriesConfig<64, 1, 8, 32, 2>>(stream, params);
  } else {
    large ? cuda::LaunchKeys<cuda::KeysConfig<128, 1, 8, 64, 1>>(stream, params)
          : cuda::LaunchKeys<cuda::KeysConfig<128, 1, 8, 32, 1>>(stream, params);
    large ? cuda::LaunchQueries<cuda::QueriesConfig<128, 2, 4, 32, 2>>(stream, params)
          : cuda::LaunchQueries<cuda::QueriesConfig<128, 1, 8, 32, 1>>(stream, params);
  }
}

}  // namespace hearth
