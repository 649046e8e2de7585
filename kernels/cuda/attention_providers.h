// Attention on the GPU: whose code computes which call.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/api/attention_table.h"
#include "kernels/api/kernel_backend.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cudnn_library.h"

namespace hearth {

// Any number of threads may call it. While measuring, the first attention of a key that cuDNN takes
// times both providers; every later one uses what was chosen then. Where nothing was measured it is
// our own.
class CudaAttention {
 public:
  // `device` must outlive it and be the calling thread's.
  explicit CudaAttention(const CudaDevice& device);
  ~CudaAttention();

  // Validated arguments.
  void Forward(Stream& stream, const AttentionForwardArgs& args);
  void Backward(Stream& stream, const AttentionBackwardArgs& args);

  // As in KernelBackend.
  void Measure(bool on);
  std::string Table() const;
  void Load(std::string_view text);
  std::vector<std::string> TakeWarnings();
  std::string WhyNot(AttentionProvider provider);
  AttentionReport Report() const;

 private:
  struct Choice {
    AttentionProvider provider = AttentionProvider::kOwn;
    std::string library;
  };
  struct Plan {
    std::unique_ptr<CudnnAttention> attention;  // null: refused
    std::string why_not;
  };

  template <typename Args>
  CudnnAttention* Choose(cudaStream_t stream, const Args& args);
  CudnnAttention* FollowTable(cudaStream_t stream, const AttentionKey& key, float softmax_scale,
                              int64_t workspace_bytes);
  Choice MeasureChoice(cudaStream_t stream, const AttentionKey& key, float softmax_scale,
                       int64_t workspace_bytes);
  // Null, and why, where cuDNN does not take it within that workspace.
  CudnnAttention* Prepare(const AttentionKey& key, float softmax_scale, int64_t workspace_bytes,
                          std::string& why_not);
  CudnnLibrary* Library();  // null: library_error_ says why
  void WarnOnce(std::string message);

  const CudaDevice& device_;
  mutable std::mutex mutex_;  // guards everything below
  bool library_sought_ = false;
  std::string library_error_;
  std::unique_ptr<CudnnLibrary> library_;
  std::map<std::pair<AttentionKey, float>, Plan> plans_;  // after library_: they go first
  std::map<AttentionKey, Choice> choices_;
  bool measuring_ = false;
  bool used_own_ = false;
  bool used_cudnn_ = false;
  bool has_warned_ = false;
  std::string reason_;
  std::vector<std::string> warnings_;
};

}  // namespace hearth
