// Eight consecutive elements of one thread, whatever their type, place and number: wide accesses
// where they are possible, single ones elsewhere.
#pragma once

#include "kernels/cuda/device/pack.cuh"

namespace hearth::cuda {

constexpr int kCell = 8;

template <typename T>
using Cell = Pack<T, kCell>;

// Elements [begin, end) of the cell that starts at `address`; the others are zero. With kVector the
// address is a multiple of 16 bytes, and all elements are wanted or none.
template <bool kVector, typename T>
__device__ Cell<T> LoadCell(const T* address, int begin, int end) {
  Cell<T> cell{};
  if constexpr (kVector) {
    if (begin < end) cell = LoadPack<true, kCell>(address, kCell);
  } else {
#pragma unroll
    for (int i = 0; i < kCell; ++i) {
      if (i < begin || i >= end) continue;
      if constexpr (sizeof(T) == 4) {
        cell.words[i] = __float_as_uint(address[i]);
      } else {
        cell.words[i / 2] |= static_cast<uint32_t>(address[i].bits) << (16 * (i % 2));
      }
    }
  }
  return cell;
}

// One store of 16 bytes; the compiler may make four of an assignment.
__device__ inline void StoreWide(uint4* address, const uint32_t* words) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(words[0]),
               "r"(words[1]), "r"(words[2]), "r"(words[3])
               : "memory");
}

template <bool kVector, typename T>
__device__ void StoreCell(T* address, const Cell<T>& cell, int begin, int end) {
  if constexpr (kVector) {
    if (begin >= end) return;
#pragma unroll
    for (int i = 0; i < Cell<T>::kWords; i += 4) {
      StoreWide(reinterpret_cast<uint4*>(address) + i / 4, cell.words + i);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCell; ++i) {
      if (i < begin || i >= end) continue;
      if constexpr (sizeof(T) == 4) {
        address[i] = __uint_as_float(cell.words[i]);
      } else {
        address[i] = {static_cast<uint16_t>(cell.words[i / 2] >> (16 * (i % 2)))};
      }
    }
  }
}

// sum[i] += factor * cell[i], two roundings where contraction is off.
template <typename T>
__device__ void AddCell(const Cell<T>& cell, float factor, float (&sum)[kCell]) {
  float values[kCell];
  Unpack(cell, values);
#pragma unroll
  for (int i = 0; i < kCell; ++i) sum[i] += factor * values[i];
}

// How many of `most` elements there are when `count` are left.
__device__ inline int Within(int64_t count, int most) {
  return static_cast<int>(count < 0 ? 0 : count < most ? count : most);
}

}  // namespace hearth::cuda
