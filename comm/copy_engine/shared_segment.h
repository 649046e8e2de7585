// Host memory that all ranks of a box share and that their GPUs reach.
#pragma once

#include <cstddef>
#include <cstdint>

#include "comm/api/bootstrap.h"

namespace hearth {

// The memory has no name in any file system, so nothing of it is left however its processes end,
// and the size of /dev/shm does not bound it.
class SharedSegment {
 public:
  // Collective over the ranks of `bootstrap`, which are on one host. Zeros. The memory is pinned
  // for the calling thread's GPU. CommError, on every rank, when a rank could not map it.
  SharedSegment(Bootstrap& bootstrap, int64_t bytes);
  // The same for this process alone.
  explicit SharedSegment(int64_t bytes);
  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  int64_t bytes() const { return bytes_; }
  std::byte* host() const { return host_; }
  // Where the GPU has it.
  std::byte* device() const { return device_; }
  // Leaves the memory as it is when the object ends: work on it may still be queued.
  void Abandon() { abandoned_ = true; }

 private:
  // Each returns why it failed, empty when it did not.
  std::string Create(int* descriptor) const;
  std::string Open(const std::string& path, int* descriptor) const;
  std::string Map(int descriptor);

  const int64_t bytes_;
  std::byte* host_ = nullptr;
  std::byte* device_ = nullptr;
  bool registered_ = false;
  bool abandoned_ = false;
};

}  // namespace hearth
