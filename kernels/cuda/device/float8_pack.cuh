// FP8 quantisation of runs of elements, and the scale record of a tensor on the device.
#pragma once

#include <cstdint>

#include "kernels/api/quantize.h"
#include "kernels/cuda/device/pack.cuh"
#include "kernels/cuda/device/reduce.cuh"

namespace hearth::cuda {

// The columns that a thread quantises together: 16 bytes of FP8.
constexpr int kGroup = 16;

// Where a kernel puts its FP8 result; a QuantizedOutput as a kernel argument.
struct QuantizeTarget {
  uint8_t* values = nullptr;      // [rows, columns]
  uint8_t* transposed = nullptr;  // [columns, rows]
  ScaleRecord* record = nullptr;
  bool e5m2 = false;
  bool current = false;  // the record holds an amax only; the kernel completes it

  QuantizeTarget() = default;
  explicit QuantizeTarget(const QuantizedOutput& output)
      : values(static_cast<uint8_t*>(output.values.data())),
        transposed(static_cast<uint8_t*>(output.transposed.data())),
        record(static_cast<ScaleRecord*>(output.scale.data())),
        e5m2((output.values ? output.values : output.transposed).dtype() == DType::kF8E5M2),
        current(output.mode == ScaleMode::kCurrent) {}
};

// MakeScale of kernels/api/quantize.h, bit by bit; the record's reserved word is 0.
__device__ inline ScaleRecord MakeScaleOnDevice(float amax, bool e5m2) {
  if (amax != amax) {
    const float nan = __uint_as_float(0x7fc00000u);
    return {nan, nan, nan, 0.0f};
  }
  constexpr float kLargestScale = 0x1p126f;
  const float quotient = __fdiv_rn(e5m2 ? kE5M2Max : kE4M3Max, amax);
  const float bounded = kLargestScale < quotient ? kLargestScale : quotient;
  const float scale = amax == 0.0f ? 1.0f : bounded;
  return {__fdiv_rn(1.0f, scale), scale, amax, 0.0f};
}

// The scale to quantise with. Under `current` one thread of the grid writes the two words that are
// missing; nobody else touches these, and everybody reads the amax only.
__device__ inline float ResolveScale(const QuantizeTarget& target) {
  if (!target.current) return target.record->scale;
  const ScaleRecord record = MakeScaleOnDevice(target.record->amax, target.e5m2);
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    target.record->inverse = record.inverse;
    target.record->scale = record.scale;
  }
  return record.scale;
}

// Two bytes, the first value in the lower one; nearest even, saturating.
__device__ inline uint32_t ToFloat8Pair(float low, float high, bool e5m2) {
#if __CUDA_ARCH__ >= 890
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE,
                                  e5m2 ? __NV_E5M2 : __NV_E4M3);
#else
  // Older chips have no instruction for it, and the vendor's emulation goes through fp64.
  const uint32_t first = e5m2 ? ToE5M2(low).bits : ToE4M3(low).bits;
  const uint32_t second = e5m2 ? ToE5M2(high).bits : ToE4M3(high).bits;
  return first | second << 8;
#endif
}

// N bytes of Round(value * scale), four to a word. One fp32 product each, as on the CPU.
template <bool kE5M2, typename T, int N>
__device__ inline Pack<uint8_t, N> QuantizeAs(const Pack<T, N>& pack, float scale) {
  float values[N];
  Unpack(pack, values);
  Pack<uint8_t, N> bytes;
#pragma unroll
  for (int i = 0; i < N / 4; ++i) {
    const uint32_t low =
        ToFloat8Pair(__fmul_rn(values[4 * i], scale), __fmul_rn(values[4 * i + 1], scale), kE5M2);
    const uint32_t high = ToFloat8Pair(__fmul_rn(values[4 * i + 2], scale),
                                       __fmul_rn(values[4 * i + 3], scale), kE5M2);
    bytes.words[i] = low | high << 16;
  }
  return bytes;
}

template <typename T, int N>
__device__ inline Pack<uint8_t, N> Quantize(const Pack<T, N>& pack, float scale, bool e5m2) {
  return e5m2 ? QuantizeAs<true>(pack, scale) : QuantizeAs<false>(pack, scale);
}

// The first `count` bytes; with kVector all N, at once, at a multiple of N.
template <bool kVector, int N>
__device__ inline void StoreBytes(uint8_t* address, const Pack<uint8_t, N>& bytes, int64_t count) {
  if constexpr (!kVector) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (i < count) address[i] = static_cast<uint8_t>(bytes.words[i / 4] >> (8 * (i % 4)));
    }
  } else if constexpr (N == 16) {
    *reinterpret_cast<uint4*>(address) =
        make_uint4(bytes.words[0], bytes.words[1], bytes.words[2], bytes.words[3]);
  } else if constexpr (N == 8) {
    *reinterpret_cast<uint2*>(address) = make_uint2(bytes.words[0], bytes.words[1]);
  } else {
    static_assert(N == 4);
    *reinterpret_cast<uint32_t*>(address) = bytes.words[0];
  }
}

// Raises the record's amax to the largest of the block's magnitudes (bits of fp32 numbers without
// sign). All threads of a block call it once; at most 1024 of them.
__device__ inline void AtomicMaxOverBlock(float* amax, uint32_t magnitude) {
  __shared__ uint32_t warps[kWarp];
  magnitude = __reduce_max_sync(kAllLanes, magnitude);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = magnitude;
  __syncthreads();
  if (threadIdx.x >= kWarp) return;
  magnitude = threadIdx.x < blockDim.x / kWarp ? warps[threadIdx.x] : 0u;
  magnitude = __reduce_max_sync(kAllLanes, magnitude);
  // One pattern for every NaN, so that the record does not depend on which one was met.
  if (magnitude > 0x7f800000u) magnitude = 0x7fc00000u;
  if (threadIdx.x == 0) AtomicMaxMagnitude(amax, __uint_as_float(magnitude));
}

}  // namespace hearth::cuda
