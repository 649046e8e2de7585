#include "kernels/cuda/cuda_factory.h"

#include <cuda_runtime_api.h>

#include "kernels/core/check.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"

namespace hearth {

bool HasCuda() { return true; }

namespace {

// Empty where the driver refuses to answer; that is an answer, not an error of what follows.
std::vector<GpuInfo> VisibleGpus(cudaError_t& status) {
  int count = 0;
  status = cudaGetDeviceCount(&count);
  std::vector<GpuInfo> gpus;
  for (int ordinal = 0; status == cudaSuccess && ordinal < count; ++ordinal) {
    cudaDeviceProp properties{};
    status = cudaGetDeviceProperties(&properties, ordinal);
    gpus.push_back({properties.name, 10 * properties.major + properties.minor, ordinal,
                    IdentityOf(properties)});
  }
  if (status == cudaSuccess) return gpus;
  cudaGetLastError();
  return {};
}

}  // namespace

std::vector<GpuInfo> UsableGpus() {
  cudaError_t status = cudaSuccess;
  return UsableOf(VisibleGpus(status));
}

std::string WhyNoGpu() {
  cudaError_t status = cudaSuccess;
  const std::vector<GpuInfo> visible = VisibleGpus(status);
  if (status == cudaSuccess) return WhyNoneIsUsable(visible);
  return Format("{} ({})", cudaGetErrorString(status), cudaGetErrorName(status));
}

std::unique_ptr<KernelBackend> MakeCudaBackend(int index) {
  const std::vector<GpuInfo> gpus = UsableGpus();
  if (index < 0 || index >= static_cast<int>(gpus.size())) {
    throw DeviceError(Format("there is no GPU {}: {} can be used", index, gpus.size()));
  }
  return std::make_unique<CudaBackend>(gpus[static_cast<size_t>(index)].ordinal);
}

}  // namespace hearth
