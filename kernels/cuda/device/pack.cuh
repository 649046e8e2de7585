// Runs of consecutive elements in registers, as 32-bit words, so that conversions work on pairs and
// no instruction is spent on extracting halves.
#pragma once

#include <cstdint>

#include "kernels/cuda/device/vector.cuh"

namespace hearth::cuda {

// N elements of T, 4-byte words in memory order. N * sizeof(T) is a multiple of 16.
template <typename T, int N>
struct Pack {
  static constexpr int kWords = N * static_cast<int>(sizeof(T)) / 4;
  uint32_t words[kWords];
};

// The first `count` elements at `address`, zeros behind them. With kVector, `address` is 16-byte
// aligned and all N elements are there.
template <bool kVector, int N>
__device__ inline Pack<float, N> LoadPack(const float* address, int64_t count) {
  Pack<float, N> pack;
  if constexpr (kVector) {
#pragma unroll
    for (int i = 0; i < N / 4; ++i) {
      const uint4 v = reinterpret_cast<const uint4*>(address)[i];
      pack.words[4 * i] = v.x;
      pack.words[4 * i + 1] = v.y;
      pack.words[4 * i + 2] = v.z;
      pack.words[4 * i + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) pack.words[i] = i < count ? __float_as_uint(address[i]) : 0u;
  }
  return pack;
}

template <bool kVector, int N>
__device__ inline Pack<BFloat16, N> LoadPack(const BFloat16* address, int64_t count) {
  Pack<BFloat16, N> pack;
  if constexpr (kVector) {
#pragma unroll
    for (int i = 0; i < N / 8; ++i) {
      const uint4 v = reinterpret_cast<const uint4*>(address)[i];
      pack.words[4 * i] = v.x;
      pack.words[4 * i + 1] = v.y;
      pack.words[4 * i + 2] = v.z;
      pack.words[4 * i + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      const uint32_t low = 2 * i < count ? address[2 * i].bits : 0u;
      const uint32_t high = 2 * i + 1 < count ? address[2 * i + 1].bits : 0u;
      pack.words[i] = low | high << 16;
    }
  }
  return pack;
}

// Writes the first `count` elements; all N, 16 bytes at a time, with kVector.
template <bool kVector, typename T, int N>
__device__ inline void StorePack(T* address, const Pack<T, N>& pack, int64_t count) {
  if constexpr (kVector) {
#pragma unroll
    for (int i = 0; i < Pack<T, N>::kWords / 4; ++i) {
      reinterpret_cast<uint4*>(address)[i] = make_uint4(
          pack.words[4 * i], pack.words[4 * i + 1], pack.words[4 * i + 2], pack.words[4 * i + 3]);
    }
  } else if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (i < count) address[i] = __uint_as_float(pack.words[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (i < count) address[i] = {static_cast<uint16_t>(pack.words[i / 2] >> (16 * (i % 2)))};
    }
  }
}

template <int N>
__device__ inline void Unpack(const Pack<float, N>& pack, float (&values)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = __uint_as_float(pack.words[i]);
}

template <int N>
__device__ inline void Unpack(const Pack<BFloat16, N>& pack, float (&values)[N]) {
#pragma unroll
  for (int i = 0; i < N / 2; ++i) {
    values[2 * i] = __uint_as_float(pack.words[i] << 16);
    values[2 * i + 1] = __uint_as_float(pack.words[i] & 0xffff0000u);
  }
}

// Two values rounded to nearest even, the first in the lower half.
__device__ inline uint32_t PackBFloat16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return static_cast<uint32_t>(__bfloat16_as_ushort(pair.x)) |
         static_cast<uint32_t>(__bfloat16_as_ushort(pair.y)) << 16;
}

// The values rounded to T.
template <typename T, int N>
__device__ inline Pack<T, N> Round(const float (&values)[N]) {
  Pack<T, N> pack;
  if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < N; ++i) pack.words[i] = __float_as_uint(values[i]);
  } else {
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      pack.words[i] = PackBFloat16(values[2 * i], values[2 * i + 1]);
    }
  }
  return pack;
}

// Each value as it is after a trip through T.
template <typename T, int N>
__device__ inline void RoundInPlace(float (&values)[N]) {
  if constexpr (sizeof(T) == 4) {
    return;
  } else if constexpr (N % 2 == 0) {
    Unpack(Round<T>(values), values);
  } else {
#pragma unroll
    for (float& value : values) value = ToFloat(FromFloat<T>(value));
  }
}

// max |element| as the bits of an fp32 number; of numbers without a sign these bits rise with the
// value, and every NaN lies above infinity.
template <int N>
__device__ inline uint32_t LargestMagnitude(const Pack<float, N>& pack) {
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) largest = max(largest, pack.words[i] & 0x7fffffffu);
  return largest;
}

template <int N>
__device__ inline uint32_t LargestMagnitude(const Pack<BFloat16, N>& pack) {
  const auto pair = [&](int i) {
    const uint32_t word = pack.words[i];
    return __nv_bfloat162{__ushort_as_bfloat16(static_cast<unsigned short>(word)),
                          __ushort_as_bfloat16(static_cast<unsigned short>(word >> 16))};
  };
  __nv_bfloat162 largest = __habs2(pair(0));
#pragma unroll
  for (int i = 1; i < N / 2; ++i) largest = __hmax2_nan(largest, __habs2(pair(i)));
  const uint32_t low = __bfloat16_as_ushort(largest.x);
  const uint32_t high = __bfloat16_as_ushort(largest.y);
  return max(low, high) << 16;
}

}  // namespace hearth::cuda
