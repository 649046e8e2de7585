// NCCL as a communicator.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "comm/api/communicator.h"
#include "comm/copy_engine/collective_sequence.h"
#include "comm/nccl/nccl.h"
#include "comm/nccl/nccl_channel.h"
#include "comm/nccl/nccl_library.h"

namespace hearth {

// NCCL works on a stream of its own. Reductions are exchanges and sums of our own in rank order.
// Where all ranks are on one host the streams first wait for each other by flags: a rank that is
// late costs the others no multiprocessors, and the time-out can name it. All collectives run one
// after the other, whatever their streams; who wants gathers beside reductions makes a communicator
// for each direction.
class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Bootstrap& bootstrap, KernelBackend& backend, const NcclOptions& options);
  ~NcclCommunicator() override;

  int rank() const override { return rank_; }
  int world() const override { return world_; }
  // What is ours: NCCL's own buffers are not in it.
  CommunicatorMemory memory() const override;
  int64_t completed() const override;

 private:
  void DoRegisterSlab() override {}
  void DoAllGather(Stream& stream, const AllGatherArgs& args) override;
  void DoReduceScatter(Stream& stream, const ReduceScatterArgs& args) override;
  void DoAllReduce(Stream& stream, const AllReduceArgs& args) override;
  void DoBroadcast(Stream& stream, const BroadcastArgs& args) override;

  // False when the communicator has failed: nothing more is enqueued.
  bool Begin(Stream& stream, std::string_view operation, int column);
  void End(Stream& stream);
  // Makes NCCL allocate and connect before a stream waits for anything.
  void WarmUp();
  // Enqueues one group, between what the stream did before and what it does next.
  void Enqueue(std::string_view operation, const std::function<void(ncclComm_t)>& calls);
  bool CanReduceNatively(const ReduceScatterArgs& args) const;
  // Exchanges into a half of the landing memory, when it is free, and lets `reduce` follow on the
  // stream.
  void ExchangeAndReduce(Stream& stream, int64_t index, std::string_view operation,
                         const std::function<void(ncclComm_t)>& calls,
                         const std::function<void()>& reduce);
  TensorView Landing(int64_t index, int source, int64_t bytes) const;
  void Send(ncclComm_t comm, const TensorView& bytes, int peer);
  void Receive(ncclComm_t comm, const TensorView& bytes, int peer);

  KernelBackend& backend_;
  const NcclOptions options_;
  const int rank_;
  const int world_;
  const bool has_own_board_;
  std::vector<int> peers_;

  int64_t share_bytes_ = 0;
  NcclLibrary nccl_;
  std::unique_ptr<NcclChannel> channel_;
  Buffer landing_;  // [kLandingHalves][world][share_bytes_] on the device
  std::unique_ptr<Event> begin_;
  std::unique_ptr<Event> moved_;
  std::array<std::unique_ptr<Event>, kLandingHalves> landed_;
  std::array<std::unique_ptr<Event>, kLandingHalves> freed_;
  std::unique_ptr<CollectiveSequence> sequence_;
  int column_ = 0;      // of the present collective
  uint32_t round_ = 0;  // of it: one for each
};

}  // namespace hearth
