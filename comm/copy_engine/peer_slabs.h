// The exchange slabs of the other ranks of a box, mapped into this process.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "comm/api/bootstrap.h"
#include "kernels/core/tensor_view.h"

namespace hearth {

class PeerSlabs {
 public:
  // Collective over the ranks of `bootstrap`, each with its own slab of one size, a part of an
  // allocation of device memory. The calling thread's GPU reads the mapped memory.
  PeerSlabs(Bootstrap& bootstrap, const TensorView& slab);
  // What was enqueued on the mapped memory must have ended.
  ~PeerSlabs();
  PeerSlabs(const PeerSlabs&) = delete;
  PeerSlabs& operator=(const PeerSlabs&) = delete;

  // Why some rank could not map another's slab, the same on every rank; empty: all are mapped.
  const std::string& why_not() const { return why_not_; }
  // Rank's slab at the address that this process has for it.
  std::byte* slab(int rank) const { return slabs_[static_cast<size_t>(rank)]; }

 private:
  void Close() noexcept;

  std::string why_not_;
  std::vector<std::byte*> slabs_;
  std::vector<void*> mapped_;  // to be closed
};

}  // namespace hearth
