// Backward attention on tensor cores: the gradients of keys and values. A thread block keeps a
// block of keys and values of one head and passes over the queries from the diagonal on, for each
// query head of the group in turn.
#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/device/attention_sequences.cuh"
#include "kernels/cuda/device/attention_tiles.cuh"

namespace hearth {

namespace cuda {
namespace {

// A warp has 16 * kRowTiles keys, whose scores are kept as rows, so that P^T and dS^T are operands
// of the next products without leaving the registers. With 128 elements to a head, fp32 sums of
// both gradients leave room for 16 keys a warp, and each fragment from shared memory would serve
// one product: too few for Hopper's tensor cores. There two warps (kSides) share 32 keys: each
// computes the factors of one half of the queries, they exchange them, and each sums one half of
// the columns.
// A block of few keys has fewer warps for them; those left (kGroups) take other queries of the step
// each, and their sums are added in order at the end. That is more traffic for the same products,
// and many more blocks.
template <int kHeadDim_, int kRowTiles_, int kTeams_, int kSides_, int kGroups_, int kQueries_,
          int kBlocks_>
struct KeysConfig {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kRowTiles = kRowTiles_;
  static constexpr int kTeams = kTeams_;
  static constexpr int kSides = kSides_;
  static constexpr int kGroups = kGroups_;
  static constexpr int kQueries = kQueries_;  // of a group and step
  static constexpr int kBlocks = kBlocks_;    // on a multiprocessor
  static constexpr int kWarpsOfGroup = kTeams * kSides;
  static constexpr int kWarps = kWarpsOfGroup * kGroups;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kTeamRows = 16 * kRowTiles;
  static constexpr int kRows = kTeams * kTeamRows;
  static constexpr int kStepQueries = kGroups * kQueries;
  static constexpr int kSideQueries = kQueries / kSides;
  static constexpr int kTiles = kSideQueries / 8;
  static constexpr int kSideColumns = kHeadDim / kSides;
  using Layout = TileLayout<kHeadDim>;
  static constexpr int kRowBytes = Layout::Bytes(kRows);
  static constexpr int kQueryBytes = Layout::Bytes(kStepQueries);
  // Queries, d_out, log_sum_exp and D of a step; two steps are in memory.
  static constexpr int kStageBytes = 2 * kQueryBytes + 2 * kStepQueries * 4;
  // A warp's factors, P and dS.
  static constexpr int kFactorBytes = kSides == 1 ? 0 : kTeamRows * kSideQueries * 2;
  static constexpr int kExchangeBytes = kWarps * 2 * kFactorBytes;
  static constexpr int kSharedBytes = 2 * kRowBytes + 2 * kStageBytes + kExchangeBytes;

