// Attention for what the tensor-core kernels do not take: fp32, other head sizes, other scales. A
// warp computes one row; it is meant to be right for any size, not to be fast. Sums run over the
// tokens of the sequence in order, 32 at a time, so their bits depend on nothing else.
#include <cmath>
#include <type_traits>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/attention_sequences.cuh"
#include "kernels/cuda/device/vector.cuh"

namespace hearth {

namespace cuda {
namespace {

constexpr int kRowWarps = 4;
// Elements of a row that a warp sums at once; longer rows take several passes.
constexpr int kLaneElements = 4;
constexpr int kPassElements = kLaneElements * kWarp;

template <typename T>
struct PlainParams {
  SequenceOffsets sequences;
  const T* qkv = nullptr;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  float scale = 0.0f;
  T* out = nullptr;  // only read by backward
  float* log_sum_exp = nullptr;
  // Backward.
  const T* d_out = nullptr;
  const float* lse = nullptr;      // [heads, tokens]
  float* out_dot_d_out = nullptr;  // [heads, tokens]
  T* d_qkv = nullptr;

  __device__ int64_t group() const { return heads / kv_heads; }
  // Element of the first of a token's row: `head` counts through queries, keys and values.
  __device__ int64_t Qkv(int64_t token, int64_t head) const {
    return (token * (heads + 2 * kv_heads) + head) * head_dim;
  }
  __device__ int64_t Out(int64_t token, int64_t head) const {
    return (token * heads + head) * head_dim;
  }
  __device__ const T* Key(int64_t token, int64_t head) const {
    return qkv + Qkv(token, heads + head / group());
  }
  __device__ const T* Value(int64_t token, int64_t head) const {
    return qkv + Qkv(token, heads + kv_heads + head / group());
  }
};

// The token and head of this warp; token = tokens when there is none.
struct Row {
  int64_t token;
  int64_t head;
};

__device__ Row WarpRow(int64_t tokens, int64_t heads) {
  const int64_t warp = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  return warp < tokens * heads ? Row{warp / heads, warp % heads} : Row{tokens, 0};
}

__device__ int Lane() { return static_cast<int>(threadIdx.x) % kWarp; }

template <typename T>
__device__ float Dot(const T* a, const T* b, int64_t count) {
  float sum = 0.0f;
  for (int64_t i = 0; i < count; ++i) sum = fmaf(ToFloat(a[i]), ToFloat(b[i]), sum);
  return sum;
}

template <typename T>
__device__ void WarpZero(T* row, int64_t count) {
  for (int64_t i = Lane(); i < count; i += kWarp) row[i] = T{};
}

// A lane's share of the elements [first, first + kPassElements) of a row.
struct LaneSums {
  float values[kLaneElements] = {};

