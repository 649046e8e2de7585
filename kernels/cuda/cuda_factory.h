// The CUDA backend, for those who must not see a CUDA header. In a build without CUDA
// kernels/without_cuda.cpp defines the same functions.
#pragma once

#include <memory>
#include <string>

#include "kernels/api/kernel_backend.h"

namespace hearth {

// Whether this build has CUDA code.
bool HasCuda();
// How many GPUs this process may use; 0 without a driver.
int CudaDeviceCount();
// Why CudaDeviceCount() is 0, for people.
std::string WhyNoGpu();
// DeviceError when that GPU cannot be used.
std::unique_ptr<KernelBackend> MakeCudaBackend(int ordinal);

}  // namespace hearth
