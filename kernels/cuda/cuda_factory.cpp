#include "kernels/cuda/cuda_factory.h"

#include <cuda_runtime_api.h>

#include "kernels/core/check.h"
#include "kernels/cuda/cuda_backend.h"

namespace hearth {

bool HasCuda() { return true; }

int CudaDeviceCount() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // no driver is an answer, not an error of what follows
  return 0;
}

std::string WhyNoGpu() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) return count == 0 ? "no GPU is visible (CUDA_VISIBLE_DEVICES?)" : "";
  cudaGetLastError();
  return Format("{} ({})", cudaGetErrorString(status), cudaGetErrorName(status));
}

std::unique_ptr<KernelBackend> MakeCudaBackend(int ordinal) {
  return std::make_unique<CudaBackend>(ordinal);
}

}  // namespace hearth
