// cuDNN's attention over sequences of one length, behind an interface in the terms of the op. The
// library is loaded when it is first asked for; cudnn_library_unavailable.cpp stands for it where
// its headers were not found at build time.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "kernels/api/attention.h"
#include "kernels/api/attention_table.h"
#include "kernels/cuda/cuda_device.h"

namespace hearth {

// Forward and backward of one shape, ready to run. Both compute on all rows of all sequences there
// is room for, and leave the padding behind them alone. Not thread-safe.
class CudnnAttention {
 public:
  virtual ~CudnnAttention() = default;

  // Of the `workspace` below.
  virtual int64_t forward_workspace_bytes() const = 0;
  virtual int64_t backward_workspace_bytes() const = 0;
  // Enqueue. DeviceError when cuDNN refuses. The workspace must begin at a multiple of 256 bytes;
  // `args.workspace` is not looked at. Forward writes log_sum_exp as the op has it.
  virtual void Forward(cudaStream_t stream, const AttentionForwardArgs& args, void* workspace) = 0;
  // `packed_log_sum_exp`: [sequences, heads, sequence_len] f32, and `args.log_sum_exp` is not read.
  virtual void Backward(cudaStream_t stream, const AttentionBackwardArgs& args,
                        const float* packed_log_sum_exp, void* workspace) = 0;
};

class CudnnLibrary {
 public:
  virtual ~CudnnLibrary() = default;

  // "cudnn-91900".
  virtual const std::string& name() const = 0;
  // Where its bits mean the same: "cudnn-91900-sm_90-132".
  virtual const std::string& identity() const = 0;
  // Null, and why, where it does not take this combination: causal, deterministic, bf16. Takes some
  // 100 ms and host memory.
  virtual std::unique_ptr<CudnnAttention> Prepare(const AttentionKey& key, float softmax_scale,
                                                  std::string& why_not) = 0;
};

// Null, and why, where there is no usable cuDNN. `device` must outlive the result.
std::unique_ptr<CudnnLibrary> OpenCudnn(const CudaDevice& device, std::string& why_not);

}  // namespace hearth
