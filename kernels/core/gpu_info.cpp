#include "kernels/core/gpu_info.h"

#include <utility>

#include "kernels/core/check.h"

namespace hearth {

namespace {

std::string CapabilityText(int capability) {
  return Format("{}.{}", capability / 10, capability % 10);
}

}  // namespace

std::string GpuIdentity(const char (&uuid)[16]) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "GPU";
  for (int i = 0; i < 16; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    const auto byte = static_cast<unsigned char>(uuid[i]);
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string Describe(const GpuInfo& gpu) {
  return Format("{}, compute capability {}", gpu.name, CapabilityText(gpu.compute_capability));
}

std::vector<GpuInfo> UsableOf(std::vector<GpuInfo> visible) {
  std::erase_if(visible,
                [](const GpuInfo& gpu) { return gpu.compute_capability < kOldestCapability; });
  return visible;
}

std::string WhyNoneIsUsable(const std::vector<GpuInfo>& visible) {
  if (visible.empty()) return "no GPU is visible (CUDA_VISIBLE_DEVICES?)";
  if (!UsableOf(visible).empty()) return "";
  return Format("Hearth needs compute capability {} or later, which none of {} has ({})",
                CapabilityText(kOldestCapability), visible.size(), Describe(visible.front()));
}

}  // namespace hearth
