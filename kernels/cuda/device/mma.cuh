// The tensor cores as every GPU since compute capability 8.0 has them: m16n8k16 products of bf16
// with fp32 sums, and the loads that bring their operands from shared memory. Which lane holds what
// is in "Matrix Fragments for mma.m16n8k16" and "ldmatrix" of NVIDIA's PTX ISA.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace hearth::cuda {

// Operand A, 16 rows by 16 of the summed dimension: rows 0-7, rows 8-15, then both for the second
// half of the sum.
struct FragmentA {
  uint32_t words[4];
};
// Operand B for two neighbouring products: 16 of the summed dimension by 8 columns, twice.
struct FragmentB2 {
  uint32_t words[4];
};

// Four 8x8 matrices of bf16; lane l gives the address of row l % 8 of matrix l / 8. The lane then
// holds elements 2 * (l % 4) and the next one of row l / 4 of each.
__device__ __forceinline__ void LoadMatrices(uint32_t address, uint32_t (&words)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

// The same, each matrix transposed: rows 2 * (l % 4) and the next one of column l / 4.
__device__ __forceinline__ void LoadMatricesTransposed(uint32_t address, uint32_t (&words)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

// sums += a * b. Lane l holds columns 2 * (l % 4) and the next one of row l / 4 in sums[0],
// sums[1], of row l / 4 + 8 in sums[2], sums[3].
__device__ __forceinline__ void MultiplyAdd(const FragmentA& a, uint32_t b_first, uint32_t b_second,
                                            float (&sums)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a.words[0]), "r"(a.words[1]), "r"(a.words[2]), "r"(a.words[3]), "r"(b_first),
        "r"(b_second));
}

// Two bf16 in a word, `low` at the lower address.
__device__ __forceinline__ uint32_t PackBFloat16(float low, float high) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// 2^x within 2 ulp; subnormal results become zero.
__device__ __forceinline__ float Exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace hearth::cuda
