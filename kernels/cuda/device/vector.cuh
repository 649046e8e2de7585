// Wide loads and stores, and the conversions of the storage types as the hardware does them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "kernels/core/bfloat16.h"
#include "kernels/core/float8.h"

namespace hearth::cuda {

// N consecutive elements, moved by one instruction where N * sizeof(T) is 4, 8 or 16 and the
// address is a multiple of it.
template <typename T, int N>
struct alignas(sizeof(T) * N) Vec {
  T items[N];
  __device__ T& operator[](int i) { return items[i]; }
  __device__ const T& operator[](int i) const { return items[i]; }
};

// Elements of T in 16 bytes.
template <typename T>
constexpr int kWide = 16 / static_cast<int>(sizeof(T));

template <int N, typename T>
__device__ Vec<T, N> Load(const T* address) {
  return *reinterpret_cast<const Vec<T, N>*>(address);
}

template <int N, typename T>
__device__ void Store(T* address, const Vec<T, N>& value) {
  *reinterpret_cast<Vec<T, N>*>(address) = value;
}

template <typename T>
bool IsAligned(const T* address, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(bytes) == 0;
}

// fp32 -> storage type, to nearest even; equal to kernels/core for everything but the payload of a
// NaN.
template <typename T>
__device__ T FromFloat(float value);
template <>
__device__ inline float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ inline BFloat16 FromFloat<BFloat16>(float value) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
}
template <>
__device__ inline Float8E4M3 FromFloat<Float8E4M3>(float value) {
  return {__nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3)};
}
template <>
__device__ inline Float8E5M2 FromFloat<Float8E5M2>(float value) {
  return {__nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E5M2)};
}

}  // namespace hearth::cuda
