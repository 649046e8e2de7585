// The memory that communicators take for themselves, known before there is one: pure functions, by
// which they allocate and plans count.
#pragma once

#include <cstdint>
#include <string>

namespace hearth {

struct CommunicatorMemory {
  int64_t device_bytes = 0;
  int64_t pinned_bytes = 0;  // of the host, this rank's alone
  int64_t shared_bytes = 0;  // of the host, pinned, once for all of its ranks
  bool operator==(const CommunicatorMemory&) const = default;
  CommunicatorMemory& operator+=(const CommunicatorMemory& other);
  // What a rank counts as its part of the host's memory, with that many ranks there.
  int64_t HostBytes(int ranks_per_host) const;
};

// What decides it.
struct CommunicatorShape {
  std::string kind = "mpi";  // as of MakeCommunicator, but "auto"
  int world = 1;
  bool one_host = true;                    // all ranks are on it
  bool stage = false;                      // device memory is not host memory, or is treated so
  bool through_host = false;               // copy_engine: not from the peers' memory
  int64_t piece_bytes = int64_t{1} << 20;  // see CommunicatorOptions
};

// Of NCCL this is what is ours: its own buffers are known once it has started.
CommunicatorMemory MemoryOf(const CommunicatorShape& shape);

// ---- Their parts ----

// Staged: slots of `world` pieces each. On the way in, and where device memory is staged on the way
// out, two that take turns; on the device one.
constexpr int kStagedTurns = 2;

// Copy engines and NCCL: halves of device memory that take turns, each with a share for every rank;
// through the host `kExchangeSlots` slots of each rank besides.
constexpr int kLandingHalves = 2;
constexpr int kExchangeSlots = 6;
constexpr int64_t kExchangeAlignment = 64;
// What a half holds at most, and a slot.
int64_t ExchangeSlotBytes(bool through_host, int world, int64_t piece_bytes);
// Of it for each rank, in whole units of kExchangeAlignment.
int64_t ExchangeShareBytes(int64_t slot_bytes, int world);

// The board of flags of a host's ranks: for each pair of them a word for each flag and column, and
// two lines of words for each rank.
constexpr int kBoardFlags = 2;
constexpr int kBoardColumns = 64;
constexpr int kBoardLineWords = 16;
int64_t BoardFlagWords(int world);
int64_t BoardBytes(int world);

}  // namespace hearth
