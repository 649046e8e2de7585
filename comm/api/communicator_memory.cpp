#include "comm/api/communicator_memory.h"

#include <algorithm>

#include "kernels/core/check.h"

namespace hearth {

namespace {

// Pieces that a half of the landing memory, or a slot, holds at least.
constexpr int64_t kPiecesFromPeers = 32;
constexpr int64_t kPiecesThroughHost = 4;

CommunicatorMemory StagedMemory(const CommunicatorShape& shape) {
  const int64_t slots = shape.world * shape.piece_bytes;
  return {.device_bytes = shape.stage ? slots : 0,
          .pinned_bytes = (shape.stage ? 2 : 1) * kStagedTurns * slots};
}

// With flags among the ranks of a host.
CommunicatorMemory FlaggedMemory(const CommunicatorShape& shape) {
  const bool through_host = shape.kind == "copy_engine" && shape.through_host;
  const int64_t slot = ExchangeSlotBytes(through_host, shape.world, shape.piece_bytes);
  CommunicatorMemory memory{.device_bytes = kLandingHalves * shape.world *
                                            ExchangeShareBytes(slot, shape.world)};
  if (shape.one_host) {
    memory.shared_bytes = BoardBytes(shape.world);
  } else {
    memory.pinned_bytes = BoardBytes(1);  // each rank has a board of its own then
  }
  if (through_host) memory.shared_bytes += shape.world * kExchangeSlots * slot;
  return memory;
}

}  // namespace

CommunicatorMemory& CommunicatorMemory::operator+=(const CommunicatorMemory& other) {
  device_bytes += other.device_bytes;
  pinned_bytes += other.pinned_bytes;
  shared_bytes += other.shared_bytes;
  return *this;
}

int64_t CommunicatorMemory::HostBytes(int ranks_per_host) const {
  return pinned_bytes + DivUp(shared_bytes, ranks_per_host);
}

CommunicatorMemory MemoryOf(const CommunicatorShape& shape) {
  if (shape.world == 1) return {};
  const bool has_flags = shape.kind == "copy_engine" || shape.kind == "nccl";
  return has_flags ? FlaggedMemory(shape) : StagedMemory(shape);
}

int64_t ExchangeSlotBytes(bool through_host, int world, int64_t piece_bytes) {
  const int64_t pieces = through_host ? kPiecesThroughHost : kPiecesFromPeers;
  return std::max<int64_t>(pieces, world) * piece_bytes;
}

int64_t ExchangeShareBytes(int64_t slot_bytes, int world) {
  return slot_bytes / world / kExchangeAlignment * kExchangeAlignment;
}

int64_t BoardFlagWords(int world) { return int64_t{world} * world * kBoardFlags * kBoardColumns; }

int64_t BoardBytes(int world) {
  return (BoardFlagWords(world) + int64_t{2} * world * kBoardLineWords) * int64_t{sizeof(uint32_t)};
}

}  // namespace hearth
