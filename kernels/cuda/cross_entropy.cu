#include "kernels/api/cross_entropy.h"

#include <cuda_runtime.h>

#include <cfloat>
#include <type_traits>

#include "kernels/api/quantize.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/device/float8_pack.cuh"
#include "kernels/cuda/device/pack.cuh"
#include "kernels/cuda/device/reduce.cuh"

namespace hearth {

namespace {

using cuda::Pack;

// Long rows fill a multiprocessor's shared memory and need all its threads; of short ones several
// blocks run side by side. The number of threads is part of the order of sums, so it depends on the
// row alone.
constexpr int kLongRowThreads = 1024;
constexpr int kShortRowThreads = 512;
constexpr int64_t kLongRowBytes = int64_t{100} << 10;
// Vectors that a thread has in flight.
constexpr int kInFlight = 4;

// The gradient's type: that of the logits, or FP8.
template <typename T, typename Out>
struct Rows {
  const T* logits;
  const int32_t* targets;
  float* losses;
  const float* gradient_scale;  // null: losses only
  Out* d_logits;
  ScaleRecord* record;  // FP8 only
  float fixed_scale;    // FP8 only: LogitGradientScale
  int64_t stored;
  int vocab;
  int kept;  // vectors of a row that shared memory holds between the passes
  float z_loss;
};

// e^x. Relative error below (|x| + 4) * 2^-24 where the result is a normal number, else 0; 1 for 0,
// NaN for NaN.
__device__ inline float Exp(float x) {
  constexpr float kLog2E = 1.44269504088896341f;
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * kLog2E));
  return result;
}

// A vector of kWidth elements: 16 bytes, or a single element where rows are not aligned.
// kStreaming: not to be read again, so it need not displace others from the cache.
template <typename T, int kWidth>
struct Vector {
  static constexpr bool kWide = kWidth > 1;
  using Bits = std::conditional_t<kWide, uint4, T>;

  static __device__ Bits Load(const T* address, bool streaming) {
    const Bits* bits = reinterpret_cast<const Bits*>(address);
    if constexpr (kWide) {
      if (streaming) return __ldcs(bits);
    }
    return *bits;
  }
  static __device__ void Unpack(const Bits& bits, float (&values)[kWidth]) {
    if constexpr (kWide) {
      cuda::Unpack(Pack<T, kWidth>{bits.x, bits.y, bits.z, bits.w}, values);
    } else {
      values[0] = ToFloat(bits);
    }
  }
  static __device__ Bits Round(const float (&values)[kWidth]) {
    if constexpr (kWide) {
      const Pack<T, kWidth> pack = cuda::Round<T>(values);
      return {pack.words[0], pack.words[1], pack.words[2], pack.words[3]};
    } else {
      return cuda::FromFloat<T>(values[0]);
    }
  }
  // Contributes nothing to a maximum nor to a sum of exponentials.
  static __device__ Bits Nothing() {
    float values[kWidth];
#pragma unroll
    for (float& value : values) value = -INFINITY;
    return Round(values);
  }
};

// As many elements of the gradient as a vector of logits has.
template <typename Out, int kWidth>
struct GradientVector {
  using Bits = typename Vector<Out, kWidth>::Bits;
  static __device__ Bits Round(const float (&values)[kWidth]) {
    return Vector<Out, kWidth>::Round(values);
  }
};

template <int kWidth>
struct GradientVector<Float8E5M2, kWidth> {
  using Bits = std::conditional_t<kWidth == 8, uint2, uint32_t>;
  static __device__ Bits Round(const float (&values)[kWidth]) {
    uint32_t words[kWidth / 4];
#pragma unroll
    for (int i = 0; i < kWidth / 4; ++i) {
      words[i] = cuda::ToFloat8Pair(values[4 * i], values[4 * i + 1], true) |
                 cuda::ToFloat8Pair(values[4 * i + 2], values[4 * i + 3], true) << 16;
    }
    if constexpr (kWidth == 8) {
      return make_uint2(words[0], words[1]);
    } else {
      static_assert(kWidth == 4);
      return words[0];
    }
  }
};

template <>
struct GradientVector<Float8E5M2, 1> {
  using Bits = Float8E5M2;
  static __device__ Bits Round(const float (&values)[1]) {
    return {static_cast<uint8_t>(cuda::ToFloat8Pair(values[0], 0.0f, true))};
  }
};

