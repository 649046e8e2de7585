// Collectives over device memory, enqueued on streams.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "comm/api/communicator_memory.h"
#include "kernels/core/buffer.h"
#include "kernels/core/stream.h"

namespace hearth {

// A range of the registered exchange slab; the same on every rank.
struct SlabRange {
  int64_t offset_bytes = 0;
  int64_t bytes = 0;
};

// Rank r's range (ranges[r], possibly empty) is copied from its slab into everybody's slab.
struct AllGatherArgs {
  std::vector<SlabRange> ranges;  // one per rank, disjoint
};

enum class ReduceOrder : uint8_t {
  kRankOrder,  // ((rank 0 + rank 1) + rank 2) ... in fp32, rounded once: the same bits everywhere
};

// Rank r receives scale * (sum over ranks of ranges[r] of their slabs), rounded once to out's type;
// with accumulate, out's present content is the first term.
struct ReduceScatterArgs {
  DType dtype = DType::kF32;      // of the slab's content: f32 | bf16
  std::vector<SlabRange> ranges;  // one per rank; whole elements, may be empty
  TensorView out;                 // my range's elements, f32 | bf16; may be my range of the slab
  float scale = 1.0f;
  bool accumulate = false;
  ReduceOrder order = ReduceOrder::kRankOrder;
};

enum class AllReduceOp : uint8_t { kSum, kMax };

// Small values, in place: f32 (max; sum in rank order) or i64 (sum, max). NaN wins a maximum.
struct AllReduceArgs {
  DType dtype = DType::kF32;
  AllReduceOp op = AllReduceOp::kSum;
  SlabRange range;
};

struct BroadcastArgs {
  SlabRange range;
  int root = 0;
};

// Everybody's `data` becomes the sum of all, of the bits of a reduce-scatter with scale 1 and an
// all-gather of its parts.
struct SumEverywhereArgs {
  TensorView data;               // [elements] f32 | bf16, in place, anywhere in the device's reach
  std::vector<SlabRange> parts;  // of data: rank r adds parts[r]; disjoint, whole elements
};

// Every rank calls the same collectives in the same order, from one host thread at a time. A call
// enqueues on `stream` and returns;
// the result may be read by later work of that stream. When nothing moves for the time-out after
// this rank is ready, Stream::Synchronize throws a CommError that names the operation, its number
// and the ranks waited for; every later collective of the communicator fails with the same error.
// Destroying a communicator fails what is in flight, so that its streams drain: own it where it is
// destroyed before them.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int world() const = 0;
  // What it holds from its construction on: MemoryOf its shape, unless a warning has said that it
  // goes another way.
  virtual CommunicatorMemory memory() const = 0;

  // The slab all ranges refer to: equal size on every rank, owned by the caller, alive as long as
  // the communicator or until it is released. Collective; called once, before the first collective.
  void RegisterSlab(TensorView slab);
  // Before the owner frees a slab while the communicator lives on: its last collective has ended,
  // and none follows. Waits a little until no other rank uses this one's slab, unless something has
  // failed or an exception unwinds.
  void ReleaseSlab() noexcept;

  void AllGather(Stream& stream, const AllGatherArgs& args);
  void ReduceScatter(Stream& stream, const ReduceScatterArgs& args);
  void AllReduce(Stream& stream, const AllReduceArgs& args);
  void Broadcast(Stream& stream, const BroadcastArgs& args);
  // Needs no slab. For large sums between boxes: not by copy engines, which reach nothing else.
  void SumEverywhere(Stream& stream, const SumEverywhereArgs& args);

  // Collectives enqueued, and finished by this rank, so far; the n-th has the sequence number n.
  // Any thread may read them: a watchdog reports who is behind.
  int64_t enqueued() const { return enqueued_.load(std::memory_order_relaxed); }
  virtual int64_t completed() const = 0;

 protected:
  TensorView slab() const { return slab_; }
  // The bytes of a range of the registered slab.
  TensorView SlabBytes(const SlabRange& range) const;

 private:
  virtual void DoRegisterSlab() = 0;
  virtual void DoReleaseSlab() noexcept {}  // where only this rank reaches it
  virtual void DoAllGather(Stream& stream, const AllGatherArgs& args) = 0;
  virtual void DoReduceScatter(Stream& stream, const ReduceScatterArgs& args) = 0;
  virtual void DoAllReduce(Stream& stream, const AllReduceArgs& args) = 0;
  virtual void DoBroadcast(Stream& stream, const BroadcastArgs& args) = 0;
  // Unless it is overridden the two collectives, one behind the other.
  virtual void DoSumEverywhere(Stream& stream, const SumEverywhereArgs& args);
  void CheckSlabRange(const SlabRange& range, int64_t element_bytes) const;

  TensorView slab_;  // [bytes] u8
  std::atomic<int64_t> enqueued_{0};
};

}  // namespace hearth
