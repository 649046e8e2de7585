#include "launcher/device_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "kernels/core/error.h"
#include "runtime/train/device_support.h"

namespace hearth {

DeviceKind ReadDeviceKind(std::string_view word) {
  for (DeviceKind device : {DeviceKind::kAuto, DeviceKind::kCpu, DeviceKind::kCuda}) {
    if (EnumName(device) == word) return device;
  }
  throw ConfigError(
      fmt::format("command line: error: --device '{}'; write auto, cuda or cpu", word));
}

bool UsesGpus(DeviceKind device) {
  return device == DeviceKind::kCuda || (device == DeviceKind::kAuto && CudaDeviceCount() > 0);
}

int DefaultRanksPerHost(DeviceKind device) {
  return UsesGpus(device) ? std::max(1, CudaDeviceCount()) : 1;
}

std::string DeviceName(DeviceKind device) {
  if (!UsesGpus(device)) return "CPU";
  const std::vector<GpuInfo> gpus = UsableGpus();
  return gpus.empty() ? "" : gpus.front().name;
}

void RequireDevice(const ResolvedConfig& resolved) {
  if (!UsesGpus(resolved.config.device)) return;
  const std::vector<GpuInfo> gpus = UsableGpus();
  if (gpus.empty()) {
    resolved.Fail("device", fmt::format("no GPU can be used on this host: {}; make one visible, or "
                                        "use device: cpu",
                                        WhyNoGpu()));
  }
  RequireFp8(resolved, gpus.front());
}

void PrepareForGpus() {
  // A kernel that is loaded at its first launch waits for the whole GPU, which may be waiting for
  // the host.
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  // Streams that share a connection wait for each other's waits.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  // NVLink multicast is of the whole box: others may be at work on it.
  setenv("NCCL_NVLS_ENABLE", "0", 0);
}

std::unique_ptr<KernelBackend> MakeRankBackend(const RankDevice& choice) {
  if (!UsesGpus(choice.device)) return MakeBackend("cpu", {.threads = choice.threads});
  const int gpus = CudaDeviceCount();
  if (gpus == 0) {
    throw DeviceError(
        fmt::format("device: cuda: no GPU can be used here: {}; nvidia-smi shows what the driver "
                    "sees; `device: cpu` computes without one",
                    WhyNoGpu()));
  }
  try {
    return MakeBackend("cuda",
                       {.threads = choice.threads, .device_ordinal = choice.local_rank % gpus});
  } catch (const DeviceError& error) {
    throw DeviceError(fmt::format("GPU {} cannot be used: {}; `device: cpu` computes without one",
                                  choice.local_rank % gpus, error.what()));
  }
}

}  // namespace hearth
