#include "kernels/cpu/cpu_device.h"

#include <sys/mman.h>

#include <cstring>

#include "kernels/core/check.h"

namespace hearth {

namespace {

constexpr int64_t kPageBytes = 4096;
// Below this size huge pages gain nothing and cost up to 2 MiB of slack.
constexpr int64_t kHugePageThreshold = int64_t{8} << 20;

class CpuGraph final : public Graph {
 public:
  explicit CpuGraph(std::vector<std::function<void()>> work) : work_(std::move(work)) {}
  void Launch(Stream& stream) override {
    auto& cpu_stream = dynamic_cast<CpuStream&>(stream);
    for (const auto& item : work_) cpu_stream.Enqueue(item);
  }

 private:
  const std::vector<std::function<void()>> work_;
};

}  // namespace

std::string CpuDevice::name() const {
  return Format("CPU ({} thread{})", pool_.threads(), pool_.threads() == 1 ? "" : "s");
}

Buffer CpuDevice::Allocate(int64_t bytes, MemoryKind kind) {
  CHECK(bytes >= 0, "allocation of {} bytes", bytes);
  if (sealed_) throw DeviceError(Format("allocation of {} bytes after the warm-up", bytes));
  const int64_t mapped = RoundUp(bytes == 0 ? 1 : bytes, kPageBytes);
  void* data = mmap(nullptr, static_cast<size_t>(mapped), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    throw DeviceError(Format("out of memory: {} bytes were refused by the system", bytes));
  }
  if (mapped >= kHugePageThreshold) madvise(data, static_cast<size_t>(mapped), MADV_HUGEPAGE);
  const bool device = kind == MemoryKind::kDevice;
  (device ? device_bytes_ : pinned_bytes_) += bytes;
  return {data, bytes, device ? &FreeDevice : &FreePinned, this};
}

void CpuDevice::FreeDevice(void* data, int64_t bytes, void* context) noexcept {
  munmap(data, static_cast<size_t>(RoundUp(bytes == 0 ? 1 : bytes, kPageBytes)));
  static_cast<CpuDevice*>(context)->device_bytes_ -= bytes;
}

void CpuDevice::FreePinned(void* data, int64_t bytes, void* context) noexcept {
  munmap(data, static_cast<size_t>(RoundUp(bytes == 0 ? 1 : bytes, kPageBytes)));
  static_cast<CpuDevice*>(context)->pinned_bytes_ -= bytes;
}

int64_t CpuDevice::allocated_bytes(MemoryKind kind) const {
  return kind == MemoryKind::kDevice ? device_bytes_ : pinned_bytes_;
}

std::unique_ptr<Stream> CpuDevice::CreateStream(std::string_view name) {
  return std::make_unique<CpuStream>(name);
}

std::unique_ptr<Event> CpuDevice::CreateEvent() { return std::make_unique<CpuEvent>(); }

std::unique_ptr<Event> CpuDevice::CreateTimedEvent() {
  return std::make_unique<CpuEvent>(/*timed=*/true);
}

std::unique_ptr<HostSignal> CpuDevice::CreateHostSignal() {
  return std::make_unique<CpuHostSignal>();
}

std::unique_ptr<Graph> CpuDevice::Capture(Stream& stream, const std::function<void()>& enqueue) {
  auto& cpu_stream = dynamic_cast<CpuStream&>(stream);
  CHECK(cpu_stream.captured_ == nullptr, "stream {} is already being captured", stream.name());
  std::vector<std::function<void()>> work;
  cpu_stream.captured_ = &work;
  try {
    enqueue();
  } catch (...) {
    cpu_stream.captured_ = nullptr;
    throw;
  }
  cpu_stream.captured_ = nullptr;
  return std::make_unique<CpuGraph>(std::move(work));
}

}  // namespace hearth
