#include "kernels/core/error.h"
#include "kernels/cuda/cuda_factory.h"

namespace hearth {

bool HasCuda() { return false; }

std::vector<GpuInfo> UsableGpus() { return {}; }

std::string WhyNoGpu() { return "this build has no CUDA code"; }

std::unique_ptr<KernelBackend> MakeCudaBackend(int) { throw DeviceError(WhyNoGpu()); }

}  // namespace hearth
