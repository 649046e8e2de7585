#include "comm/copy_engine/peer_slabs.h"

#include <cuda_runtime_api.h>

#include <cstring>

#include "comm/api/gather_texts.h"
#include "kernels/core/check.h"
#include "kernels/cuda/cuda_native.h"

namespace hearth {

namespace {

// What a rank tells the others of its slab.
struct Export {
  cudaIpcMemHandle_t handle{};
  int64_t offset = 0;  // of the slab in its allocation, which is what can be mapped
  int64_t bytes = 0;
  int32_t exported = 0;
};

Export Describe(const TensorView& slab) {
  const DeviceAllocation allocation = AllocationOf(slab.data());
  Export mine;
  mine.offset = static_cast<std::byte*>(slab.data()) - static_cast<std::byte*>(allocation.base);
  mine.bytes = slab.bytes();
  mine.exported = cudaIpcGetMemHandle(&mine.handle, allocation.base) == cudaSuccess ? 1 : 0;
  cudaGetLastError();  // that it cannot be had is an answer, not an error of what follows
  return mine;
}

Bytes ToBytes(const void* data, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  return {bytes, bytes + size};
}

}  // namespace

PeerSlabs::PeerSlabs(Bootstrap& bootstrap, const TensorView& slab)
    : slabs_(static_cast<size_t>(bootstrap.world())) {
  const Export mine = Describe(slab);
  const std::vector<Bytes> all = bootstrap.AllGather(ToBytes(&mine, sizeof(mine)));
  for (int rank = 0; rank < bootstrap.world(); ++rank) {
    const Bytes& bytes = all[static_cast<size_t>(rank)];
    Export theirs;
    CHECK(bytes.size() == sizeof(theirs), "rank {} runs another program", rank);
    std::memcpy(&theirs, bytes.data(), sizeof(theirs));
    CHECK(theirs.bytes == slab.bytes(), "the exchange slab has {} bytes on rank {}, {} on rank {}",
          theirs.bytes, rank, slab.bytes(), bootstrap.rank());
    if (rank == bootstrap.rank()) {
      slabs_[static_cast<size_t>(rank)] = static_cast<std::byte*>(slab.data());
      continue;
    }
    void* base = nullptr;
    cudaError_t status = cudaErrorNotSupported;
    if (theirs.exported != 0) {
      status = cudaIpcOpenMemHandle(&base, theirs.handle, cudaIpcMemLazyEnablePeerAccess);
    }
    if (status != cudaSuccess) {
      cudaGetLastError();
      why_not_ = Format("rank {} cannot map the memory of rank {}: {}", bootstrap.rank(), rank,
                        cudaGetErrorString(status));
      break;
    }
    mapped_.push_back(base);
    slabs_[static_cast<size_t>(rank)] = static_cast<std::byte*>(base) + theirs.offset;
  }
  why_not_ = GatherFirstText(bootstrap, why_not_);
  if (!why_not_.empty()) Close();
}

PeerSlabs::~PeerSlabs() { Close(); }

void PeerSlabs::Close() noexcept {
  for (void* base : mapped_) cudaIpcCloseMemHandle(base);
  mapped_.clear();
}

}  // namespace hearth