  using Scores = Sums<kRowTiles, kTiles>;
  using Factors = cuda::Factors<kRowTiles, kTiles>;
  using Gradients = Sums<kRowTiles, kSideColumns / 8>;
  static_assert(kSides == 1 || (kSides == 2 && kGroups == 1 && kTeams < 16));
  static_assert(kStageBytes % 128 == 0);
  static_assert(kGroups == 1 || kWarpsOfGroup * 2 * kWarp * sizeof(Gradients) <= 2 * kStageBytes);
};

// Which keys, queries and columns are this warp's.
template <typename Config>
struct Place {
  static __device__ int Warp() { return static_cast<int>(threadIdx.x) / kWarp; }
  static __device__ int Group() { return Warp() / Config::kWarpsOfGroup; }
  static __device__ int WarpOfGroup() { return Warp() % Config::kWarpsOfGroup; }
  static __device__ int Team() { return WarpOfGroup() % Config::kTeams; }
  static __device__ int Side() { return WarpOfGroup() / Config::kTeams; }
  static __device__ int FirstRow() { return Team() * Config::kTeamRows; }
  static __device__ int FirstQuery() { return Group() * Config::kQueries; }  // of a step
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
  __device__ const float* out_dot_d_out() const { return log_sum_exp() + Config::kStepQueries; }
  uint8_t* memory;
};

// The factors that the warps of a team give each other; a lane's fragments are the same lane's of
// the other warp.
template <typename Config>
struct Exchange {
  enum Kind { kProbabilities, kScoreGradients };
  __device__ static uint8_t* At(uint8_t* shared, int side, Kind kind) {
    using Here = Place<Config>;
    const int number = ((Here::Group() * Config::kTeams + Here::Team()) * 2 + side) * 2 + kind;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    return shared + 2 * Config::kRowBytes + 2 * Config::kStageBytes +
           number * Config::kFactorBytes + lane * 16;
  }
  __device__ static void Give(uint8_t* shared, Kind kind, const typename Config::Factors& factors) {
    uint8_t* to = At(shared, Place<Config>::Side(), kind);
#pragma unroll
    for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
      for (int k = 0; k < Config::kTiles / 2; ++k) {
        *reinterpret_cast<FragmentA*>(to) = factors.fragments[r][k];
        to += kWarp * 16;
      }
    }
  }
  __device__ static void Take(uint8_t* shared, Kind kind, typename Config::Factors& factors) {
    const uint8_t* from = At(shared, Place<Config>::Side() ^ 1, kind);
#pragma unroll
    for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
      for (int k = 0; k < Config::kTiles / 2; ++k) {
        factors.fragments[r][k] = *reinterpret_cast<const FragmentA*>(from);
        from += kWarp * 16;
      }
    }
  }
};

// Starts to copy a step's queries of a head, from `first` on.
template <typename Config>
__device__ __forceinline__ void CopyQueriesAsync(const BackwardParams& params,
                                                 const RowBlock& block, int head, int first,
                                                 const QueryStage<Config>& stage) {
  constexpr int kHeadDim = Config::kHeadDim;
  using Source = TileSource<kHeadDim, Config::kThreads>;
  const Source queries(params.qkv, {params.row_heads(), block.begin, head});
  const Source d_out(params.d_out, {params.heads, block.begin, head});
  queries.template CopyAsync<Config::kStepQueries>(first, block.length, stage.queries());
  d_out.template CopyAsync<Config::kStepQueries>(first, block.length, stage.d_out());
#pragma unroll
  for (int begin = 0; begin < 2 * Config::kStepQueries; begin += Config::kThreads) {
    const int i = begin + static_cast<int>(threadIdx.x);
    if (i >= 2 * Config::kStepQueries) break;
    const int row = first + i % Config::kStepQueries;
    const bool valid = row < block.length;
    const float* from = i < Config::kStepQueries ? params.log_sum_exp : params.out_dot_d_out;
    CopyAsync4(stage.queries() + static_cast<uint32_t>(2 * Config::kQueryBytes + 4 * i),
               from + head * params.sequences.tokens + block.begin + row, valid);
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

// Adds what the side's own queries of a stage give to the team's keys, and offers the other side
// the factors. `first_query` is the step's.
template <typename Config>
__device__ __forceinline__ void AddOwnQueries(const BackwardParams& params, uint8_t* shared,
                                              const QueryStage<Config>& stage, int first_key,
                                              int first_query, typename Config::Gradients& d_k,
                                              typename Config::Gradients& d_v) {
  constexpr int kHeadDim = Config::kHeadDim;
  using Give = Exchange<Config>;
  using Here = Place<Config>;
  const uint32_t keys = SharedAddress(shared) + Config::Layout::Bytes(Here::FirstRow());
  const int side_query = Here::FirstQuery() + Here::Side() * Config::kSideQueries;
  const uint32_t side_rows = Config::Layout::Bytes(side_query);
  // Of rows as operands, a side needs its own columns: 128 bytes, which swizzling does not mix.
  const uint32_t columns = static_cast<uint32_t>(Here::Side() * Config::kSideColumns * 2);
  typename Config::Scores p;
  typename Config::Factors factors;
  p.Clear();
  MultiplyRows<kHeadDim>(keys, stage.queries() + side_rows, p);
  if (first_query + side_query < first_key + Config::kTeamRows - 1) {
    Mask<Hidden::kLaterRows>(first_key, first_query + side_query, p);
  }
  ColumnProbabilities(params.scale * kLog2E, stage.log_sum_exp() + side_query, p);
  factors.Round(p);
  if constexpr (Config::kSides == 2) Give::Give(shared, Give::kProbabilities, factors);
  MultiplyFactors<kHeadDim>(factors, stage.d_out() + side_rows + columns, d_v);
  typename Config::Scores d_p;
  d_p.Clear();
  MultiplyRows<kHeadDim>(keys + Config::kRowBytes, stage.d_out() + side_rows, d_p);
  ColumnScoreGradients(p, stage.out_dot_d_out() + side_query, d_p);
  factors.Round(d_p);
  if constexpr (Config::kSides == 2) Give::Give(shared, Give::kScoreGradients, factors);
  MultiplyFactors<kHeadDim>(factors, stage.queries() + side_rows + columns, d_k);
}

// Adds what the other side's queries give, from the factors that it offered.
template <typename Config>
__device__ __forceinline__ void AddOtherQueries(uint8_t* shared, const QueryStage<Config>& stage,
                                                typename Config::Gradients& d_k,
                                                typename Config::Gradients& d_v) {
  constexpr int kHeadDim = Config::kHeadDim;
  using Other = Exchange<Config>;
  const int side = Place<Config>::Side();
  const uint32_t rows =
      Config::Layout::Bytes(Place<Config>::FirstQuery() + (side ^ 1) * Config::kSideQueries);
  const uint32_t columns = static_cast<uint32_t>(side * Config::kSideColumns * 2);
  typename Config::Factors factors;
  Other::Take(shared, Other::kProbabilities, factors);
  MultiplyFactors<kHeadDim>(factors, stage.d_out() + rows + columns, d_v);
  Other::Take(shared, Other::kScoreGradients, factors);
  MultiplyFactors<kHeadDim>(factors, stage.queries() + rows + columns, d_k);
}

// Adds the sums of a group's warp to those of the first group's, through memory of its own.
template <typename Config, bool kGives>
__device__ __forceinline__ void PassOn(float* memory, typename Config::Gradients& gradients) {
  constexpr int kTiles = Config::kSideColumns / 8;
  float* at = memory + static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& sum = gradients.values[r][n][i];
        if constexpr (kGives) {
          *at = sum;
        } else {
          sum += *at;
        }
        at += kWarp;
      }
    }
  }
}

