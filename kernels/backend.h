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
  int device_ordinal = 0;  // CUDA: which of the visible GPUs
};

// kind: one of AvailableBackends(); ConfigError otherwise. DeviceError when its device cannot be
// used.
std::unique_ptr<KernelBackend> MakeBackend(std::string_view kind, const BackendOptions& options);

// What is compiled into this build: "cpu", and "cuda" where it has CUDA code.
std::vector<std::string> AvailableBackends();

// How many GPUs this process may use; 0 in a build without CUDA.
int CudaDeviceCount();
// Why that is 0, for people.
std::string WhyNoGpu();

}  // namespace hearth
