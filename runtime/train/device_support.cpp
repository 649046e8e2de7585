#include "runtime/train/device_support.h"

#include <fmt/format.h>

namespace hearth {

void RequireFp8(const ResolvedConfig& resolved, const std::optional<GpuInfo>& gpu) {
  if (!gpu || gpu->compute_capability >= kFp8Capability) return;
  if (resolved.config.precision.compute_dtype != ComputeDtype::kFp8) return;
  resolved.Fail(
      "precision.compute_dtype",
      fmt::format("fp8 needs a GPU of compute capability {}.{} or later, GPU {} is {}; "
                  "write compute_dtype: bf16",
                  kFp8Capability / 10, kFp8Capability % 10, gpu->ordinal, Describe(*gpu)));
}

void RequireAttention(const ResolvedConfig& resolved, KernelBackend& backend) {
  if (resolved.config.precision.attention_provider != AttentionChoice::kCudnn) return;
  const std::string why_not = backend.WhyNoAttention(AttentionProvider::kCudnn);
  if (why_not.empty()) return;
  resolved.Fail("precision.attention_provider",
                fmt::format("there is no cuDNN here ({}); write auto or own", why_not));
}

}  // namespace hearth
