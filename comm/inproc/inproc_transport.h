// Messages between threads of one process: the receiver copies from the sender's memory.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "comm/api/transport.h"
#include "comm/inproc/inproc_bootstrap.h"

namespace hearth {

class InprocTransport final : public Transport {
 public:
  // The n-th transport of a rank talks to the n-th of every other.
  InprocTransport(InprocBootstrap& bootstrap, std::chrono::milliseconds timeout);

  int rank() const override { return rank_; }
  int world() const override { return world_->ranks; }
  void Exchange(const ExchangeArgs& args) override;
  void Cancel() noexcept override;

 private:
  // A send or receive that has not ended, with its place in a mailbox.
  struct Outgoing {
    int peer = 0;
    std::shared_ptr<InprocMessage> message;  // shared with the receiver while it copies
  };

  // Copies what has arrived for the pending receives and forgets the sends that were taken; true
  // when something moved. Releases the lock while it copies.
  bool Progress(std::unique_lock<std::mutex>& lock, int64_t sequence,
                std::vector<Message>& receives, std::vector<Outgoing>& sends);
  // Takes the unfinished sends back, so that nobody reads their memory any more.
  void Retract(std::unique_lock<std::mutex>& lock, std::vector<Outgoing>& sends);

  const int rank_;
  const std::chrono::milliseconds timeout_;
  const std::shared_ptr<InprocWorld> world_;  // shared by all ranks, as is the channel
  std::shared_ptr<InprocChannel> channel_;
  bool cancelled_ = false;  // guarded by the world's mutex
};

}  // namespace hearth
