// NVIDIA's management library (libnvidia-ml), which comes with the driver and is loaded at run
// time: clocks, power, temperature.
#pragma once

#include <memory>
#include <string>

#include "kernels/core/device_health.h"

namespace hearth {

// One GPU of the library.
class Nvml {
 public:
  // The GPU at this place of the bus, "0000:18:00.0" (cudaDeviceGetPCIBusId). Null where there is
  // no such library or GPU: then there is nothing to tell.
  static std::unique_ptr<Nvml> Open(const std::string& pci_bus_id,
                                    const char* library = "libnvidia-ml.so.1");
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  // Any thread.
  DeviceHealth Read() const;

 private:
  struct Functions;
  Nvml(std::unique_ptr<Functions> functions, void* gpu);

  const std::unique_ptr<Functions> functions_;
  void* const gpu_;
};

}  // namespace hearth
