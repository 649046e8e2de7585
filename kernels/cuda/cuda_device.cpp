#include "kernels/cuda/cuda_device.h"

#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <algorithm>
#include <thread>

#include "kernels/core/check.h"
#include "kernels/core/parts.h"
#include "kernels/cuda/cuda_native.h"
#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/nvml.h"

namespace hearth {

namespace {

constexpr int64_t kPageBytes = 4096;
constexpr int64_t kHugePageThreshold = int64_t{8} << 20;
constexpr int kBusIdBytes = 64;
constexpr unsigned kMostTouchingThreads = 16;

int64_t MappedBytes(int64_t bytes) { return RoundUp(bytes == 0 ? 1 : bytes, kPageBytes); }

int Attribute(cudaDeviceAttr attribute, int ordinal) {
  int value = 0;
  CheckCuda(cudaDeviceGetAttribute(&value, attribute, ordinal), "asking for the GPU's properties");
  return value;
}

}  // namespace

std::string IdentityOf(const cudaDeviceProp& properties) {
  return GpuIdentity(properties.uuid.bytes);
}

CudaDevice::CudaDevice(int ordinal) : ordinal_(ordinal) {
  int count = 0;
  CheckCuda(cudaGetDeviceCount(&count), "looking for GPUs");
  if (ordinal < 0 || ordinal >= count) {
    throw DeviceError(Format("there is no GPU {}: {} visible", ordinal, count));
  }
  // Neither of these takes memory of the GPU yet.
  char bus_id[kBusIdBytes] = {};
  CheckCuda(cudaDeviceGetPCIBusId(bus_id, kBusIdBytes, ordinal), "asking for the GPU's place");
  bus_id_ = bus_id;
  nvml_ = Nvml::Open(bus_id_);
  if (nvml_) used_before_ = nvml_->Read().used_memory_bytes.value_or(0);
  CheckCuda(cudaSetDevice(ordinal), "opening the GPU");
  cudaDeviceProp properties{};
  CheckCuda(cudaGetDeviceProperties(&properties, ordinal), "asking for the GPU's properties");
  name_ = properties.name;
  identity_ = IdentityOf(properties);
  multiprocessors_ = properties.multiProcessorCount;
  compute_capability_ = 10 * properties.major + properties.minor;
  if (compute_capability_ < kOldestCapability) {
    throw DeviceError(WhyNoneIsUsable({{name_, compute_capability_, ordinal}}));
  }
  if (Attribute(cudaDevAttrCanMapHostMemory, ordinal) == 0 ||
      Attribute(cudaDevAttrUnifiedAddressing, ordinal) == 0) {
    throw DeviceError(Format("{} cannot address pinned host memory", name_));
  }
}

CudaDevice::~CudaDevice() = default;

std::optional<DeviceHealth> CudaDevice::Health() const {
  if (!nvml_) return std::nullopt;
  return nvml_->Read();
}

std::optional<DeviceMemory> CudaDevice::Memory() const {
  MakeCurrent();
  size_t free = 0, total = 0;
  CheckCuda(cudaMemGetInfo(&free, &total), "asking for the GPU's memory");
  DeviceMemory memory{.place = bus_id_,
                      .total_bytes = static_cast<int64_t>(total),
                      .free_bytes = static_cast<int64_t>(free)};
  // Without the management library everything counts as this process's.
  int64_t used = memory.total_bytes - memory.free_bytes;
  if (const auto health = Health(); health && health->used_memory_bytes) {
    used = *health->used_memory_bytes - used_before_;
  }
  memory.own_bytes = std::max(used, device_bytes_.load());
  return memory;
}

void CudaDevice::MakeCurrent() const { CheckCuda(cudaSetDevice(ordinal_), "selecting the GPU"); }

Buffer CudaDevice::Allocate(int64_t bytes, MemoryKind kind) {
  CHECK(bytes >= 0, "allocation of {} bytes", bytes);
  if (sealed_) throw DeviceError(Format("allocation of {} bytes after the warm-up", bytes));
  MakeCurrent();
  if (kind == MemoryKind::kDevice) {
    // The driver aligns to 512 bytes only.
    void* block = nullptr;
    const cudaError_t status = cudaMalloc(&block, static_cast<size_t>(bytes + kPageBytes));
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // not sticky; leaves nothing for the next check to find
      throw DeviceError(Format("{}: out of memory: {} bytes were refused", name_, bytes));
    }
    CheckCuda(status, "allocating device memory");
    void* data = reinterpret_cast<void*>(
        RoundUp(static_cast<int64_t>(reinterpret_cast<intptr_t>(block)), kPageBytes));
    {
      std::lock_guard lock(mutex_);
      device_blocks_[data] = block;
    }
    device_bytes_ += bytes;
    return {data, bytes, &FreeDevice, this};
  }
  // Mapped and then registered: exactly the pages asked for, where the driver's own allocator may
  // round up, and huge ones where they help.
  const auto mapped = static_cast<size_t>(MappedBytes(bytes));
  void* data = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    throw DeviceError(Format("out of memory: {} bytes were refused by the system", bytes));
  }
  if (MappedBytes(bytes) >= kHugePageThreshold) madvise(data, mapped, MADV_HUGEPAGE);
  // The system makes each page at its first use; registering would use them one after the other.
  const unsigned threads =
      std::clamp(std::thread::hardware_concurrency(), 1u, kMostTouchingThreads);
  ZeroBytes(data, static_cast<int64_t>(mapped), static_cast<int>(threads));
  const cudaError_t status =
      cudaHostRegister(data, mapped, cudaHostRegisterPortable | cudaHostRegisterMapped);
  if (status != cudaSuccess) {
    munmap(data, mapped);
    cudaGetLastError();
    throw DeviceError(
        Format("{} bytes of host memory could not be pinned ({}); lower "
               "memory.host_budget, or raise the limit of locked memory (ulimit -l)",
               bytes, cudaGetErrorName(status)));
  }
  pinned_bytes_ += bytes;
  return {data, bytes, &FreePinned, this};
}

