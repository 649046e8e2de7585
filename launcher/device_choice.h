// Which device a process computes on, and how many there are.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "kernels/backend.h"
#include "runtime/config/resolved_config.h"

namespace hearth {

// Of a word on the command line; ConfigError for another.
DeviceKind ReadDeviceKind(std::string_view word);

// True when `device` means the GPUs of this machine: auto does where there is one.
bool UsesGpus(DeviceKind device);

// Ranks of this host when nobody says how many: one per GPU, 1 on the CPU.
int DefaultRanksPerHost(DeviceKind device);

// Device::name() of the device that a rank would compute on; "" where there is none.
std::string DeviceName(DeviceKind device);

// Refuses a run that asks for a GPU on a host without one, or for FP8 where the first one has none.
// ConfigError.
void RequireDevice(const ResolvedConfig& resolved);

// Settings that the GPU's driver reads once, before anything asks for a GPU and before there are
// threads; what the user has set stays.
void PrepareForGpus();

struct RankDevice {
  DeviceKind device = DeviceKind::kAuto;
  int local_rank = 0;  // ranks of a host take its GPUs in turn
  int threads = 1;     // of the CPU
};
// DeviceError, with what to do, when a GPU is asked for or found that cannot be used.
std::unique_ptr<KernelBackend> MakeRankBackend(const RankDevice& choice);

}  // namespace hearth
