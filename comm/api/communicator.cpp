#include "comm/api/communicator.h"

#include <utility>

#include "kernels/core/check.h"

namespace hearth {

namespace {

void CheckRange(const SlabRange& range, int64_t of_bytes, int64_t element_bytes) {
  CHECK(range.offset_bytes >= 0 && range.bytes >= 0 && range.bytes <= of_bytes &&
            range.offset_bytes <= of_bytes - range.bytes,
        "range {} + {} of {} bytes", range.offset_bytes, range.bytes, of_bytes);
  CHECK(range.offset_bytes % element_bytes == 0 && range.bytes % element_bytes == 0,
        "range {} + {} is not whole elements of {} bytes", range.offset_bytes, range.bytes,
        element_bytes);
}

// A slab is another one while this lives, also where a collective throws.
class SlabInstead {
 public:
  SlabInstead(TensorView& slab, TensorView other)
      : slab_(slab), own_(std::exchange(slab, std::move(other))) {}
  SlabInstead(const SlabInstead&) = delete;
  SlabInstead& operator=(const SlabInstead&) = delete;
  ~SlabInstead() { slab_ = own_; }

 private:
  TensorView& slab_;
  const TensorView own_;
};

}  // namespace

void Communicator::RegisterSlab(TensorView slab) {
  CHECK(!slab_, "the exchange slab is registered once");
  CHECK(slab && slab.dtype() == DType::kU8, "the exchange slab is a view of bytes");
  slab_ = slab;
  DoRegisterSlab();
}

void Communicator::ReleaseSlab() noexcept {
  if (slab_) DoReleaseSlab();
}

void Communicator::CheckSlabRange(const SlabRange& range, int64_t element_bytes) const {
  CHECK(slab_, "no exchange slab is registered");
  CheckRange(range, slab_.bytes(), element_bytes);
}

TensorView Communicator::SlabBytes(const SlabRange& range) const {
  return slab_.Rows(range.offset_bytes, range.bytes);
}

void Communicator::AllGather(Stream& stream, const AllGatherArgs& args) {
  CHECK(static_cast<int>(args.ranges.size()) == world(), "{} ranges for {} ranks",
        args.ranges.size(), world());
  for (const SlabRange& range : args.ranges) CheckSlabRange(range, 1);
  ++enqueued_;
  DoAllGather(stream, args);
}

void Communicator::ReduceScatter(Stream& stream, const ReduceScatterArgs& args) {
  CHECK(static_cast<int>(args.ranges.size()) == world(), "{} ranges for {} ranks",
        args.ranges.size(), world());
  CHECK(args.dtype == DType::kF32 || args.dtype == DType::kBF16, "reduce-scatter of {}",
        Name(args.dtype));
  for (const SlabRange& range : args.ranges) CheckSlabRange(range, SizeOf(args.dtype));
  const SlabRange& mine = args.ranges[static_cast<size_t>(rank())];
  CHECK(mine.bytes == 0 || args.out.elements() == mine.bytes / SizeOf(args.dtype),
        "reduce-scatter of {} elements into {}", mine.bytes / SizeOf(args.dtype),
        args.out.elements());
  ++enqueued_;
  DoReduceScatter(stream, args);
}

void Communicator::AllReduce(Stream& stream, const AllReduceArgs& args) {
  CHECK(args.dtype == DType::kF32 || args.dtype == DType::kI64, "all-reduce of {}",
        Name(args.dtype));
  CheckSlabRange(args.range, SizeOf(args.dtype));
  ++enqueued_;
  DoAllReduce(stream, args);
}

void Communicator::Broadcast(Stream& stream, const BroadcastArgs& args) {
  CHECK(args.root >= 0 && args.root < world(), "broadcast from rank {} of {}", args.root, world());
  CheckSlabRange(args.range, 1);
  ++enqueued_;
  DoBroadcast(stream, args);
}

void Communicator::SumEverywhere(Stream& stream, const SumEverywhereArgs& args) {
  const DType dtype = args.data.dtype();
  CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "a sum of {}", Name(dtype));
  CHECK(static_cast<int>(args.parts.size()) == world(), "{} parts for {} ranks", args.parts.size(),
        world());
  for (const SlabRange& part : args.parts) CheckRange(part, args.data.bytes(), SizeOf(dtype));
  ++enqueued_;
  DoSumEverywhere(stream, args);
}

void Communicator::DoSumEverywhere(Stream& stream, const SumEverywhereArgs& args) {
  const DType dtype = args.data.dtype();
  const SlabRange& mine = args.parts[static_cast<size_t>(rank())];
  const TensorView out =
      args.data.Rows(mine.offset_bytes / SizeOf(dtype), mine.bytes / SizeOf(dtype));
  // Collectives look at the slab only while they are enqueued.
  const SlabInstead data(slab_, TensorView(args.data.data(), DType::kU8, {args.data.bytes()}));
  DoReduceScatter(stream, {.dtype = dtype, .ranges = args.parts, .out = out});
  ++enqueued_;
  DoAllGather(stream, {.ranges = args.parts});
}

}  // namespace hearth
