// What the conformance cases of communicators share.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "comm/communicators.h"
#include "tests/support/communicator_conformance.h"

namespace hearth::test {

constexpr std::chrono::milliseconds kRigTimeout{60'000};

// The ways in which a communicator of that kind moves bytes: in one piece or many, direct or
// staged.
std::vector<CommunicatorOptions> Modes(std::string_view kind);

// Slabs up to this size begin as TestByte(rank, i), so that a stray write shows.
constexpr int64_t kFilledBytes = int64_t{1} << 20;

// Device memory that the host of a test writes and reads, by way of pinned memory where it must.
class TestMemory {
 public:
  TestMemory(KernelBackend& backend, int64_t bytes);

  // For the host.
  std::byte* host() const { return mirror_.bytes() > 0 ? mirror_.data() : device_.data(); }
  // For views.
  std::byte* device() const { return device_.data(); }
  int64_t bytes() const { return device_.bytes(); }
  // What the host wrote goes to the device, or the other way round, as work of the stream.
  void Upload(Stream& stream) const;
  void Download(Stream& stream) const;

 private:
  KernelBackend& backend_;
  Buffer device_;
  Buffer mirror_;  // empty where the host reaches the device's memory
};

// One rank's communicator with a slab and a stream.
class CommunicatorRig {
 public:
  CommunicatorRig(const ConformanceRank& rank, const CommunicatorOptions& options,
                  int64_t slab_bytes);

  int rank() const { return communicator_->rank(); }
  int world() const { return communicator_->world(); }
  // Begins anew: the slab's content is what it was at first.
  void Refill();
  // The first call, or the first after Refill, brings what the host wrote to the device.
  Communicator& communicator();
  Stream& stream() { return *stream_; }
  // Waits for the stream and brings the slab to the host.
  void Finish();
  // Ends the communicator while the stream lives on.
  void DestroyCommunicator() { communicator_.reset(); }

  // For the host.
  std::byte* slab() const { return slab_.host(); }
  template <typename T>
  T* slab_as(int64_t offset_bytes = 0) const {
    return reinterpret_cast<T*>(slab() + offset_bytes);
  }
  // For views.
  std::byte* device_slab() const { return slab_.device(); }

 private:
  TestMemory slab_;
  bool uploaded_ = false;
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