  template <typename T>
  __device__ void Add(float factor, const T* row, int64_t first, int64_t head_dim) {
#pragma unroll
    for (int i = 0; i < kLaneElements; ++i) {
      const int64_t at = first + i * kWarp + Lane();
      if (at < head_dim) values[i] = fmaf(factor, ToFloat(row[at]), values[i]);
    }
  }
  template <typename T>
  __device__ void Store(float factor, T* row, int64_t first, int64_t head_dim) const {
#pragma unroll
    for (int i = 0; i < kLaneElements; ++i) {
      const int64_t at = first + i * kWarp + Lane();
      if (at < head_dim) row[at] = FromFloat<T>(factor * values[i]);
    }
  }
};

template <typename T>
__global__ void PlainForwardKernel(const PlainParams<T> p) {
  const int64_t tokens = p.sequences.tokens;
  const auto [token, head] = WarpRow(tokens, p.heads);
  if (token == tokens) return;
  const TokenSequence sequence = WarpFindSequence(p.sequences, token);
  T* out = p.out + p.Out(token, head);
  if (sequence.end <= token) {
    WarpZero(out, p.head_dim);
    if (Lane() == 0) p.log_sum_exp[head * tokens + token] = 0.0f;
    return;
  }
  const T* query = p.qkv + p.Qkv(token, head);
  const auto score = [&](int64_t key) {
    return p.scale * Dot(query, p.Key(key, head), p.head_dim);
  };
  float largest = -INFINITY;
  for (int64_t key = sequence.begin + Lane(); key <= token; key += kWarp) {
    largest = MaxOrNan(largest, score(key));
  }
  largest = WarpMax(largest);
  float sum = 0.0f;
  for (int64_t key = sequence.begin + Lane(); key <= token; key += kWarp) {
    sum += expf(score(key) - largest);
  }
  sum = WarpSum(sum);
  if (Lane() == 0) p.log_sum_exp[head * tokens + token] = largest + logf(sum);
  for (int64_t pass = 0; pass < p.head_dim; pass += kPassElements) {
    LaneSums sums;
    for (int64_t first = sequence.begin; first <= token; first += kWarp) {
      const int64_t mine = first + Lane();
      const float weight = mine <= token ? expf(score(mine) - largest) : 0.0f;
      for (int i = 0; i < kWarp && first + i <= token; ++i) {
        sums.Add(__shfl_sync(kAllLanes, weight, i), p.Value(first + i, head), pass, p.head_dim);
      }
    }
    sums.Store(1.0f / sum, out, pass, p.head_dim);
  }
}

// The probability of a key under a query, and the gradient of their score but for the scale.
struct Pair {
  float probability;
  float d_score;
};

template <typename T>
__device__ Pair PairOf(const PlainParams<T>& p, int64_t query, int64_t key, int64_t head) {
  const int64_t number = head * p.sequences.tokens + query;
  const float score = p.scale * Dot(p.qkv + p.Qkv(query, head), p.Key(key, head), p.head_dim);
  const float probability = expf(score - p.lse[number]);
  const float d_probability = Dot(p.d_out + p.Out(query, head), p.Value(key, head), p.head_dim);
  return {probability, probability * (d_probability - p.out_dot_d_out[number])};
}

// out_dot_d_out[h, t] = out[t, h, :] . d_out[t, h, :].
template <typename T>
__global__ void PlainDotsKernel(const PlainParams<T> p) {
  const int64_t tokens = p.sequences.tokens;
  const auto [token, head] = WarpRow(tokens, p.heads);
  if (token == tokens) return;
  const int64_t row = p.Out(token, head);
  float sum = 0.0f;
  for (int64_t i = Lane(); i < p.head_dim; i += kWarp) {
    sum = fmaf(ToFloat(p.out[row + i]), ToFloat(p.d_out[row + i]), sum);
  }
  sum = WarpSum(sum);
  if (Lane() == 0) p.out_dot_d_out[head * tokens + token] = sum;
}

template <typename T>
__global__ void PlainQueriesKernel(const PlainParams<T> p) {
  const int64_t tokens = p.sequences.tokens;
  const auto [token, head] = WarpRow(tokens, p.heads);
  if (token == tokens) return;
  const TokenSequence sequence = WarpFindSequence(p.sequences, token);
  T* d_query = p.d_qkv + p.Qkv(token, head);
  if (sequence.end <= token) return WarpZero(d_query, p.head_dim);
  for (int64_t pass = 0; pass < p.head_dim; pass += kPassElements) {
    LaneSums sums;
    for (int64_t first = sequence.begin; first <= token; first += kWarp) {
      const int64_t mine = first + Lane();
      const float d_score = mine <= token ? PairOf(p, token, mine, head).d_score : 0.0f;
      for (int i = 0; i < kWarp && first + i <= token; ++i) {
        sums.Add(__shfl_sync(kAllLanes, d_score, i), p.Key(first + i, head), pass, p.head_dim);
      }
    }
    sums.Store(p.scale, d_query, pass, p.head_dim);
  }
}

template <typename T>
__global__ void PlainKeysKernel(const PlainParams<T> p) {
  const int64_t tokens = p.sequences.tokens;
  const auto [token, kv_head] = WarpRow(tokens, p.kv_heads);
  if (token == tokens) return;
  const TokenSequence sequence = WarpFindSequence(p.sequences, token);
  T* d_key = p.d_qkv + p.Qkv(token, p.heads + kv_head);
  T* d_value = p.d_qkv + p.Qkv(token, p.heads + p.kv_heads + kv_head);
  if (sequence.end <= token) {
    WarpZero(d_key, p.head_dim);
    return WarpZero(d_value, p.head_dim);
  }
  for (int64_t pass = 0; pass < p.head_dim; pass += kPassElements) {
    LaneSums key_sums;
    LaneSums value_sums;
    for (int64_t head = kv_head * p.group(); head < (kv_head + 1) * p.group(); ++head) {
      for (int64_t first = token; first < sequence.end; first += kWarp) {
        const int64_t mine = first + Lane();
        const Pair pair = mine < sequence.end ? PairOf(p, mine, token, head) : Pair{};
        for (int i = 0; i < kWarp && first + i < sequence.end; ++i) {
          key_sums.Add(__shfl_sync(kAllLanes, pair.d_score, i), p.qkv + p.Qkv(first + i, head),
                       pass, p.head_dim);
          value_sums.Add(__shfl_sync(kAllLanes, pair.probability, i),
                         p.d_out + p.Out(first + i, head), pass, p.head_dim);
        }
      }
    }
    key_sums.Store(p.scale, d_key, pass, p.head_dim);
    value_sums.Store(1.0f, d_value, pass, p.head_dim);
  }
}

template <typename T>
PlainParams<T> CommonParams(const AttentionShape& shape, const TensorView& qkv,
                            const TensorView& offsets) {
  return {.sequences = {.offsets = offsets.as<int32_t>(),
                        .capacity = offsets.elements() - 1,
                        .tokens = qkv.shape()[0]},
          .qkv = qkv.as<T>(),
          .heads = shape.heads,
          .kv_heads = shape.kv_heads,
          .head_dim = shape.head_dim,
          .scale = shape.softmax_scale};
}

template <typename T>
void LaunchRows(cudaStream_t stream, void (*kernel)(PlainParams<T>), std::string_view name,
                int64_t heads, const PlainParams<T>& params) {
  const int64_t blocks = DivUp(params.sequences.tokens * heads, kRowWarps);
  kernel<<<Narrow<int>(blocks), kRowWarps * kWarp, 0, stream>>>(params);
  CheckLaunch(name);
}

template <typename T>
void Forward(cudaStream_t stream, const AttentionForwardArgs& args) {
  PlainParams<T> params = CommonParams<T>(args.shape, args.qkv, args.sequence_offsets);
  params.out = args.out.as<T>();
  params.log_sum_exp = args.log_sum_exp.as<float>();
  LaunchRows(stream, PlainForwardKernel<T>, "attention forward, plain", params.heads, params);
}

template <typename T>
void Backward(cudaStream_t stream, const AttentionBackwardArgs& args) {
  PlainParams<T> params = CommonParams<T>(args.shape, args.qkv, args.sequence_offsets);
  params.out = args.out.as<T>();
  params.d_out = args.d_out.as<T>();
  params.lse = args.log_sum_exp.as<float>();
  params.out_dot_d_out = static_cast<float*>(args.workspace.data());
  params.d_qkv = args.d_qkv.as<T>();
  LaunchRows(stream, PlainDotsKernel<T>, "attention, products of out and d_out", params.heads,
             params);
  LaunchRows(stream, PlainKeysKernel<T>, "attention backward of keys, plain", params.kv_heads,
             params);
  LaunchRows(stream, PlainQueriesKernel<T>, "attention backward of queries, plain", params.heads,
             params);
}

}  // namespace
}  // namespace cuda

void PlainAttentionForward(cudaStream_t stream, const AttentionForwardArgs& args) {
  args.qkv.dtype() == DType::kF32 ? cuda::Forward<float>(stream, args)
                                  : cuda::Forward<BFloat16>(stream, args);
}

void PlainAttentionBackward(cudaStream_t stream, const AttentionBackwardArgs& args) {
  args.qkv.dtype() == DType::kF32 ? cuda::Backward<float>(stream, args)
                                  : cuda::Backward<BFloat16>(stream, args);
}

}  // namespace hearth
