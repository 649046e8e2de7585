// The executor's tasks between boxes. What they exchange lies where only they reach it, so that the
// network sees one small area of a rank's memory, wherever gradients live.

#include "kernels/core/check.h"
#include "runtime/train/executor.h"

namespace hearth {

TensorView Executor::NetworkArea(DType dtype, int64_t elements) const {
  CHECK(elements * SizeOf(dtype) <= memory_.layout.network_bytes, "{} elements between boxes",
        elements);
  return memory_.arena.View(memory_.layout.network, dtype, {elements});
}

// Each box's rank adds one part of the shard, box by box, and sends it to the others: every box has
// the same bits, and no part is added twice.
void Executor::ExchangeShards(const Task& task, Stream& stream) {
  const Lease lease = gradients_.WriteSum(task.unit, FullGradientVersion());
  const ElementRange& shard = task.elements;
  if (shard.count() == 0) return;  // in all boxes
  const DType dtype = plan_.precision.gradient;
  const TensorView sum = SumOverRanks(task);
  const TensorView area = NetworkArea(dtype, shard.count());
  std::vector<SlabRange> ranges;
  for (int box = 0; box < plan_.boxes; ++box) {
    const ElementRange part = plan_.ExchangedPart(shard, box);
    ranges.push_back({part.begin * SizeOf(dtype), part.count() * SizeOf(dtype)});
  }
  const ElementRange mine = plan_.ExchangedPart(shard, options_.network->rank());
  backend_.Copy(stream, {.source = sum, .destination = area});
  options_.network->ReduceScatter(stream, {.dtype = dtype,
                                           .ranges = ranges,
                                           .out = area.Rows(mine.begin, mine.count()),
                                           .scale = 1.0f});
  options_.network->AllGather(stream, {.ranges = ranges});
  backend_.Copy(stream, {.source = area, .destination = sum});
}

void Executor::ExchangeWords(const AllReduceArgs& args, Stream& stream) {
  const TensorView words =
      memory_.slab.View(args.range.offset_bytes, DType::kU8, {args.range.bytes});
  const TensorView area = NetworkArea(DType::kU8, args.range.bytes);
  backend_.Copy(stream, {.source = words, .destination = area});
  options_.network->AllReduce(stream,
                              {.dtype = args.dtype, .op = args.op, .range = {0, args.range.bytes}});
  backend_.Copy(stream, {.source = area, .destination = words});
}

// The squares, which come first, are those of sums over all boxes already.
void Executor::ExchangeSums(Stream& stream) {
  const WordLayout& words = memory_.layout.words;
  ExchangeWords({.dtype = DType::kI64,
                 .op = AllReduceOp::kSum,
                 .range = {words.sums + kFixedPointWords * int64_t{8},
                           (kStepSumWords - kFixedPointWords) * int64_t{8}}},
                stream);
  if (!CollectsAmax()) return;
  ExchangeWords({.dtype = DType::kF32,
                 .op = AllReduceOp::kMax,
                 .range = {words.step_amax, StepAmax().bytes()}},
                stream);
}

}  // namespace hearth
