// The one place that knows which backends are in this build.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/api/kernel_backend.h"

namespace hearth {

struct BackendOptions {
  int threads = 1;         // CPU: threads that share an op's work
  int device_ordinal = 0;  // CUDA: which of UsableGpus()
};

// kind: one of AvailableBackends(); ConfigError otherwise. DeviceError when its device cannot be
// used.
std::unique_ptr<KernelBackend> MakeBackend(std::string_view kind, const BackendOptions& options);

// What is compiled into this build: "cpu", and "cuda" where it has CUDA code.
std::vector<std::string> AvailableBackends();

// The GPUs this process may use, in the driver's order: visible, and of compute capability 8.0 or
// later. None in a build without CUDA.
std::vector<GpuInfo> UsableGpus();
int CudaDeviceCount();
// Why there are none, for people.
std::string WhyNoGpu();

}  // namespace hearth
