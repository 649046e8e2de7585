// Collectives over host messages: a helper thread drives a transport, host signals order it with
// the streams.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include "comm/api/communicator.h"
#include "comm/api/transport.h"
#include "comm/communicators.h"
#include "kernels/api/kernel_backend.h"

namespace hearth {

// A collective is a sequence of rounds, each of at most one piece per pair of ranks. On the stream
// a round is: copies out of the slab, Signal(ready), and, after the next round has been started,
// Wait(done) and the work on what arrived. The two halves of the staging memory take turns. Where
// device memory is host memory the messages go straight from slab to slab; only what is to be
// reduced is received elsewhere. All collectives of a communicator run one after the other,
// whatever their streams.
class StagedCommunicator final : public Communicator {
 public:
  // The backend must outlive the communicator. With a world of one everything is local: no thread
  // is started and nothing waits.
  StagedCommunicator(std::unique_ptr<Transport> transport, KernelBackend& backend,
                     const CommunicatorOptions& options);
  ~StagedCommunicator() override;

  int rank() const override { return transport_->rank(); }
  int world() const override { return transport_->world(); }
  CommunicatorMemory memory() const override {
    return {.device_bytes = landing_.bytes(), .pinned_bytes = staging_.bytes()};
  }
  int64_t completed() const override { return completed_.load(std::memory_order_relaxed); }

 private:
  // What the helper thread does for one round.
  struct Exchange {
    std::string_view operation;
    int64_t collective = 0;
    bool last = false;    // of its collective
    uint32_t number = 0;  // of all rounds: the value of both signals
    ExchangeArgs args;
    std::function<void()> finish;  // on host memory, after the messages; optional
  };
  // One round as a collective describes it.
  struct Round {
    std::vector<CopyArgs> before;
    std::vector<Message> sends;
    std::vector<Message> receives;
    std::function<void()> finish;
    std::vector<CopyArgs> after;
    OrderedSumArgs sum;  // after the copies; without inputs: none
  };
  using MakeRound = std::function<Round(int64_t index)>;

  void DoRegisterSlab() override {}
  void DoAllGather(Stream& stream, const AllGatherArgs& args) override;
  void DoReduceScatter(Stream& stream, const ReduceScatterArgs& args) override;
  void DoAllReduce(Stream& stream, const AllReduceArgs& args) override;
  void DoBroadcast(Stream& stream, const BroadcastArgs& args) override;
  void DoSumEverywhere(Stream& stream, const SumEverywhereArgs& args) override;

  // Enqueues all rounds of the collective that was just counted.
  void Pipeline(Stream& stream, std::string_view operation, int64_t rounds, const MakeRound& make);
  void Finish(Stream& stream, uint32_t number, const Round& round);
  void ReduceScatterAlone(Stream& stream, const ReduceScatterArgs& args);

  // The index-th piece of a range, empty beyond its end.
  SlabRange Piece(const SlabRange& range, int64_t index, int64_t piece_bytes) const;
  int64_t CountRounds(const std::vector<SlabRange>& ranges, int64_t piece_bytes) const;
  // Adds bytes of the device to what a round sends (all of it to each peer) or receives, through
  // the slot of that number where it is staged; that many bytes into it.
  void AddSend(Round& round, int64_t index, int slot, const TensorView& source,
               const std::vector<int>& receivers) const;
  void AddReceive(Round& round, int64_t index, int peer, const TensorView& destination,
                  int64_t slot_offset = 0) const;
  // Receives what all peers have of my piece of a sum, and adds it to `mine` in rank order.
  struct SumPiece {
    TensorView mine;  // [bytes]
    DType dtype = DType::kF32;
    TensorView out;
    float scale = 1.0f;
    bool accumulate = false;
  };
  void AddSum(Round& round, int64_t index, const SumPiece& piece) const;
  // One of the world() slots in the half of the staging memory that round `index` uses.
  TensorView SendSlot(int64_t index, int slot, int64_t bytes) const;
  TensorView ReceiveSlot(int64_t index, int slot, int64_t bytes, int64_t offset = 0) const;

  void RunHelper() noexcept;
  // The next exchange whose inputs are ready, in order; false when the communicator ends.
  bool NextExchange(Exchange& exchange);
  bool stopping() const;

  const std::unique_ptr<Transport> transport_;
  KernelBackend& backend_;
  const int64_t piece_bytes_;
  const bool stage_;
  std::vector<int> peers_;  // in the order of service: everybody begins with another one
  Buffer staging_;          // [send and receive, or only receive][2][world][piece_bytes], pinned
  Buffer landing_;          // [world][piece_bytes] on the device, staged only
  std::unique_ptr<HostSignal> ready_;  // stream -> helper: the inputs of round n may be read
  std::unique_ptr<HostSignal> done_;   // helper -> stream: the outputs of round n may be read
  std::unique_ptr<Event> previous_;    // the end of the last collective, on whatever stream
  uint32_t number_ = 0;                // of the last round enqueued

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Exchange> queue_;
  bool stopping_ = false;
  std::atomic<int64_t> completed_{0};
  std::thread helper_;
};

}  // namespace hearth
