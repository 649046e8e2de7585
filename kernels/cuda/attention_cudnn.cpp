#include "kernels/cuda/attention_cudnn.h"

#include <algorithm>

#include "kernels/core/check.h"
#include "kernels/cuda/attention_dense.h"
#include "kernels/cuda/attention_kernels.h"

namespace hearth {

namespace {

// What cuDNN wants of a workspace's address; the op's own is a multiple of 16.
constexpr int64_t kAlignment = 256;

int64_t PackedBytes(const AttentionKey& key) {
  const int64_t floats = key.sequences * key.heads * key.sequence_len;
  return RoundUp(floats * SizeOf(DType::kF32), kAlignment);
}

void* Aligned(const TensorView& workspace) {
  return reinterpret_cast<void*>(RoundUp(reinterpret_cast<intptr_t>(workspace.data()), kAlignment));
}

template <typename Args>
std::optional<AttentionKey> KeyOf(const Args& args, std::string& why_not) {
  const AttentionShape& shape = args.shape;
  if (shape.sequence_len == 0) {
    why_not = "the sequences are of any length (packed documents)";
    return std::nullopt;
  }
  if (!IsTiled(args)) {
    why_not = "only bf16 with head sizes 64 and 128, at addresses in multiples of 16 bytes";
    return std::nullopt;
  }
  return AttentionKey{.heads = shape.heads,
                      .kv_heads = shape.kv_heads,
                      .head_dim = shape.head_dim,
                      .sequence_len = shape.sequence_len,
                      .sequences = args.sequence_offsets.elements() - 1,
                      .tokens = args.qkv.shape()[0]};
}

}  // namespace

std::optional<AttentionKey> CudnnKey(const AttentionForwardArgs& args, std::string& why_not) {
  return KeyOf(args, why_not);
}

std::optional<AttentionKey> CudnnKey(const AttentionBackwardArgs& args, std::string& why_not) {
  return KeyOf(args, why_not);
}

int64_t CudnnWorkspaceBytes(const AttentionKey& key, const CudnnAttention& attention) {
  return kAlignment + std::max(attention.forward_workspace_bytes(),
                               PackedBytes(key) + attention.backward_workspace_bytes());
}

void CudnnAttentionForward(cudaStream_t stream, CudnnAttention& attention,
                           const AttentionForwardArgs& args) {
  attention.Forward(stream, args, Aligned(args.workspace));
  // It computed on the missing sequences too, and nothing behind the last one there is room for.
  LaunchZeroPadding(stream, args.sequence_offsets, args.out);
  LaunchZeroPaddedColumns(stream, args.sequence_offsets, args.log_sum_exp);
}

void CudnnAttentionBackward(cudaStream_t stream, CudnnAttention& attention,
                            const AttentionBackwardArgs& args) {
  std::string unused;
  const AttentionKey key = *KeyOf(args, unused);
  auto* const workspace = static_cast<std::byte*>(Aligned(args.workspace));
  const TensorView packed(workspace, DType::kF32, {key.sequences, key.heads, key.sequence_len});
  LaunchPackLogSumExp(stream, args.log_sum_exp, packed);
  attention.Backward(stream, args, packed.as<float>(), workspace + PackedBytes(key));
  LaunchZeroPadding(stream, args.sequence_offsets, args.d_qkv);
}

}  // namespace hearth
