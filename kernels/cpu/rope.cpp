#include "kernels/api/rope.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/api/workspace.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_access.h"

namespace hearth {

namespace {

// Row of cosines and sines of a token.
const float* AnglesOf(const TensorView& positions, const TensorView& cos_sin, int64_t token) {
  const int32_t position = positions.as<int32_t>()[token];
  CHECK(position >= 0 && position < cos_sin.shape()[0],
        "position {} of token {}, the table has {} rows", position, token, cos_sin.shape()[0]);
  return cos_sin.as<float>() + position * cos_sin.shape()[1];
}

// Rotates a head in place by +angle, or by -angle (the transpose) for gradients.
void Rotate(const float* cosines, const float* sines, float sign, int64_t half, float* head) {
  for (int64_t i = 0; i < half; ++i) {
    const float x1 = head[i];
    const float x2 = head[i + half];
    const float sine = sign * sines[i];
    head[i] = x1 * cosines[i] - x2 * sine;
    head[i + half] = x2 * cosines[i] + x1 * sine;
  }
}

// The layout of a token's heads.
struct Heads {
  explicit Heads(const auto& args, const TensorView& qkv)
      : queries(args.heads),
        rotated(args.heads + args.kv_heads),
        all(args.heads + 2 * args.kv_heads),
        head_dim(qkv.shape()[2]) {}
  int64_t queries;
  int64_t rotated;  // query and key heads
  int64_t all;
  int64_t head_dim;
};

template <typename T>
void CopyValues(const Heads& heads, const T* token_in, T* token_out) {
  if (token_in == token_out) return;
  std::memcpy(token_out + heads.rotated * heads.head_dim, token_in + heads.rotated * heads.head_dim,
              static_cast<size_t>((heads.all - heads.rotated) * heads.head_dim) * sizeof(T));
}

template <typename T>
void ForwardToken(const RopeForwardArgs& args, int64_t token, float* head) {
  const Heads heads(args, args.qkv);
  const int64_t head_dim = heads.head_dim;
  const float* angles = AnglesOf(args.positions, args.cos_sin, token);
  const T* in = args.qkv.as<T>() + token * heads.all * head_dim;
  T* out = args.out.as<T>() + token * heads.all * head_dim;
  for (int64_t h = 0; h < heads.rotated; ++h) {
    LoadRow(in + h * head_dim, head_dim, head);
    if (args.norm) {
      const float mean = DotRow(head, head, head_dim) / static_cast<float>(head_dim);
      const float rstd = 1.0f / std::sqrt(mean + args.norm.epsilon);
      args.rstd.as<float>()[token * heads.rotated + h] = rstd;
      const T* weight = (h < heads.queries ? args.norm.q : args.norm.k).template as<T>();
      for (int64_t i = 0; i < head_dim; ++i) {
        head[i] = Rounded<T>(Rounded<T>(head[i] * rstd) * ToFloat(weight[i]));
      }
    }
    Rotate(angles, angles + head_dim / 2, 1.0f, head_dim / 2, head);
    StoreRow(head, head_dim, out + h * head_dim);
  }
  CopyValues(heads, in, out);
}

// The gradient through the norm of one head, in place; adds to the gradient of its weight.
template <typename T>
void NormBackward(const T* x, const T* weight, float rstd, int64_t head_dim, float* d_head,
                  float* normalized, float* d_weight) {
  for (int64_t i = 0; i < head_dim; ++i) {
    normalized[i] = ToFloat(x[i]) * rstd;
    d_weight[i] += d_head[i] * Rounded<T>(normalized[i]);
    d_head[i] *= ToFloat(weight[i]);
  }
  const float mean = DotRow(d_head, normalized, head_dim) / static_cast<float>(head_dim);
  for (int64_t i = 0; i < head_dim; ++i) d_head[i] = rstd * (d_head[i] - normalized[i] * mean);
}

// `partial` is [2, head_dim]: this block's gradients of the norm weights of queries and keys.
template <typename T>
void BackwardToken(const RopeBackwardArgs& args, int64_t token, float* scratch, float* partial) {
  const Heads heads(args, args.d_out);
  const int64_t head_dim = heads.head_dim;
  float* head = scratch;
  const float* angles = AnglesOf(args.positions, args.cos_sin, token);
  const T* in = args.d_out.as<T>() + token * heads.all * head_dim;
  T* out = args.d_qkv.as<T>() + token * heads.all * head_dim;
  for (int64_t h = 0; h < heads.rotated; ++h) {
    LoadRow(in + h * head_dim, head_dim, head);
    Rotate(angles, angles + head_dim / 2, -1.0f, head_dim / 2, head);
    if (args.norm) {
      const bool query = h < heads.queries;
      NormBackward(args.qkv.as<T>() + (token * heads.all + h) * head_dim,
                   (query ? args.norm.q : args.norm.k).template as<T>(),
                   args.rstd.as<float>()[token * heads.rotated + h], head_dim, head,
                   scratch + head_dim, partial + (query ? 0 : head_dim));
    }
    StoreRow(head, head_dim, out + h * head_dim);
  }
  CopyValues(heads, in, out);
}

}  // namespace

void CpuBackend::DoRopeForward(Stream& stream, const RopeForwardArgs& args) {
  Enqueue(stream, [this, args] {
    const Heads heads(args, args.qkv);
    ForEachPiece(device_.pool(), args.qkv.shape()[0], PieceOfRows(heads.all * heads.head_dim),
                 [&](int64_t begin, int64_t end) {
                   std::vector<float> head(static_cast<size_t>(heads.head_dim));
                   WithStorage(args.qkv.dtype(), [&](auto storage) {
                     for (int64_t token = begin; token < end; ++token) {
                       ForwardToken<decltype(storage)>(args, token, head.data());
                     }
                   });
                 });
  });
}

void CpuBackend::DoRopeBackward(Stream& stream, const RopeBackwardArgs& args) {
  Enqueue(stream, [this, args] {
    const Heads heads(args, args.d_out);
    const int64_t head_dim = heads.head_dim;
    const int64_t tokens = args.d_out.shape()[0];
    const int64_t sum_tokens = RowsPerPartialSum(tokens);
    const int64_t blocks = PartialSumCount(tokens);
    auto* partials = static_cast<float*>(args.workspace.data());
    ForEachPiece(device_.pool(), tokens, sum_tokens, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(static_cast<size_t>(4 * head_dim));
      float* sums = scratch.data() + 2 * head_dim;
      WithStorage(args.d_out.dtype(), [&](auto storage) {
        for (int64_t token = begin; token < end; ++token) {
          BackwardToken<decltype(storage)>(args, token, scratch.data(), sums);
        }
      });
      if (!args.norm) return;
      // [2, blocks, head_dim], so that each weight's partial sums are one matrix.
      const int64_t block = begin / sum_tokens;
      std::copy(sums, sums + head_dim, partials + block * head_dim);
      std::copy(sums + head_dim, sums + 2 * head_dim, partials + (blocks + block) * head_dim);
    });
    if (!args.norm) return;
    AddPartialSums(device_.pool(), partials, blocks, head_dim, args.d_norm_q);
    AddPartialSums(device_.pool(), partials + blocks * head_dim, blocks, head_dim, args.d_norm_k);
  });
}

}  // namespace hearth