// The first group gets the sums of all, added in their order; the steps' memory is free.
template <typename Config>
__device__ __forceinline__ void AddGroups(uint8_t* shared, typename Config::Gradients& d_k,
                                          typename Config::Gradients& d_v) {
  constexpr int kFloats = kWarp * static_cast<int>(sizeof(typename Config::Gradients) / 4);
  const int mine = Place<Config>::Group();
  float* memory = reinterpret_cast<float*>(shared + 2 * Config::kRowBytes) +
                  Place<Config>::WarpOfGroup() * 2 * kFloats;
  for (int group = 1; group < Config::kGroups; ++group) {
    if (mine == group) {
      PassOn<Config, true>(memory, d_k);
      PassOn<Config, true>(memory + kFloats, d_v);
    }
    __syncthreads();
    if (mine == 0) {
      PassOn<Config, false>(memory, d_k);
      PassOn<Config, false>(memory + kFloats, d_v);
    }
    __syncthreads();
  }
}

// By the warps of the first group.
template <typename Config>
__device__ __forceinline__ void StoreGradients(const BackwardParams& params, const RowBlock& block,
                                               int kv_head, uint8_t* shared,
                                               typename Config::Gradients& d_k,
                                               const typename Config::Gradients& d_v) {
  using Here = Place<Config>;
  constexpr int kColumns = Config::kSideColumns;
  const int stride = params.row_heads() * Config::kHeadDim;
  const int first_key = block.first_row + Here::FirstRow();
  const int count = block.length - first_key;
  BFloat16* to = params.d_qkv + int64_t{block.begin + first_key} * stride +
                 (params.heads + kv_head) * Config::kHeadDim + Here::Side() * kColumns;
  // The tiles are not needed any more; each warp has its part of them.
  uint8_t* tile = shared + Here::Warp() * TileLayout<kColumns>::Bytes(Config::kTeamRows);
  d_k.Scale(params.scale);
  StoreRows<kColumns>(d_k, tile, to, stride, count);
  StoreRows<kColumns>(d_v, tile + Config::kRowBytes, to + params.kv_heads * Config::kHeadDim,
                      stride, count);
}

