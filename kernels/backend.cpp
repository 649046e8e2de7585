#include "kernels/backend.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_factory.h"

namespace hearth {

std::unique_ptr<KernelBackend> MakeBackend(std::string_view kind, const BackendOptions& options) {
  if (kind == "cpu") return std::make_unique<CpuBackend>(options.threads);
  if (kind == "cuda" && HasCuda()) return MakeCudaBackend(options.device_ordinal);
  std::string available;
  for (const std::string& name : AvailableBackends()) {
    available += (available.empty() ? "" : ", ") + name;
  }
  throw ConfigError(Format("this build has no backend '{}'; choose one of: {}", kind, available));
}

int CudaDeviceCount() { return static_cast<int>(UsableGpus().size()); }

std::vector<std::string> AvailableBackends() {
  if (HasCuda()) return {"cpu", "cuda"};
  return {"cpu"};
}

}  // namespace hearth
