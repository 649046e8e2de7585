#include "kernels/cuda/attention_measure.h"

#include <algorithm>
#include <vector>

#include "kernels/api/workspace.h"
#include "kernels/core/check.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/gemm_kernels.h"
#include "kernels/cuda/measure.h"

namespace hearth {

namespace {

// The median of so many rounds; in a round both have their turn, so that they see the same clocks.
constexpr int kRounds = 9;
constexpr int64_t kAlignment = 256;

// One forward and one backward on memory of its own.
class Operands {
 public:
  Operands(const AttentionKey& key, float softmax_scale, int64_t workspace_bytes)
      : key_(key),
        shape_{.heads = key.heads,
               .kv_heads = key.kv_heads,
               .head_dim = key.head_dim,
               .softmax_scale = softmax_scale,
               .sequence_len = key.sequence_len},
        workspace_bytes_(workspace_bytes),
        scratch_(Place()) {}

  explicit operator bool() const { return static_cast<bool>(scratch_); }

  void Fill(cudaStream_t stream) const {
    std::vector<int32_t> offsets;
    for (int64_t s = 0; s <= key_.sequences; ++s) {
      offsets.push_back(Narrow<int32_t>(s * key_.sequence_len));
    }
    // The host's memory is pageable: the call returns when it has been read.
    CheckCuda(cudaMemcpyAsync(scratch_.At(offsets_), offsets.data(), offsets.size() * 4,
                              cudaMemcpyHostToDevice, stream),
              "filling attention's operands");
    LaunchRandomFill(stream, Qkv(qkv_), 1);
    LaunchRandomFill(stream, Heads(d_out_), 2);
  }

  AttentionForwardArgs Forward() const {
    return {.shape = shape_,
            .qkv = Qkv(qkv_),
            .sequence_offsets = Offsets(),
            .out = Heads(out_),
            .log_sum_exp = LogSumExp(),
            .workspace = Workspace()};
  }

  AttentionBackwardArgs Backward() const {
    return {.shape = shape_,
            .qkv = Qkv(qkv_),
            .sequence_offsets = Offsets(),
            .out = Heads(out_),
            .log_sum_exp = LogSumExp(),
            .d_out = Heads(d_out_),
            .d_qkv = Qkv(d_qkv_),
            .workspace = Workspace()};
  }

 private:
  int64_t Place() {
    int64_t bytes = 0;
    const auto take = [&bytes](int64_t size) {
      const int64_t begin = bytes;
      bytes += RoundUp(size, kAlignment);
      return begin;
    };
    const int64_t row = key_.tokens * key_.head_dim * SizeOf(DType::kBF16);
    const int64_t qkv_heads = key_.heads + 2 * key_.kv_heads;
    qkv_ = take(row * qkv_heads);
    d_qkv_ = take(row * qkv_heads);
    out_ = take(row * key_.heads);
    d_out_ = take(row * key_.heads);
    log_sum_exp_ = take(key_.heads * key_.tokens * SizeOf(DType::kF32));
    offsets_ = take((key_.sequences + 1) * SizeOf(DType::kI32));
    workspace_ = take(workspace_bytes_);
    return bytes;
  }

  TensorView Qkv(int64_t offset) const {
    return {scratch_.At(offset),
            DType::kBF16,
            {key_.tokens, key_.heads + 2 * key_.kv_heads, key_.head_dim}};
  }
  TensorView Heads(int64_t offset) const {
    return {scratch_.At(offset), DType::kBF16, {key_.tokens, key_.heads, key_.head_dim}};
  }
  TensorView LogSumExp() const {
    return {scratch_.At(log_sum_exp_), DType::kF32, {key_.heads, key_.tokens}};
  }
  TensorView Offsets() const { return {scratch_.At(offsets_), DType::kI32, {key_.sequences + 1}}; }
  TensorView Workspace() const { return {scratch_.At(workspace_), DType::kU8, {workspace_bytes_}}; }

  const AttentionKey key_;
  const AttentionShape shape_;
  const int64_t workspace_bytes_;
  // Offsets within the memory; Place sets them before it is taken.
  int64_t qkv_ = 0;
  int64_t d_qkv_ = 0;
  int64_t out_ = 0;
  int64_t d_out_ = 0;
  int64_t log_sum_exp_ = 0;
  int64_t offsets_ = 0;
  int64_t workspace_ = 0;
  const Scratch scratch_;
};

double Median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

std::optional<AttentionTimes> MeasureAttention(cudaStream_t stream, const GpuChip& chip,
                                               const AttentionKey& key, float softmax_scale,
                                               CudnnAttention& cudnn) {
  const AttentionShape shape{.heads = key.heads};
  const Operands operands(key, softmax_scale,
                          std::max(AttentionBackwardWorkspaceBytes(shape, key.tokens),
                                   CudnnWorkspaceBytes(key, cudnn)));
  if (!operands) return std::nullopt;
  operands.Fill(stream);
  const AttentionForwardArgs forward = operands.Forward();
  const AttentionBackwardArgs backward = operands.Backward();
  TimingEvent begin;
  TimingEvent end;
  const auto turn = [&](const auto& run) {
    begin.Record(stream);
    run();
    end.Record(stream);
    end.Wait();
    return end.MicrosecondsSince(begin);
  };
  std::vector<double> own;
  std::vector<double> by_cudnn;
  // The first round loads kernels and does not count.
  for (int round = 0; round <= kRounds; ++round) {
    const double own_time = turn([&] {
      TiledAttentionForward(stream, chip, forward);
      TiledAttentionBackward(stream, chip, backward);
    });
    const double cudnn_time = turn([&] {
      CudnnAttentionForward(stream, cudnn, forward);
      CudnnAttentionBackward(stream, cudnn, backward);
    });
    if (round == 0) continue;
    own.push_back(own_time);
    by_cudnn.push_back(cudnn_time);
  }
  return AttentionTimes{.own_microseconds = Median(own), .cudnn_microseconds = Median(by_cudnn)};
}

}  // namespace hearth
