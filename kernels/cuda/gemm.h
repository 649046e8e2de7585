// Matmuls on the GPU: which of the library's algorithms computes what, and what it does not
// compute.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/api/gemm.h"
#include "kernels/core/stream.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/gemm_library.h"

namespace hearth {

// Any number of threads may call it. The first matmul of a key asks the library, and while
// measuring times its candidates; every later one uses what was chosen then.
class CudaGemm {
 public:
  // `device` must outlive it and be the calling thread's.
  explicit CudaGemm(const CudaDevice& device);

  // Validated arguments.
  void Run(Stream& stream, const GemmArgs& args);

  // As in KernelBackend.
  void Measure(bool on);
  std::string Table() const;
  void Load(std::string_view text);
  std::vector<std::string> TakeWarnings();

 private:
  // No algorithm: the library does not compute this as one piece.
  struct Choice {
    std::optional<GemmAlgorithm> algorithm;
    bool checked = true;  // false: read from a table, the library has not seen it yet
  };

  bool RunWhole(cudaStream_t stream, const GemmArgs& args);
  void RunTiles(cudaStream_t stream, const GemmArgs& args);
  const Choice& Choose(cudaStream_t stream, const Matmul& matmul, const MatmulWorkspace& workspace);
  void WarnOnce(std::string message);

  mutable std::mutex mutex_;  // guards everything below
  GemmLibrary library_;
  std::map<GemmKey, Choice> choices_;
  bool measuring_ = false;
  bool has_table_ = false;  // keys are expected to be in it
  bool has_warned_ = false;
  std::vector<std::string> warnings_;
};

}  // namespace hearth