void CudaDevice::FreeDevice(void* data, int64_t bytes, void* context) noexcept {
  auto* device = static_cast<CudaDevice*>(context);
  std::lock_guard lock(device->mutex_);
  const auto block = device->device_blocks_.find(data);
  if (block != device->device_blocks_.end()) {
    cudaFree(block->second);
    device->device_blocks_.erase(block);
  }
  device->device_bytes_ -= bytes;
}

void CudaDevice::FreePinned(void* data, int64_t bytes, void* context) noexcept {
  cudaHostUnregister(data);
  munmap(data, static_cast<size_t>(MappedBytes(bytes)));
  static_cast<CudaDevice*>(context)->pinned_bytes_ -= bytes;
}

int64_t CudaDevice::allocated_bytes(MemoryKind kind) const {
  return kind == MemoryKind::kDevice ? device_bytes_ : pinned_bytes_;
}

std::unique_ptr<Stream> CudaDevice::CreateStream(std::string_view name) {
  return std::make_unique<CudaStream>(*this, name);
}

std::unique_ptr<Event> CudaDevice::CreateEvent() {
  return std::make_unique<CudaEvent>(*this, /*timed=*/false);
}

std::unique_ptr<Event> CudaDevice::CreateTimedEvent() {
  return std::make_unique<CudaEvent>(*this, /*timed=*/true);
}

std::unique_ptr<HostSignal> CudaDevice::CreateHostSignal() {
  return std::make_unique<CudaHostSignal>(*this);
}

std::unique_ptr<Graph> CudaDevice::Capture(Stream& stream, const std::function<void()>& enqueue) {
  auto* cuda = dynamic_cast<CudaStream*>(&stream);
  CHECK(cuda != nullptr, "stream {} is not one of a CUDA device", stream.name());
  CHECK(!cuda->capturing_, "stream {} is already being captured", stream.name());
  MakeCurrent();
  CheckCuda(cudaStreamBeginCapture(cuda->stream_, cudaStreamCaptureModeThreadLocal),
            "starting a capture");
  cuda->capturing_ = true;
  cudaGraph_t graph = nullptr;
  try {
    enqueue();
  } catch (...) {
    cuda->capturing_ = false;
    cudaStreamEndCapture(cuda->stream_, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  cuda->capturing_ = false;
  CheckCuda(cudaStreamEndCapture(cuda->stream_, &graph), "ending a capture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  CheckCuda(status, "instantiating a graph");
  return std::make_unique<CudaGraph>(executable);
}

}  // namespace hearth
