// What the conformance cases of communicators share.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicators.h"
#include "tests/support/communicator_conformance.h"

namespace hearth::test {

constexpr std::chrono::milliseconds kRigTimeout{60'000};

// The ways in which a communicator moves bytes: in one piece or many, direct or staged.
const std::vector<CommunicatorOptions>& Modes();

// Slabs up to this size begin as TestByte(rank, i), so that a stray write shows.
constexpr int64_t kFilledBytes = int64_t{1} << 20;

// One rank's communicator with a slab and a stream.
class CommunicatorRig {
 public:
  CommunicatorRig(const ConformanceRank& rank, const CommunicatorOptions& options,
                  int64_t slab_bytes);

  int rank() const { return communicator_->rank(); }
  int world() const { return communicator_->world(); }
  Communicator& communicator() { return *communicator_; }
  Stream& stream() { return *stream_; }
  void Finish() { stream_->Synchronize(kRigTimeout); }
  // Ends the communicator while the stream lives on.
  void DestroyCommunicator() { communicator_.reset(); }

  std::byte* slab() const { return slab_.data(); }
  template <typename T>
  T* slab_as(int64_t offset_bytes = 0) const {
    return reinterpret_cast<T*>(slab_.data() + offset_bytes);
  }

 private:
  Buffer slab_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Communicator> communicator_;
};

// Element `index` of what a rank contributes: both signs, thirteen octaves, so that the order of a
// sum shows in its bits.
float TestValue(int rank, int64_t index);
int64_t TestInteger(int rank, int64_t index);
std::byte TestByte(int rank, int64_t index);

// `parts` ranges with gaps of `unit` bytes between them; sizes are multiples of `unit`, uneven,
// some empty, and change with `variant`.
std::vector<SlabRange> UnevenRanges(int parts, int64_t unit, int variant);
// The end of the last range, with a gap behind it.
int64_t SlabBytesFor(const std::vector<SlabRange>& ranges, int64_t unit);

}  // namespace hearth::test
