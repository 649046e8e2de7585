// One NVIDIA GPU as a Device.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "kernels/core/device.h"

namespace hearth {

class Nvml;

class CudaDevice final : public Device {
 public:
  // DeviceError when there is no such GPU, its driver is too old, or it is older than compute
  // capability 8.0.
  explicit CudaDevice(int ordinal);
  ~CudaDevice() override;

  DeviceType kind() const override { return DeviceType::kCuda; }
  std::string name() const override { return name_; }
  std::optional<GpuInfo> gpu() const override {
    return GpuInfo{name_, compute_capability_, ordinal_, identity_};
  }
  std::optional<DeviceHealth> Health() const override;
  std::optional<DeviceMemory> Memory() const override;
  Buffer Allocate(int64_t bytes, MemoryKind kind) override;
  void Seal() override { sealed_ = true; }
  int64_t allocated_bytes(MemoryKind kind) const override;
  std::unique_ptr<Stream> CreateStream(std::string_view name) override;
  std::unique_ptr<Event> CreateEvent() override;
  std::unique_ptr<Event> CreateTimedEvent() override;
  std::unique_ptr<HostSignal> CreateHostSignal() override;
  std::unique_ptr<Graph> Capture(Stream& stream, const std::function<void()>& enqueue) override;

  int ordinal() const { return ordinal_; }
  int multiprocessors() const { return multiprocessors_; }
  // 10 * major + minor: 80, 86, 89, 90, 120.
  int compute_capability() const { return compute_capability_; }
  // Makes this GPU the calling thread's; every thread that allocates or launches needs it once.
  void MakeCurrent() const;

 private:
  static void FreeDevice(void* data, int64_t bytes, void* context) noexcept;
  static void FreePinned(void* data, int64_t bytes, void* context) noexcept;

  int ordinal_ = 0;
  int multiprocessors_ = 0;
  int compute_capability_ = 0;
  std::string name_;
  std::string identity_;
  std::string bus_id_;
  std::unique_ptr<const Nvml> nvml_;  // null where it has nothing to tell
  int64_t used_before_ = 0;           // bytes of the GPU, before this process had any
  std::mutex mutex_;
  std::unordered_map<void*, void*> device_blocks_;  // aligned address -> what the driver gave
  std::atomic<int64_t> device_bytes_{0};
  std::atomic<int64_t> pinned_bytes_{0};
  std::atomic<bool> sealed_{false};
};

}  // namespace hearth
