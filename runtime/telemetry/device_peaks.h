// What the makers say their GPUs can do.
#pragma once

#include <optional>
#include <string_view>

namespace hearth {

// Dense matmuls, fp32 accumulation, in 10^12 operations per second (a multiply-add counts as two).
struct DevicePeaks {
  double bf16_tflops = 0;
  double fp8_tflops = 0;  // 0: there is no FP8
};

// By Device::name(), such as "NVIDIA H200"; nothing for a device that is not in the table.
std::optional<DevicePeaks> FindDevicePeaks(std::string_view device_name);

}  // namespace hearth
