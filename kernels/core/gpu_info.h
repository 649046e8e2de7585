// What a GPU is and whether it can be used.
#pragma once

#include <string>
#include <vector>

namespace hearth {

// 10 * major + minor of a compute capability, as everywhere here.
constexpr int kOldestCapability = 80;  // what kernels/cuda is written for
constexpr int kFp8Capability = 89;     // FP8 tensor cores

struct GpuInfo {
  std::string name;            // "NVIDIA H200"
  int compute_capability = 0;  // 90 is 9.0
  int ordinal = 0;             // among the GPUs that the driver shows this process
  std::string identity = {};   // "GPU-<uuid>", of this GPU in the whole world
};

// Of the sixteen bytes by which the driver knows it, as NVIDIA's tools write them.
std::string GpuIdentity(const char (&uuid)[16]);

// "NVIDIA A100, compute capability 8.0".
std::string Describe(const GpuInfo& gpu);

// Those that are not too old.
std::vector<GpuInfo> UsableOf(std::vector<GpuInfo> visible);

// Why there is none, for people; "" when there is one.
std::string WhyNoneIsUsable(const std::vector<GpuInfo>& visible);

}  // namespace hearth
