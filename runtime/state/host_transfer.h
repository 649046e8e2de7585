// Copies between tensors of any tier and ordinary host memory, in between steps.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <span>

#include "kernels/api/kernel_backend.h"
#include "runtime/state/stores.h"

namespace hearth {

// Device memory is reached through two pinned pieces of the plan's, in turns: one is copied by a
// stream while the host fills or empties the other. Nothing is allocated. Both calls block, and
// everything enqueued on other streams that touches the tensor must have finished. Used by one
// thread at a time.
class HostTransfer {
 public:
  // The streams do nothing else meanwhile. `backend`, `memory` and they must outlive this.
  HostTransfer(KernelBackend& backend, const RankMemory& memory, std::array<Stream*, 2> streams,
               std::chrono::milliseconds timeout)
      : backend_(backend), memory_(memory), streams_(streams), timeout_(timeout) {}

  // `destination` holds as many bytes as `source`. Where it lies in the pinned slab the copy goes
  // there directly. DeviceError after the timeout of one piece.
  void Download(const TensorView& source, void* destination) const;
  void Upload(const void* source, const TensorView& destination) const;

  // Writes bytes [begin, begin + out) of a tensor into `out`, all of them; called by the thread
  // that fills. `begin` is a multiple of kPieceAlignment, and `out` lies in pinned memory.
  using Filler = std::function<void(int64_t begin, std::span<std::byte> out)>;
  static constexpr int64_t kPieceAlignment = 4096;
  // Upload without its source: of a tensor in the pinned slab in one call of `fill`, there; else
  // piece by piece, one of which is copied while the next is filled. What `fill` throws is thrown
  // here, and the tensor then has any content.
  void Fill(const TensorView& destination, const Filler& fill) const;
  // Whether the bytes lie in the pinned slab: then the host may as well touch them itself.
  bool IsPinned(const void* data, int64_t bytes) const;

 private:
  TensorView Piece(int64_t index, int64_t bytes) const;

  KernelBackend& backend_;
  const RankMemory& memory_;
  const std::array<Stream*, 2> streams_;
  const std::chrono::milliseconds timeout_;
};

}  // namespace hearth
