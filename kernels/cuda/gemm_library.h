// cuBLASLt behind an interface in the terms of GemmArgs.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <string>
#include <string_view>
#include <vector>

#include "kernels/api/gemm_table.h"

namespace hearth {

// Device addresses of one product, row-major as in GemmArgs: `addend` and `out` are dense.
struct MatmulOperands {
  const void* a = nullptr;
  const void* b = nullptr;
  const void* addend = nullptr;  // read with GemmKey::accumulate; may be `out`
  void* out = nullptr;
  const void* bias = nullptr;     // read with GemmKey::bias
  const void* a_scale = nullptr;  // f8: the factor that makes values of a, 16-byte aligned
  const void* b_scale = nullptr;
};

// Elements from a stored row of an operand to the next.
struct MatmulLeading {
  int64_t a = 0;
  int64_t b = 0;
};

// Of operands without gaps.
MatmulLeading DenseLeading(const GemmKey& key);

// Scratch memory of one product; the library wants it aligned to 256 bytes.
struct MatmulWorkspace {
  void* data = nullptr;
  int64_t bytes = 0;
};

// One product in the library's words. It computes column-major, so it is told to compute out^T [n,
// m] = B A^T: its first operand is our b, its second our a.
class Matmul {
 public:
  // DeviceError when the library knows no such product.
  Matmul(const GemmKey& key, const MatmulLeading& leading, const MatmulOperands& operands);

  const GemmKey& key() const { return key_; }
  const MatmulOperands& operands() const { return operands_; }

 private:
  friend class GemmLibrary;
  GemmKey key_;
  MatmulOperands operands_;
  // The library's functions take pointers to what they only read without const.
  mutable cublasLtMatmulDescOpaque_t description_{};
  mutable cublasLtMatrixLayoutOpaque_t first_{};
  mutable cublasLtMatrixLayoutOpaque_t second_{};
  mutable cublasLtMatrixLayoutOpaque_t out_{};
};

// The library's handle on the calling thread's GPU. Not thread-safe.
class GemmLibrary {
 public:
  // `capability` and `multiprocessors` of the GPU, for the identity.
  GemmLibrary(int capability, int multiprocessors);
  ~GemmLibrary();
  GemmLibrary(const GemmLibrary&) = delete;
  GemmLibrary& operator=(const GemmLibrary&) = delete;

  // Where an algorithm means the same: "cublaslt-130100-sm_90-132".
  const std::string& identity() const { return identity_; }
  // At most `count` deterministic algorithms within the workspace, in the order the library expects
  // them to be fast; none when it cannot compute this at all.
  std::vector<GemmAlgorithm> Candidates(const Matmul& matmul, int64_t workspace_bytes,
                                        int count) const;
  // Whether the library takes this algorithm here.
  bool Admits(const Matmul& matmul, const GemmAlgorithm& algorithm, int64_t workspace_bytes) const;
  // Enqueues it; false when the library refuses this algorithm for these operands.
  bool TryRun(cudaStream_t stream, const Matmul& matmul, const GemmAlgorithm& algorithm,
              const MatmulWorkspace& workspace) const;

 private:
  cublasLtHandle_t handle_ = nullptr;
  std::string identity_;
};

}  // namespace hearth
