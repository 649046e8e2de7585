// Backward attention on tensor cores: the gradients of queries, and D on the way. A thread block
// keeps a block of queries with their d_out and passes over the keys up to the diagonal.
#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/device/attention_sequences.cuh"
#include "kernels/cuda/device/attention_tiles.cuh"

namespace hearth {

namespace cuda {
namespace {

// A warp has 16 * kRowTiles queries.
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
  // Queries and d_out; keys and values of two steps; D.
  static constexpr int kSharedBytes = 2 * kRowBytes + 4 * kKeyBytes + kRows * 4;
  static constexpr int kDotsAt = 2 * kRowBytes + 4 * kKeyBytes;

  using Gradients = Sums<kRowTiles, kHeadDim / 8>;
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

// The warp's query rows: from a token on, of one head, so many as exist.
struct WarpRows {
  int64_t token;
  int head;
  int count;
};

// D of the warp's rows, into global memory and dots[row], where it is zero from `count` on.
template <typename Config>
__device__ __forceinline__ void OutDotDOut(const BackwardParams& params, const WarpRows& rows,
                                           float* dots) {
  constexpr int kLanes = Config::Layout::kPieces;
  constexpr int kRowsAtOnce = kWarp / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row = (rows.token * params.heads + rows.head) * Config::kHeadDim;
#pragma unroll 4
  for (int first = 0; first < Config::kWarpRows; first += kRowsAtOnce) {
    const int at = first + lane / kLanes;
    float sum = 0.0f;
    if (at < rows.count) {
      const int64_t piece =
          row + int64_t{at} * (params.heads * Config::kHeadDim) + lane % kLanes * 8;
      const auto a = Load<8>(params.out + piece);
      const auto b = Load<8>(params.d_out + piece);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum = fmaf(ToFloat(a[i]), ToFloat(b[i]), sum);
    }
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      sum += __shfl_xor_sync(kAllLanes, sum, offset);
    }
    if (lane % kLanes == 0) dots[at] = sum;
  }
  __syncwarp();
  static_assert(Config::kWarpRows <= kWarp);
  if (lane < min(Config::kWarpRows, rows.count)) {
    params.out_dot_d_out[rows.head * params.sequences.tokens + rows.token + lane] = dots[lane];
  }
}

// Adds what the keys of a stage give to the warp's queries.
template <typename Config>
__device__ __forceinline__ void QueriesStep(float exp2_scale, uint32_t queries, uint32_t keys,
                                            int first_query, int first_key,
                                            const RowNumbers<Config::kRowTiles>& log2_sum_exp,
                                            const RowNumbers<Config::kRowTiles>& out_dot_d_out,
                                            typename Config::Gradients& d_q) {
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
  const int kv_head = head / (params.heads / params.kv_heads);
  const Source keys(params.qkv, {params.row_heads(), block.begin, params.heads + kv_head});
  const uint32_t tiles = SharedAddress(shared);
  const uint32_t key_tiles = tiles + 2 * Config::kRowBytes;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * Config::kWarpRows;
  const int first_query = block.first_row + warp_row;
  const int past_keys = min(block.first_row + Config::kRows, block.length);
  const auto copy_keys_async = [&](int first, uint32_t tile) {
    keys.template CopyAsync<kKeys>(first, block.length, tile);
    keys.Moved(params.kv_heads)
        .template CopyAsync<kKeys>(first, block.length, tile + Config::kKeyBytes);
  };

  Source(params.qkv, {params.row_heads(), block.begin, head})
      .template CopyAsync<Config::kRows>(block.first_row, block.length, tiles);
  Source(params.d_out, {params.heads, block.begin, head})
      .template CopyAsync<Config::kRows>(block.first_row, block.length, tiles + Config::kRowBytes);
  copy_keys_async(0, key_tiles);
  CopyAsyncCommit();
  const int count = block.length - first_query;
  const int64_t token = block.begin + first_query;
  float* dots = reinterpret_cast<float*>(shared + Config::kDotsAt) + warp_row;
  OutDotDOut<Config>(params, {token, head, count}, dots);
  RowNumbers<Config::kRowTiles> log2_sum_exp;
  RowNumbers<Config::kRowTiles> out_dot_d_out;
  log2_sum_exp.Read(params.log_sum_exp + head * params.sequences.tokens + token, count, kLog2E);
  out_dot_d_out.Read(dots, Config::kWarpRows, 1.0f);
  typename Config::Gradients d_q;
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
  const int64_t stride = params.row_heads() * kHeadDim;
  StoreRows<kHeadDim>(d_q, shared + Config::Layout::Bytes(warp_row),
                      params.d_qkv + token * stride + head * kHeadDim, stride, count);
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
    const RowBlock block = blocks.Find(blocks.ByPlace(blocks.count() - 1 - i));
    if (block.first_row >= block.length) continue;
    if (block.is_padding) {
      ZeroRows<Config::kHeadDim, Config::kRows, Config::kThreads>(
          params.d_qkv, {params.row_heads(), block.begin, head}, block.first_row, block.length);
    } else {
      QueriesBlock<Config>(params, block, head, shared);
      __syncthreads();  // the tiles belong to the next block of rows
    }
  }
}

template <typename Config>
void LaunchQueries(cudaStream_t stream, const BackwardParams& params) {
  LaunchBlocks<Config>(stream, QueriesKernel<Config>, "attention backward of queries", params.heads,
                       params);
}

}  // namespace
}  // namespace cuda

void TiledBackwardOfQueries(cudaStream_t stream, const GpuChip& chip, int64_t head_dim,
                            const cuda::BackwardParams& params) {
  const int64_t wide_blocks = params.heads * DivUp(params.sequences.tokens, 128);
  const bool few = AreFew(wide_blocks, chip);
  if (head_dim == 64) {
    using Large = cuda::QueriesConfig<64, 2, 4, 64, 2>;
    using Small = cuda::QueriesConfig<64, 1, 4, 64, 2>;
    if (few && Fits<Small>(chip)) return cuda::LaunchQueries<Small>(stream, params);
    Fits<Large>(chip) ? cuda::LaunchQueries<Large>(stream, params)
                      : cuda::LaunchQueries<cuda::QueriesConfig<64, 1, 8, 32, 2>>(stream, params);
  } else {
    using Large = cuda::QueriesConfig<128, 2, 4, 32, 2>;
    using Small = cuda::QueriesConfig<128, 1, 4, 32, 2>;
    if (few && Fits<Small>(chip)) return cuda::LaunchQueries<Small>(stream, params);
    Fits<Large>(chip) ? cuda::LaunchQueries<Large>(stream, params)
                      : cuda::LaunchQueries<cuda::QueriesConfig<128, 1, 8, 32, 1>>(stream, params);
  }
}

}  // namespace hearth
