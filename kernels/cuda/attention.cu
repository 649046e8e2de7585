// Which calls the tiled kernels take, and their backward pass.
#include "kernels/api/attention.h"

#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/device/vector.cuh"

namespace hearth {

namespace {

bool IsTiledShape(const AttentionShape& shape, DType dtype) {
  return dtype == DType::kBF16 && (shape.head_dim == 64 || shape.head_dim == 128) &&
         shape.softmax_scale > 0;
}

bool IsAligned16(const TensorView& tensor) {
  return cuda::IsAligned(static_cast<const char*>(tensor.data()), 16);
}

}  // namespace

bool IsTiled(const AttentionForwardArgs& args) {
  return IsTiledShape(args.shape, args.qkv.dtype()) && IsAligned16(args.qkv) &&
         IsAligned16(args.out);
}

bool IsTiled(const AttentionBackwardArgs& args) {
  return IsTiledShape(args.shape, args.qkv.dtype()) && IsAligned16(args.qkv) &&
         IsAligned16(args.out) && IsAligned16(args.d_out) && IsAligned16(args.d_qkv);
}

void TiledAttentionBackward(cudaStream_t stream, const GpuChip& chip,
                            const AttentionBackwardArgs& args) {
  const AttentionShape& shape = args.shape;
  const cuda::BackwardParams params{
      .sequences = Sequences(args.sequence_offsets, args.qkv.shape()[0]),
      .qkv = args.qkv.as<BFloat16>(),
      .out = args.out.as<BFloat16>(),
      .d_out = args.d_out.as<BFloat16>(),
      .log_sum_exp = args.log_sum_exp.as<float>(),
      .out_dot_d_out = static_cast<float*>(args.workspace.data()),
      .d_qkv = args.d_qkv.as<BFloat16>(),
      .heads = Narrow<int>(shape.heads),
      .kv_heads = Narrow<int>(shape.kv_heads),
      .scale = shape.softmax_scale};
  TiledBackwardOfQueries(stream, chip, shape.head_dim, params);
  TiledBackwardOfKeys(stream, chip, shape.head_dim, params);
}

}  // namespace hearth
