#include "comm/copy_engine/shared_segment.h"

#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "kernels/core/check.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

std::string ErrorOf(std::string_view call) { return Format("{}: {}", call, std::strerror(errno)); }

// The first rank's reason why it cannot go on, the same on every rank.
void FailTogether(Bootstrap& bootstrap, const std::string& mine) {
  const std::vector<Bytes> all = bootstrap.AllGather(ToBytes(mine));
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].empty()) continue;
    throw CommError(
        Format("rank {}: the ranks of a host cannot share memory: {}", rank, ToText(all[rank])));
  }
}

}  // namespace

SharedSegment::SharedSegment(Bootstrap& bootstrap, int64_t bytes) : bytes_(bytes) {
  int descriptor = -1;
  std::string path;
  std::string error;
  if (bootstrap.rank() == 0) {
    error = Create(&descriptor);
    path = Format("/proc/{}/fd/{}", getpid(), descriptor);
  }
  path = ToText(bootstrap.Broadcast(ToBytes(path), 0));
  if (bootstrap.rank() != 0) error = Open(path, &descriptor);
  if (error.empty()) error = Map(descriptor);
  try {
    FailTogether(bootstrap, error);  // rank 0 keeps its descriptor until everybody has come here
  } catch (...) {
    if (descriptor >= 0) close(descriptor);
    throw;
  }
  close(descriptor);
}

SharedSegment::SharedSegment(int64_t bytes) : bytes_(bytes) {
  int descriptor = -1;
  std::string error = Create(&descriptor);
  if (error.empty()) error = Map(descriptor);
  if (descriptor >= 0) close(descriptor);
  if (!error.empty()) throw CommError(Format("no memory for flags: {}", error));
}

SharedSegment::~SharedSegment() {
  if (host_ == nullptr || abandoned_) return;
  if (registered_) cudaHostUnregister(host_);
  munmap(host_, static_cast<size_t>(bytes_));
}

std::string SharedSegment::Create(int* descriptor) const {
  *descriptor = memfd_create("hearth-exchange", MFD_CLOEXEC);
  if (*descriptor < 0) return ErrorOf("memfd_create");
  // Now, so that too little memory is an error here and no signal later.
  const int status = posix_fallocate(*descriptor, 0, bytes_);
  if (status == 0) return "";
  return Format("{} bytes were refused: {}", bytes_, std::strerror(status));
}

std::string SharedSegment::Open(const std::string& path, int* descriptor) const {
  *descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (*descriptor >= 0) return "";
  return Format("{} (the ranks must run as one user and see each other's processes)",
                ErrorOf(path));
}

std::string SharedSegment::Map(int descriptor) {
  const auto size = static_cast<size_t>(bytes_);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) return ErrorOf("mmap");
  host_ = static_cast<std::byte*>(memory);
  cudaError_t status =
      cudaHostRegister(host_, size, cudaHostRegisterPortable | cudaHostRegisterMapped);
  registered_ = status == cudaSuccess;
  void* device = nullptr;
  if (registered_) status = cudaHostGetDevicePointer(&device, host_, 0);
  if (status != cudaSuccess) {
    cudaGetLastError();
    return Format("{} bytes could not be pinned ({}); raise the limit of locked memory (ulimit -l)",
                  bytes_, cudaGetErrorName(status));
  }
  device_ = static_cast<std::byte*>(device);
  return "";
}

}  // namespace hearth
