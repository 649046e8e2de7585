// The library's fp32 matrix product.
#pragma once

#include <cstdint>

namespace hearth {

// An fp32 matrix in memory: row-major, `leading` floats from row to row.
struct Fp32Matrix {
  const float* data = nullptr;
  int64_t leading = 0;
  bool transposed = false;  // the operand is the transpose of what lies in memory
};

// c[m, n] = a[m, k] * b[k, n] (+ c when accumulate), c with `c_leading` floats from row to row.
// Runs in the calling thread alone; the same arguments give the same bits. DeviceError when the
// library refuses.
struct SgemmArgs {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  Fp32Matrix a;
  Fp32Matrix b;
  float* c = nullptr;
  int64_t c_leading = 0;
  float alpha = 1.0f;
  bool accumulate = false;
};

void Sgemm(const SgemmArgs& args);

}  // namespace hearth
