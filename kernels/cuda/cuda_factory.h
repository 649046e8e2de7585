// The CUDA backend, for those who must not see a CUDA header. In a build without CUDA
// kernels/without_cuda.cpp defines the same functions.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/api/kernel_backend.h"

namespace hearth {

// Whether this build has CUDA code.
bool HasCuda();
// The GPUs this process may use, in the driver's order; none without a driver.
std::vector<GpuInfo> UsableGpus();
// Why there are none, for people.
std::string WhyNoGpu();
// On UsableGpus()[index]. DeviceError when that GPU cannot be used.
std::unique_ptr<KernelBackend> MakeCudaBackend(int index);

}  // namespace hearth
