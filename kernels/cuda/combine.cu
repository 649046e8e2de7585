#include "kernels/api/combine.h"

#include <cuda_runtime.h>

#include "kernels/cuda/cuda_native.h"

namespace hearth {

namespace {

constexpr int kThreads = 256;
// The terms as a kernel parameter, of which 4 KiB exist on every GPU and driver.
constexpr int kMostTerms = 480;

struct Terms {
  const void* addresses[kMostTerms];
  int count;
};
static_assert(sizeof(Terms) + 2 * sizeof(void*) <= 4096);

template <CombineOp kOp>
__device__ float Apply(float a, float b) {
  if constexpr (kOp == CombineOp::kSum) return a + b;
  return isnan(a) || !(b > a || isnan(b)) ? a : b;
}

template <CombineOp kOp>
__device__ int64_t Apply(int64_t a, int64_t b) {
  if constexpr (kOp == CombineOp::kSum) {
    return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  }
  return b > a ? b : a;
}

// Each element is read from all terms before it is written, so that out may be one of them.
template <typename T, CombineOp kOp>
__global__ void __launch_bounds__(kThreads)
    CombineKernel(const __grid_constant__ Terms terms, int64_t count, T* out) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  T value = static_cast<const T*>(terms.addresses[0])[i];
  for (int term = 1; term < terms.count; ++term) {
    value = Apply<kOp>(value, static_cast<const T*>(terms.addresses[term])[i]);
  }
  out[i] = value;
}

template <typename T>
void Launch(cudaStream_t stream, const Terms& terms, const CombineArgs& args) {
  const int64_t count = args.out.elements();
  const int blocks = Narrow<int>(DivUp(count, kThreads));
  T* const out = static_cast<T*>(args.out.data());
  if (args.op == CombineOp::kSum) {
    CombineKernel<T, CombineOp::kSum><<<blocks, kThreads, 0, stream>>>(terms, count, out);
  } else {
    CombineKernel<T, CombineOp::kMax><<<blocks, kThreads, 0, stream>>>(terms, count, out);
  }
  CheckLaunch("combine");
}

}  // namespace

void Combine(Stream& stream, const CombineArgs& args) {
  CHECK(!args.inputs.empty() && std::ssize(args.inputs) <= kMostTerms, "{} terms to combine",
        args.inputs.size());
  CHECK(args.out.dtype() == DType::kF32 || args.out.dtype() == DType::kI64, "combining {}",
        Name(args.out.dtype()));
  Terms terms{};
  for (const TensorView& input : args.inputs) {
    CHECK(input.dtype() == args.out.dtype() && input.elements() == args.out.elements(),
          "combining {} {} into {} {}", input.elements(), Name(input.dtype()), args.out.elements(),
          Name(args.out.dtype()));
    terms.addresses[terms.count++] = input.data();
  }
  if (args.out.elements() == 0) return;
  const cudaStream_t native = NativeStream(stream);
  if (args.out.dtype() == DType::kF32) {
    Launch<float>(native, terms, args);
  } else {
    Launch<int64_t>(native, terms, args);
  }
}

}  // namespace hearth
