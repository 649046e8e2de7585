// Several communicators of the same ranks as one: each collective goes by the way that is best for
// it.
#pragma once

#include <memory>
#include <vector>

#include "comm/communicators.h"

namespace hearth {

// A broadcast goes by the rules of all-gathers. The parts follow one another only as their streams
// do: collectives of two parts on two streams may run at once. Errors name the number that a
// collective has in its part.
class MixedCommunicator final : public Communicator {
 public:
  // Every rule's part is one of `parts`, of which there is at least one.
  MixedCommunicator(std::vector<std::unique_ptr<Communicator>> parts, std::vector<MixRule> rules);

  int rank() const override { return parts_.front()->rank(); }
  int world() const override { return parts_.front()->world(); }
  CommunicatorMemory memory() const override;
  // Of all parts together: it is the last number only when all have come to their last.
  int64_t completed() const override;

 private:
  void DoRegisterSlab() override;
  void DoReleaseSlab() noexcept override;
  void DoAllGather(Stream& stream, const AllGatherArgs& args) override;
  void DoReduceScatter(Stream& stream, const ReduceScatterArgs& args) override;
  void DoAllReduce(Stream& stream, const AllReduceArgs& args) override;
  void DoBroadcast(Stream& stream, const BroadcastArgs& args) override;
  void DoSumEverywhere(Stream& stream, const SumEverywhereArgs& args) override;

  Communicator& PartFor(MixedOperation operation, int64_t bytes) const;

  const std::vector<std::unique_ptr<Communicator>> parts_;
  const std::vector<MixRule> rules_;
};

}  // namespace hearth