template <int kWidth, typename Out>
__device__ inline void StoreVector(Out* address,
                                   const typename GradientVector<Out, kWidth>::Bits& bits) {
  if constexpr (kWidth > 1) {
    __stcs(reinterpret_cast<typename GradientVector<Out, kWidth>::Bits*>(address), bits);
  } else {
    *address = bits;
  }
}

template <typename Out>
__device__ inline void StoreElement(Out* address, float value) {
  const float values[1] = {value};
  *address = GradientVector<Out, 1>::Round(values);
}

// The largest value so far and the sum of exp(value - largest). A NaN or an infinity makes the sum
// a NaN.
struct OnlineSum {
  float largest = -FLT_MAX;
  float sum = 0.0f;

  __device__ void Rescale(float to) {
    sum *= Exp(largest - to);
    largest = to;
  }
  __device__ void Add(float value) {
    Rescale(fmaxf(largest, value));
    sum += Exp(value - largest);
  }
};

// What all threads of a row's block know.
template <typename T, typename Out, int kWidth>
struct Row {
  const T* logits;
  Out* d_logits;  // null: no gradient
  int vocab;
  int stored;
  int vectors;  // whole ones within the vocabulary
  int kept;

  __device__ Row(const Rows<T, Out>& rows, int64_t index)
      : logits(rows.logits + index * rows.stored),
        d_logits(rows.d_logits == nullptr ? nullptr : rows.d_logits + index * rows.stored),
        vocab(rows.vocab),
        stored(static_cast<int>(rows.stored)),
        vectors(rows.vocab / kWidth),
        kept(rows.kept) {}
  // The element of the vocabulary behind the whole vectors that this thread takes, or -1.
  __device__ int RestElement() const {
    const int at = vectors * kWidth + static_cast<int>(threadIdx.x);
    return at < vocab ? at : -1;
  }
  // Which thread takes an element.
  template <int kThreads>
  __device__ int Owner(int element) const {
    const int vector = element / kWidth;
    return vector < vectors ? vector % kThreads : element - vectors * kWidth;
  }
};

// The first pass: this thread's share of the row, whose first `kept` vectors stay in shared memory.
template <int kThreads, typename T, typename Out, int kWidth>
__device__ OnlineSum SumExponentials(const Row<T, Out, kWidth>& row,
                                     typename Vector<T, kWidth>::Bits* shared) {
  using V = Vector<T, kWidth>;
  const int thread = static_cast<int>(threadIdx.x);
  OnlineSum total;
  for (int first = thread; first < row.vectors; first += kInFlight * kThreads) {
    typename V::Bits bits[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int vector = first + i * kThreads;
      bits[i] = V::Nothing();
      if (vector < row.vectors) {
        bits[i] = V::Load(row.logits + int64_t{vector} * kWidth, vector < row.kept);
      }
    }
    float largest = total.largest;
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int vector = first + i * kThreads;
      if (vector < row.kept) shared[vector] = bits[i];
      float values[kWidth];
      V::Unpack(bits[i], values);
#pragma unroll
      for (const float value : values) largest = fmaxf(largest, value);
    }
    total.Rescale(largest);
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      float values[kWidth];
      V::Unpack(bits[i], values);
      float sum = 0.0f;
#pragma unroll
      for (const float value : values) sum += Exp(value - largest);
      total.sum += sum;
    }
  }
  const int rest = row.RestElement();
  if (rest >= 0) total.Add(ToFloat(row.logits[rest]));
  return total;
}

