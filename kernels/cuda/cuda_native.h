// The way from a Stream of the CUDA backend to the driver's handle; the only one.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "kernels/core/stream.h"

namespace hearth {

// `stream` must be one of a CUDA device (CHECK).
cudaStream_t NativeStream(Stream& stream);

// DeviceError "WHAT: name of the error: its description" unless status is cudaSuccess.
void CheckCuda(cudaError_t status, std::string_view what);

// After a kernel launch: throws what the launch itself reported (a bad configuration, an earlier
// fault), never waits for the kernel.
void CheckLaunch(std::string_view kernel);

}  // namespace hearth
