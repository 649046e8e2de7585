#include "comm/mixed_communicator.h"

#include <utility>

#include "kernels/core/check.h"

namespace hearth {

namespace {

int64_t BytesOf(const std::vector<SlabRange>& ranges) {
  int64_t bytes = 0;
  for (const SlabRange& range : ranges) bytes += range.bytes;
  return bytes;
}

}  // namespace

MixedCommunicator::MixedCommunicator(std::vector<std::unique_ptr<Communicator>> parts,
                                     std::vector<MixRule> rules)
    : parts_(std::move(parts)), rules_(std::move(rules)) {
  CHECK(!parts_.empty(), "a communicator without parts");
  for (const MixRule& rule : rules_) {
    CHECK(rule.part >= 0 && rule.part < std::ssize(parts_), "part {} of {}", rule.part,
          parts_.size());
  }
}

CommunicatorMemory MixedCommunicator::memory() const {
  CommunicatorMemory all;
  for (const auto& part : parts_) all += part->memory();
  return all;
}

int64_t MixedCommunicator::completed() const {
  int64_t all = 0;
  for (const auto& part : parts_) all += part->completed();
  return all;
}

Communicator& MixedCommunicator::PartFor(MixedOperation operation, int64_t bytes) const {
  for (const MixRule& rule : rules_) {
    if (rule.operation == operation && bytes <= rule.up_to_bytes) {
      return *parts_[static_cast<size_t>(rule.part)];
    }
  }
  return *parts_.front();
}

void MixedCommunicator::DoRegisterSlab() {
  for (const auto& part : parts_) part->RegisterSlab(slab());
}

void MixedCommunicator::DoReleaseSlab() noexcept {
  for (const auto& part : parts_) part->ReleaseSlab();
}

void MixedCommunicator::DoAllGather(Stream& stream, const AllGatherArgs& args) {
  PartFor(MixedOperation::kAllGather, BytesOf(args.ranges)).AllGather(stream, args);
}

void MixedCommunicator::DoReduceScatter(Stream& stream, const ReduceScatterArgs& args) {
  PartFor(MixedOperation::kReduceScatter, BytesOf(args.ranges)).ReduceScatter(stream, args);
}

// As they are measured, the bytes of an all-reduce and a broadcast count once for every rank.
void MixedCommunicator::DoAllReduce(Stream& stream, const AllReduceArgs& args) {
  PartFor(MixedOperation::kAllReduce, args.range.bytes * world()).AllReduce(stream, args);
}

void MixedCommunicator::DoBroadcast(Stream& stream, const BroadcastArgs& args) {
  PartFor(MixedOperation::kAllGather, args.range.bytes * world()).Broadcast(stream, args);
}

void MixedCommunicator::DoSumEverywhere(Stream& stream, const SumEverywhereArgs& args) {
  PartFor(MixedOperation::kReduceScatter, args.data.bytes()).SumEverywhere(stream, args);
}

}  // namespace hearth
