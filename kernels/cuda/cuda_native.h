// The way from a Stream of the CUDA backend to the driver's handle; the only one.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/api/combine.h"
#include "kernels/core/stream.h"

namespace hearth {

// `stream` must be one of a CUDA device (CHECK).
cudaStream_t NativeStream(Stream& stream);

// ---- What communicators need of the device besides a backend's ops ----

// Work behind this waits until the word is at or beyond `value`, compared cyclically. The word lies
// where this GPU reads it: device memory, or pinned or registered host memory at the address that
// the GPU has for it. Nobody fails such a wait: who enqueues it sees to it that it ends.
void EnqueueWordWait(Stream& stream, const uint32_t* word, uint32_t value);

// Writes the word, possibly one in the memory of another process or GPU. Who sees it sees all that
// the stream wrote before.
void EnqueueWordWrite(Stream& stream, uint32_t* word, uint32_t value);

// out = the terms combined; see CombineArgs.
void Combine(Stream& stream, const CombineArgs& args);

// The whole allocation of device memory in which the address lies.
struct DeviceAllocation {
  void* base = nullptr;
  int64_t bytes = 0;
};
DeviceAllocation AllocationOf(const void* address);

// See GpuInfo.
std::string IdentityOf(const cudaDeviceProp& properties);

// DeviceError "WHAT: name of the error: its description" unless status is cudaSuccess.
void CheckCuda(cudaError_t status, std::string_view what);

// After a kernel launch: throws what the launch itself reported (a bad configuration, an earlier
// fault), never waits for the kernel.
void CheckLaunch(std::string_view kernel);

}  // namespace hearth
