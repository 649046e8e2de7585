#include <algorithm>

#include "kernels/core/check.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/gemm_kernels.h"

namespace hearth {

namespace {

constexpr int kThreads = 256;
// Enough to fill any GPU; the loops inside take whatever number of elements there is.
constexpr int64_t kMaxBlocks = 4096;

unsigned Blocks(int64_t elements) {
  return static_cast<unsigned>(std::clamp<int64_t>(DivUp(elements, kThreads), 1, kMaxBlocks));
}

__device__ int64_t FirstElement() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ int64_t ElementStride() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

// f32 or bf16, as the call says: these kernels stand where nothing is fast (combinations of types
// that no training step has), so one serves them all.
struct Operand {
  const void* data;
  bool is_bf16;

  __device__ float At(int64_t index) const {
    return is_bf16 ? ToFloat(static_cast<const BFloat16*>(data)[index])
                   : static_cast<const float*>(data)[index];
  }
};

// Floor: the bytes of sum, addend and out.
template <typename Out>
__global__ void FinishKernel(const float* sum, int64_t elements, int64_t columns, Operand bias,
                             Operand addend, Out* out, int64_t out_leading) {
  for (int64_t i = FirstElement(); i < elements; i += ElementStride()) {
    const int64_t row = i / columns;
    const int64_t column = i - row * columns;
    const int64_t at = row * out_leading + column;
    float value = sum[i];
    if (bias.data != nullptr) value += bias.At(column);
    if (addend.data != nullptr) value += addend.At(at);
    out[at] = cuda::FromFloat<Out>(value);
  }
}

__device__ uint32_t Hash(uint64_t index, uint32_t seed) {
  uint64_t x = (index + 1) * 0x9e3779b97f4a7c15ull + seed;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return static_cast<uint32_t>(x >> 32);
}

// Random bits under a mask: what is left out of the exponent keeps the values finite and small.
template <typename Word>
__global__ void RandomFillKernel(Word* out, int64_t elements, uint32_t seed, uint32_t mask,
                                 uint32_t fixed) {
  for (int64_t i = FirstElement(); i < elements; i += ElementStride()) {
    out[i] = static_cast<Word>((Hash(static_cast<uint64_t>(i), seed) & mask) | fixed);
  }
}

template <typename Word>
__global__ void CompareKernel(const Word* a, const Word* b, int64_t elements, int32_t* different) {
  bool differs = false;
  for (int64_t i = FirstElement(); i < elements; i += ElementStride()) differs |= a[i] != b[i];
  // Every writer writes the same.
  if (differs) *different = 1;
}

Operand MakeOperand(const TensorView& view) {
  return {view.data(), view && view.dtype() == DType::kBF16};
}

template <typename Word>
void Fill(cudaStream_t stream, const TensorView& out, uint32_t seed, uint32_t mask,
          uint32_t fixed) {
  RandomFillKernel<<<Blocks(out.elements()), kThreads, 0, stream>>>(
      static_cast<Word*>(out.data()), out.elements(), seed, mask, fixed);
}

}  // namespace

void LaunchFinish(cudaStream_t stream, const FinishArgs& args) {
  const int64_t elements = args.sum.elements();
  if (elements == 0) return;
  const int64_t columns = args.sum.shape()[1];
  const auto launch = [&](auto* out) {
    FinishKernel<<<Blocks(elements), kThreads, 0, stream>>>(
        args.sum.as<float>(), elements, columns, MakeOperand(args.bias), MakeOperand(args.addend),
        out, args.out_leading);
  };
  if (args.out.dtype() == DType::kF32) {
    launch(args.out.as<float>());
  } else {
    launch(args.out.as<BFloat16>());
  }
  CheckLaunch("finishing a matmul");
}

void LaunchRandomFill(cudaStream_t stream, const TensorView& out, uint32_t seed) {
  if (out.elements() == 0) return;
  switch (out.dtype()) {
    case DType::kF32:  // 2^-7 <= |x| < 2
      Fill<uint32_t>(stream, out, seed, 0x83ffffffu, 0x3c000000u);
      break;
    case DType::kBF16:
      Fill<uint16_t>(stream, out, seed, 0x83ffu, 0x3c00u);
      break;
    case DType::kF8E4M3:
    case DType::kF8E5M2:  // the highest bit of the exponent is zero: |x| < 2
      Fill<uint8_t>(stream, out, seed, 0xbfu, 0u);
      break;
    default:
      CHECK(false, "random values of type {}", Name(out.dtype()));
  }
  CheckLaunch("filling with random values");
}

void LaunchCompare(cudaStream_t stream, const TensorView& a, const TensorView& b,
                   int32_t* different) {
  const int64_t elements = a.elements();
  CHECK(a.bytes() == b.bytes() && a.dtype() == b.dtype(), "{} bytes compared with {}", a.bytes(),
        b.bytes());
  if (elements == 0) return;
  const auto launch = [&](auto word) {
    using Word = decltype(word);
    CompareKernel<<<Blocks(elements), kThreads, 0, stream>>>(static_cast<const Word*>(a.data()),
                                                             static_cast<const Word*>(b.data()),
                                                             elements, different);
  };
  if (SizeOf(a.dtype()) == 4) {
    launch(uint32_t{});
  } else {
    CHECK(SizeOf(a.dtype()) == 2, "{} compared", Name(a.dtype()));
    launch(uint16_t{});
  }
  CheckLaunch("comparing results");
}

}  // namespace hearth
