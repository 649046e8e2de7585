// The copy engines as a communicator.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comm/api/communicator.h"
#include "comm/copy_engine/collective_sequence.h"
#include "comm/copy_engine/copy_engine.h"
#include "comm/copy_engine/peer_slabs.h"
#include "comm/copy_engine/shared_segment.h"

namespace hearth {

// A collective is a sequence of rounds. Each rank pulls what it needs: from the peers' slabs, or,
// through the host, from the slots of a shared segment where their owners have put it; what is to
// be reduced lands in device memory of our own. Rounds take turns on two lanes, each with a stream
// for pulls, another for copies to the slots and a half of that memory, so that flags of one round
// travel under the copies of the next; sums run on the caller's stream. The streams of all ranks
// wait for each other by flags; no host takes part. A collective ends when all ranks have read what
// they need. All collectives run one after the other, whatever their streams.
class CopyEngineCommunicator final : public Communicator {
 public:
  CopyEngineCommunicator(Bootstrap& bootstrap, KernelBackend& backend,
                         const CopyEngineOptions& options);
  // Waits a little for the other ranks to let go of this one's slab, unless something has failed.
  ~CopyEngineCommunicator() override;

  int rank() const override { return rank_; }
  int world() const override { return world_; }
  CommunicatorMemory memory() const override;
  int64_t completed() const override;

 private:
  // Bytes that go to a slot: those of my slab, at an offset of the slot.
  struct Put {
    SlabRange range;
    int64_t slot_offset = 0;
  };
  // Bytes of a peer: where they are in its slab and in its slot, and where they go.
  struct Pull {
    int source = 0;
    SlabRange range;
    int64_t slot_offset = 0;
    TensorView destination;
  };
  struct Round {
    std::vector<Put> puts;
    std::vector<Pull> pulls;
    std::function<void(Stream& stream)> reduce;  // of what was pulled; optional
  };
  using MakeRound = std::function<Round(int64_t index)>;
  struct Call {
    std::string_view operation;
    int64_t rounds = 1;
    int column = 0;
    bool in_place = false;  // what others pull is what the reduction writes
    uint32_t first = 0;     // the number of the first round, given by Run
    uint32_t number(int64_t index) const { return first + static_cast<uint32_t>(index); }
    uint32_t last() const { return number(rounds - 1); }
  };

  struct Lane {
    std::unique_ptr<Stream> pulls;
    std::unique_ptr<Stream> puts;
    std::unique_ptr<Event> landed;  // what its last round pulled to be reduced
    std::unique_ptr<Event> freed;   // its half of the landing memory, by the reduction
    std::unique_ptr<Event> pulled;  // the last of its pulls
  };

  // From peers where every rank can map memory of every other's, else through the host.
  void ChoosePath();
  void TakePath(bool from_peers);
  // Warns, or refuses where there is to be no other way.
  void GiveUpPeers(const std::string& why_not) const;
  void DoRegisterSlab() override;
  void DoReleaseSlab() noexcept override;
  void DoAllGather(Stream& stream, const AllGatherArgs& args) override;
  void DoReduceScatter(Stream& stream, const ReduceScatterArgs& args) override;
  void DoAllReduce(Stream& stream, const AllReduceArgs& args) override;
  void DoBroadcast(Stream& stream, const BroadcastArgs& args) override;
  void DoSumEverywhere(Stream& stream, const SumEverywhereArgs& args) override;

  void Run(Stream& stream, Call call, const MakeRound& make);
  void RunFromPeers(Stream& stream, const Call& call, const MakeRound& make);
  void RunThroughHost(Stream& stream, const Call& call, const MakeRound& make);
  Lane& LaneOf(int64_t index) { return lanes_[static_cast<size_t>(index % kLandingHalves)]; }
  // Lets the lanes that have rounds begin after what the stream did before, and the stream go on
  // after their pulls.
  void BeginLanes(Stream& stream, const Call& call);
  void EndLanes(Stream& stream, const Call& call);
  // Posts a flag behind those of earlier rounds, which another lane has posted.
  void PostInOrder(Stream& stream, Flag flag, const Call& call, int64_t index);
  // Lets the pulls overwrite a half that an earlier round may still reduce, and the reduction
  // begin.
  void AwaitHalf(int64_t index, const Round& round);
  void Reduce(Stream& stream, int64_t index, const Round& round);

  TensorView Landing(int64_t index, int source, int64_t bytes) const;
  TensorView Slot(int owner, uint32_t round, int64_t offset, int64_t bytes) const;
  bool through_host() const { return slots_ != nullptr; }

  Bootstrap& bootstrap_;
  KernelBackend& backend_;
  const CopyEngineOptions options_;
  const int rank_;
  const int world_;
  std::vector<int> peers_;  // in the order of service: everybody begins with another one

  int64_t whole_bytes_ = 0;  // what a round moves from one rank to all alike
  int64_t share_bytes_ = 0;  // ... to another alone; a multiple of 64
  int64_t slot_bytes_ = 0;
  std::unique_ptr<PeerSlabs> peer_slabs_;
  std::unique_ptr<SharedSegment> slots_;  // [world][kExchangeSlots][slot_bytes_]
  Buffer landing_;                        // [kLandingHalves][world][share_bytes_] on the device
  std::unique_ptr<Event> begin_;
  std::array<std::unique_ptr<Event>, kBoardFlags> posted_;  // the last of each flag
  std::array<Lane, kLandingHalves> lanes_;
  std::unique_ptr<CollectiveSequence> sequence_;
};

}  // namespace hearth