template <typename Config>
__device__ __forceinline__ void KeysBlock(const BackwardParams& params, const RowBlock& block,
                                          int kv_head, uint8_t* shared) {
  constexpr int kHeadDim = Config::kHeadDim;
  using Source = TileSource<kHeadDim, Config::kThreads>;
  const int first_key = block.first_row + Place<Config>::FirstRow();
  const int past_heads = (kv_head + 1) * (params.heads / params.kv_heads);
  const uint32_t key_tile = SharedAddress(shared);
  const Source keys(params.qkv, {params.row_heads(), block.begin, params.heads + kv_head});

  keys.template CopyAsync<Config::kRows>(block.first_row, block.length, key_tile);
  keys.Moved(params.kv_heads)
      .template CopyAsync<Config::kRows>(block.first_row, block.length,
                                         key_tile + Config::kRowBytes);
  int head = kv_head * (params.heads / params.kv_heads);
  int first_query = block.first_row;
  CopyQueriesAsync(params, block, head, first_query, QueryStage<Config>(shared, 0));
  CopyAsyncCommit();
  typename Config::Gradients d_k;
  typename Config::Gradients d_v;
  d_k.Clear();
  d_v.Clear();
  int stage = 0;
  while (head < past_heads) {
    const int past_step = first_query + Config::kStepQueries;
    const bool is_last_of_head = past_step >= block.length;
    const int next_head = is_last_of_head ? head + 1 : head;
    const int next_query = is_last_of_head ? block.first_row : past_step;
    CopyAsyncWait<0>();
    __syncthreads();  // this stage is there, and nobody needs the other one any more
    if (next_head < past_heads) {
      CopyQueriesAsync(params, block, next_head, next_query, QueryStage<Config>(shared, stage ^ 1));
    }
    CopyAsyncCommit();
    // Queries before the team's first key see none of its keys.
    const int group_query = first_query + Place<Config>::FirstQuery();
    const bool adds = group_query + Config::kQueries > first_key && first_key < block.length;
    const QueryStage<Config> here(shared, stage);
    if (adds) {
      AddOwnQueries(params, shared, here, first_key, first_query, d_k, d_v);
      if constexpr (Config::kSides == 2) {
        // Of the two warps of a team: a barrier of the block costs up to a sixth of the whole pass.
        SyncThreads(1 + Place<Config>::Team(), 2 * kWarp);
        AddOtherQueries(shared, here, d_k, d_v);
      }
    }
    head = next_head;
    first_query = next_query;
    stage ^= 1;
  }
  __syncthreads();  // the results take the place of the keys and values, and of the steps
  AddGroups<Config>(shared, d_k, d_v);
  if (Place<Config>::Group() == 0) {
    StoreGradients<Config>(params, block, kv_head, shared, d_k, d_v);
  }
}

// Floor: 8 * head_dim operations per query head and pair of a query and a key it sees, of which
// 4 * head_dim compute scores and dO V^T, which the queries' kernel computes too. The first keys,
// which most queries see, start first.
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
    const RowBlock block = blocks.Find(blocks.ByPlace(i));
    if (block.first_row >= block.length) continue;
    if (block.is_padding) {
      for (const int head : {params.heads + kv_head, params.heads + params.kv_heads + kv_head}) {
        ZeroRows<Config::kHeadDim, Config::kRows, Config::kThreads>(
            params.d_qkv, {params.row_heads(), block.begin, head}, block.first_row, block.length);
      }
    } else {
      KeysBlock<Config>(params, block, kv_head, shared);
      __syncthreads();  // the tiles belong to the next block of rows
    }
  }
}

template <typename Config>
void LaunchKeys(cudaStream_t stream, const BackwardParams& params) {
  LaunchBlocks<Config>(stream, KeysKernel<Config>, "attention backward of keys", params.kv_heads,
                       params);
}

}  // namespace
}  // namespace cuda

void TiledBackwardOfKeys(cudaStream_t stream, const GpuChip& chip, int64_t head_dim,
                         const cuda::BackwardParams& params) {
  using Wide64 = cuda::KeysConfig<64, 2, 4, 1, 1, 32, 2>;
  using Narrow64 = cuda::KeysConfig<64, 2, 1, 1, 8, 16, 1>;
  using Paired = cuda::KeysConfig<128, 2, 4, 2, 1, 64, 1>;
  using Wide128 = cuda::KeysConfig<128, 1, 8, 1, 1, 32, 1>;
  using LargeNarrow128 = cuda::KeysConfig<128, 1, 2, 1, 4, 32, 1>;
  using Narrow128 = cuda::KeysConfig<128, 1, 2, 1, 4, 16, 1>;
  const int64_t wide_blocks = params.kv_heads * DivUp(params.sequences.tokens, Wide128::kRows);
  const bool few = AreFew(wide_blocks, chip);
  if (head_dim == 64) {
    few ? cuda::LaunchKeys<Narrow64>(stream, params) : cuda::LaunchKeys<Wide64>(stream, params);
  } else if (few) {
    Fits<LargeNarrow128>(chip) ? cuda::LaunchKeys<LargeNarrow128>(stream, params)
                               : cuda::LaunchKeys<Narrow128>(stream, params);
  } else {
    Fits<Paired>(chip) ? cuda::LaunchKeys<Paired>(stream, params)
                       : cuda::LaunchKeys<Wide128>(stream, params);
  }
}

}  // namespace hearth
