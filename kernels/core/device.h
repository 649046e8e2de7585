// A device: its memory, its streams.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/core/buffer.h"
#include "kernels/core/device_health.h"
#include "kernels/core/gpu_info.h"
#include "kernels/core/stream.h"

namespace hearth {

enum class DeviceType : uint8_t { kCpu, kCuda };

// A device's memory as this process sees it.
struct DeviceMemory {
  std::string place;        // tells the devices of a host apart
  int64_t total_bytes = 0;  // of the device
  int64_t free_bytes = 0;   // of it now, for whoever asks first
  // What this process has of it: allocations, and whatever its driver and libraries hold. Where
  // others begin or end on the same device meanwhile, they are in it too.
  int64_t own_bytes = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceType kind() const = 0;
  // For people: "CPU (2 threads)", "NVIDIA H200".
  virtual std::string name() const = 0;

  // What it is where it is a GPU.
  virtual std::optional<GpuInfo> gpu() const { return std::nullopt; }

  // Asks the device's management interface, which takes up to milliseconds and disturbs no work;
  // nothing where there is none. Any thread may call it.
  virtual std::optional<DeviceHealth> Health() const { return std::nullopt; }

  // Nothing where the device computes in the host's memory.
  virtual std::optional<DeviceMemory> Memory() const { return std::nullopt; }

  // Memory aligned to 4096 bytes: pinned memory is zeros, device memory has unspecified content.
  // The device must outlive the buffer. DeviceError when there is not enough, or after Seal().
  virtual Buffer Allocate(int64_t bytes, MemoryKind kind) = 0;
  // From here on an allocation is an error: everything is allocated before step 0.
  virtual void Seal() = 0;
  // Bytes handed out and not yet freed.
  virtual int64_t allocated_bytes(MemoryKind kind) const = 0;

  virtual std::unique_ptr<Stream> CreateStream(std::string_view name) = 0;
  virtual std::unique_ptr<Event> CreateEvent() = 0;
  // One that keeps when it was reached, which costs the device more than one that only orders.
  virtual std::unique_ptr<Event> CreateTimedEvent() = 0;
  virtual std::unique_ptr<HostSignal> CreateHostSignal() = 0;

  // Records the work that `enqueue` puts on `stream` without running it. Waits on signals, and
  // anything of another stream, may not be captured.
  virtual std::unique_ptr<Graph> Capture(Stream& stream, const std::function<void()>& enqueue) = 0;
};

}  // namespace hearth
