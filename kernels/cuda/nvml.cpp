#include "kernels/cuda/nvml.h"

#include <dlfcn.h>

#include <string_view>
#include <utility>

namespace hearth {

namespace {

// The library's own declarations, as far as they are used here (NVML API reference, 12 and 13).
using Status = int;
constexpr Status kSuccess = 0;
constexpr int kClockOfMultiprocessors = 1;
constexpr int kClockOfMemory = 2;
constexpr int kSensorOfGpu = 0;

struct MemoryInfo {
  unsigned long long total = 0;
  unsigned long long free = 0;
  unsigned long long used = 0;
};

struct Reason {
  unsigned long long bit;
  std::string_view name;
};
// Bit 0 is an idle GPU, which is no throttling.
constexpr Reason kReasons[] = {
    {0x2, "application clocks"}, {0x4, "power cap"},       {0x8, "hardware slowdown"},
    {0x10, "sync boost"},        {0x20, "heat"},           {0x40, "heat, by the hardware"},
    {0x80, "power brake"},       {0x100, "display clocks"}};

std::string DescribeReasons(unsigned long long bits) {
  std::string text;
  for (const Reason& reason : kReasons) {
    if ((bits & reason.bit) == 0) continue;
    if (!text.empty()) text += ", ";
    text += reason.name;
  }
  return text;
}

// Closes with the object.
struct CloseLibrary {
  void operator()(void* library) const { dlclose(library); }
};

template <typename Function>
bool Find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

struct Nvml::Functions {
  std::unique_ptr<void, CloseLibrary> library;
  Status (*init)() = nullptr;
  Status (*shutdown)() = nullptr;
  Status (*handle_by_bus_id)(const char* bus_id, void** gpu) = nullptr;
  // Optional: a library without one of these leaves that field out.
  Status (*clock)(void* gpu, int type, unsigned* mhz) = nullptr;
  Status (*power)(void* gpu, unsigned* milliwatts) = nullptr;
  Status (*temperature)(void* gpu, int sensor, unsigned* celsius) = nullptr;
  Status (*reasons)(void* gpu, unsigned long long* bits) = nullptr;
  Status (*memory)(void* gpu, MemoryInfo* info) = nullptr;
};

std::unique_ptr<Nvml> Nvml::Open(const std::string& pci_bus_id, const char* library) {
  auto functions = std::make_unique<Functions>();
  functions->library.reset(dlopen(library, RTLD_NOW | RTLD_LOCAL));
  void* const loaded = functions->library.get();
  if (loaded == nullptr || !Find(loaded, "nvmlInit_v2", functions->init) ||
      !Find(loaded, "nvmlShutdown", functions->shutdown) ||
      !Find(loaded, "nvmlDeviceGetHandleByPciBusId_v2", functions->handle_by_bus_id)) {
    return nullptr;
  }
  Find(loaded, "nvmlDeviceGetClockInfo", functions->clock);
  Find(loaded, "nvmlDeviceGetPowerUsage", functions->power);
  Find(loaded, "nvmlDeviceGetTemperature", functions->temperature);
  if (!Find(loaded, "nvmlDeviceGetCurrentClocksEventReasons", functions->reasons)) {
    Find(loaded, "nvmlDeviceGetCurrentClocksThrottleReasons", functions->reasons);
  }
  Find(loaded, "nvmlDeviceGetMemoryInfo", functions->memory);
  if (functions->init() != kSuccess) return nullptr;
  void* gpu = nullptr;
  if (functions->handle_by_bus_id(pci_bus_id.c_str(), &gpu) != kSuccess) {
    functions->shutdown();
    return nullptr;
  }
  return std::unique_ptr<Nvml>(new Nvml(std::move(functions), gpu));
}

Nvml::Nvml(std::unique_ptr<Functions> functions, void* gpu)
    : functions_(std::move(functions)), gpu_(gpu) {}

Nvml::~Nvml() { functions_->shutdown(); }

DeviceHealth Nvml::Read() const {
  const Functions& nvml = *functions_;
  DeviceHealth health;
  unsigned value = 0;
  const auto clock = [&](int type) {
    return nvml.clock != nullptr && nvml.clock(gpu_, type, &value) == kSuccess;
  };
  if (clock(kClockOfMultiprocessors)) health.clock_mhz = value;
  if (clock(kClockOfMemory)) health.memory_clock_mhz = value;
  if (nvml.power != nullptr && nvml.power(gpu_, &value) == kSuccess) health.power_w = value / 1e3;
  if (nvml.temperature != nullptr && nvml.temperature(gpu_, kSensorOfGpu, &value) == kSuccess) {
    health.temperature_c = value;
  }
  unsigned long long bits = 0;
  if (nvml.reasons != nullptr && nvml.reasons(gpu_, &bits) == kSuccess) {
    health.throttling = DescribeReasons(bits);
  }
  MemoryInfo memory;
  if (nvml.memory != nullptr && nvml.memory(gpu_, &memory) == kSuccess) {
    health.memory_bytes = static_cast<int64_t>(memory.total);
    health.used_memory_bytes = static_cast<int64_t>(memory.used);
  }
  return health;
}

}  // namespace hearth