// The second pass: d_logits = exp(logits - largest) * slope, but for the target. First what the
// first pass read last and the cache still has.
template <int kThreads, typename T, typename Out, int kWidth>
__device__ void StoreGradient(const Row<T, Out, kWidth>& row, float largest, float slope,
                              const typename Vector<T, kWidth>::Bits* shared) {
  using V = Vector<T, kWidth>;
  const int thread = static_cast<int>(threadIdx.x);
  const auto gradient = [&](const typename V::Bits& bits) {
    float values[kWidth];
    V::Unpack(bits, values);
#pragma unroll
    for (float& value : values) value = Exp(value - largest) * slope;
    return GradientVector<Out, kWidth>::Round(values);
  };
  const int behind_kept = row.vectors - row.kept;
  const int batches = (behind_kept + kInFlight * kThreads - 1) / (kInFlight * kThreads);
  for (int batch = batches - 1; batch >= 0; --batch) {
    const int first = row.kept + batch * kInFlight * kThreads + thread;
    typename V::Bits bits[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int vector = first + i * kThreads;
      if (vector < row.vectors) bits[i] = V::Load(row.logits + int64_t{vector} * kWidth, true);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int vector = first + i * kThreads;
      if (vector < row.vectors) {
        StoreVector<kWidth>(row.d_logits + int64_t{vector} * kWidth, gradient(bits[i]));
      }
    }
  }
#pragma unroll 4
  for (int vector = thread; vector < row.kept; vector += kThreads) {
    StoreVector<kWidth>(row.d_logits + int64_t{vector} * kWidth, gradient(shared[vector]));
  }
  const int rest = row.RestElement();
  if (rest >= 0) {
    StoreElement(row.d_logits + rest, Exp(ToFloat(row.logits[rest]) - largest) * slope);
  }
}

// Zeros from an element to the end of the row, which is a whole number of vectors.
template <int kThreads, typename T, typename Out, int kWidth>
__device__ void ZeroFrom(const Row<T, Out, kWidth>& row, int first) {
  const int thread = static_cast<int>(threadIdx.x);
  const int whole = (first + kWidth - 1) / kWidth * kWidth;
  if (first + thread < whole) row.d_logits[first + thread] = Out{};
#pragma unroll 4
  for (int i = whole + thread * kWidth; i < row.stored; i += kThreads * kWidth) {
    StoreVector<kWidth>(row.d_logits + i, typename GradientVector<Out, kWidth>::Bits{});
  }
}

// A block takes a row; kept vectors and what the cache holds are read from memory once. Floor: a
// read of the logits and a write of the gradient, 4 bytes per element of bf16, 3 with one of FP8.
template <int kThreads, typename T, typename Out, int kWidth>
__global__ void __launch_bounds__(kThreads) CrossEntropyKernel(const Rows<T, Out> rows) {
  extern __shared__ uint4 shared_memory[];
  __shared__ float warps_largest[cuda::kWarp];
  __shared__ float warps_sum[cuda::kWarp];
  auto* shared = reinterpret_cast<typename Vector<T, kWidth>::Bits*>(shared_memory);
  const int64_t index = blockIdx.x;
  const Row<T, Out, kWidth> row(rows, index);
  if constexpr (std::is_same_v<Out, Float8E5M2>) {
    if (index == 0 && threadIdx.x == 0) {
      *rows.record = {__fdiv_rn(*rows.gradient_scale, rows.fixed_scale),
                      __fdiv_rn(rows.fixed_scale, *rows.gradient_scale), 0.0f, 0.0f};
    }
  }
  const int target = rows.targets[index];
  if (target < 0) {
    if (threadIdx.x == 0) rows.losses[index] = 0.0f;
    if (row.d_logits != nullptr) ZeroFrom<kThreads>(row, 0);
    return;
  }
  // Stops the device: a target outside the vocabulary has no loss.
  if (target >= row.vocab) __trap();
  // Before d_logits, which may lie over the logits, are written behind the block's barriers.
  const float target_logit = ToFloat(row.logits[target]);
  OnlineSum total = SumExponentials<kThreads>(row, shared);
  total.Rescale(cuda::BlockMax(total.largest, warps_largest));
  total.sum = cuda::BlockSum(total.sum, warps_sum);
  if (threadIdx.x == 0) {
    const double log_sum_exp =
        static_cast<double>(total.largest) + log(static_cast<double>(total.sum));
    const double z = static_cast<double>(rows.z_loss);
    rows.losses[index] = static_cast<float>(log_sum_exp - static_cast<double>(target_logit) +
                                            z * log_sum_exp * log_sum_exp);
  }
  if (row.d_logits != nullptr) {
    const float scale = std::is_same_v<Out, Float8E5M2> ? rows.fixed_scale : *rows.gradient_scale;
    const float log_sum_exp = total.largest + logf(total.sum);
    const float slope = (1.0f + 2.0f * rows.z_loss * log_sum_exp) * scale / total.sum;
    StoreGradient<kThreads>(row, total.largest, slope, shared);
    ZeroFrom<kThreads>(row, row.vocab);
    if (static_cast<int>(threadIdx.x) == row.template Owner<kThreads>(target)) {
      const float at_target = fmaf(Exp(target_logit - total.largest), slope, -scale);
      StoreElement(row.d_logits + target, at_target);
    }
  }
}

