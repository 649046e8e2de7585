// The CPU as a device: heap memory, thread streams, and a pool that shares the work of one op.
#pragma once

#include <atomic>

#include "kernels/core/device.h"
#include "kernels/cpu/cpu_stream.h"
#include "kernels/cpu/thread_pool.h"

namespace hearth {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(int threads) : pool_(threads) {}

  DeviceType kind() const override { return DeviceType::kCpu; }
  std::string name() const override;
  Buffer Allocate(int64_t bytes, MemoryKind kind) override;
  void Seal() override { sealed_ = true; }
  int64_t allocated_bytes(MemoryKind kind) const override;
  std::unique_ptr<Stream> CreateStream(std::string_view name) override;
  std::unique_ptr<Event> CreateEvent() override;
  std::unique_ptr<Event> CreateTimedEvent() override;
  std::unique_ptr<HostSignal> CreateHostSignal() override;
  std::unique_ptr<Graph> Capture(Stream& stream, const std::function<void()>& enqueue) override;

  ThreadPool& pool() { return pool_; }

 private:
  static void FreeDevice(void* data, int64_t bytes, void* context) noexcept;
  static void FreePinned(void* data, int64_t bytes, void* context) noexcept;

  ThreadPool pool_;
  std::atomic<int64_t> device_bytes_{0};
  std::atomic<int64_t> pinned_bytes_{0};
  std::atomic<bool> sealed_{false};
};

}  // namespace hearth
