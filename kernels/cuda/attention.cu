// Attention on a GPU: which kernels take a call, and the row sums both backward passes start from.
#include "kernels/api/attention.h"

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"

namespace hearth {

namespace {

using cuda::kWarp;

constexpr int kDotWarps = 8;

// dots[h, t] = out[t, h, :] . d_out[t, h, :]; kLanes neighbouring lanes per row, each kVector
// elements at a time. Floor: 2 * tokens * heads * head_dim elements read.
template <typename T, int kVector, int kLanes>
__global__ void __launch_bounds__(kDotWarps* kWarp)
    OutDotDOutKernel(const T* out, const T* d_out, float* dots, int64_t tokens, int64_t heads,
                     int64_t head_dim) {
  const int64_t thread = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t row = thread / kLanes;
  const bool exists = row < tokens * heads;
  float sum = 0.0f;
  for (int64_t i = thread % kLanes * kVector; exists && i < head_dim; i += kLanes * kVector) {
    const auto a = cuda::Load<kVector>(out + row * head_dim + i);
    const auto b = cuda::Load<kVector>(d_out + row * head_dim + i);
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum = fmaf(ToFloat(a[j]), ToFloat(b[j]), sum);
  }
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(cuda::kAllLanes, sum, offset);
  }
  if (exists && thread % kLanes == 0) dots[row % heads * tokens + row / heads] = sum;
}

template <typename T, int kVector, int kLanes>
void LaunchOutDotDOut(cudaStream_t stream, const AttentionBackwardArgs& args) {
  const Shape& shape = args.out.shape();
  constexpr int kThreads = kDotWarps * kWarp;
  const int64_t blocks = DivUp(shape[0] * shape[1] * kLanes, kThreads);
  OutDotDOutKernel<T, kVector, kLanes><<<Narrow<int>(blocks), kThreads, 0, stream>>>(
      args.out.as<T>(), args.d_out.as<T>(), static_cast<float*>(args.workspace.data()), shape[0],
      shape[1], shape[2]);
  CheckLaunch("attention, products of out and d_out");
}

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

void OutDotDOut(cudaStream_t stream, const AttentionBackwardArgs& args) {
  if (args.qkv.dtype() == DType::kF32) return LaunchOutDotDOut<float, 1, kWarp>(stream, args);
  if (!IsTiled(args)) return LaunchOutDotDOut<BFloat16, 1, kWarp>(stream, args);
  args.shape.head_dim == 64 ? LaunchOutDotDOut<BFloat16, 8, 8>(stream, args)
                            : LaunchOutDotDOut<BFloat16, 8, 16>(stream, args);
}

void CudaBackend::DoAttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  if (args.qkv.shape()[0] == 0) return;
  if (IsTiled(args)) {
    TiledAttentionForward(NativeStream(stream), device_.compute_capability(), args);
  } else {
    PlainAttentionForward(NativeStream(stream), args);
  }
}

void CudaBackend::DoAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  if (args.qkv.shape()[0] == 0) return;
  OutDotDOut(NativeStream(stream), args);
  if (IsTiled(args)) {
    TiledAttentionBackward(NativeStream(stream), device_.compute_capability(), args);
  } else {
    PlainAttentionBackward(NativeStream(stream), args);
  }
}

}  // namespace hearth