int SharedMemoryBytes(int ordinal) {
  int bytes = 0;
  CheckCuda(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal),
            "asking for the GPU's shared memory");
  return bytes;
}

template <int kThreads, typename T, typename Out, int kWidth>
void Launch(cudaStream_t stream, const CrossEntropyArgs& args, int ordinal) {
  void (*kernel)(Rows<T, Out>) = CrossEntropyKernel<kThreads, T, Out, kWidth>;
  constexpr int kVectorBytes = kWidth * static_cast<int>(sizeof(T));
  constexpr int kStaticBytes = 2 * cuda::kWarp * static_cast<int>(sizeof(float));
  Rows<T, Out> rows{.logits = args.logits.as<T>(),
                    .targets = args.targets.as<int32_t>(),
                    .losses = args.losses.as<float>(),
                    .gradient_scale = nullptr,
                    .d_logits = nullptr,
                    .record = static_cast<ScaleRecord*>(args.d_logits_scale.data()),
                    .fixed_scale = LogitGradientScale(args.z_loss),
                    .stored = args.logits.shape()[1],
                    .vocab = Narrow<int>(args.vocab),
                    .kept = 0,
                    .z_loss = args.z_loss};
  const int most_shared_bytes = SharedMemoryBytes(ordinal) - kStaticBytes;
  if (args.gradient_scale) {
    rows.gradient_scale = args.gradient_scale.as<float>();
    rows.d_logits = args.d_logits.as<Out>();
    // The whole row, or as many vectors of every thread as there is room for.
    const int room = most_shared_bytes / kVectorBytes;
    const int vectors = rows.vocab / kWidth;
    rows.kept = vectors <= room ? vectors : room / kThreads * kThreads;
  }
  const int shared_bytes = rows.kept * kVectorBytes;
  // The same value at every call, so that threads do not disturb each other.
  CheckCuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most_shared_bytes),
      "cross entropy: shared memory");
  const int blocks = Narrow<int>(args.logits.shape()[0]);
  kernel<<<blocks, kThreads, shared_bytes, stream>>>(rows);
  CheckLaunch("cross entropy");
}

template <typename T, typename Out>
void LaunchFor(cudaStream_t stream, const CrossEntropyArgs& args, int ordinal) {
  constexpr int kWidth = cuda::kWide<T>;
  const int64_t stored = args.logits.shape()[1];
  const bool is_wide = stored % kWidth == 0 && cuda::IsAligned(args.logits.data(), 16) &&
                       cuda::IsAligned(args.d_logits.data(), 16);
  if (!is_wide) {
    Launch<kShortRowThreads, T, Out, 1>(stream, args, ordinal);
  } else if (stored * int64_t{sizeof(T)} > kLongRowBytes) {
    Launch<kLongRowThreads, T, Out, kWidth>(stream, args, ordinal);
  } else {
    Launch<kShortRowThreads, T, Out, kWidth>(stream, args, ordinal);
  }
}

template <typename T>
void LaunchAny(cudaStream_t stream, const CrossEntropyArgs& args, int ordinal) {
  if (args.d_logits_scale) {
    LaunchFor<T, Float8E5M2>(stream, args, ordinal);
  } else {
    LaunchFor<T, T>(stream, args, ordinal);
  }
}

}  // namespace

void CudaBackend::DoCrossEntropy(Stream& stream, const CrossEntropyArgs& args) {
  if (args.logits.elements() == 0) return;
  // Elements of a row are counted in 32 bits.
  CHECK(args.logits.shape()[1] <= INT32_MAX / 2, "cross_entropy: {} columns are too many",
        args.logits.shape()[1]);
  if (args.logits.dtype() == DType::kF32) {
    LaunchAny<float>(NativeStream(stream), args, device_.ordinal());
  } else {
    LaunchAny<BFloat16>(NativeStream(stream), args, device_.ordinal());
  }
}

}  // namespace hearth
