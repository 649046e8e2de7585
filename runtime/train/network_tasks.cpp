// The executor's tasks between boxes. Gradients are exchanged where they lie; words in a small area
// that the network alone reaches.

#include "kernels/core/check.h"
#include "runtime/train/executor.h"

namespace hearth {

TensorView Executor::NetworkArea(DType dtype, int64_t elements) const {
  CHECK(elements * SizeOf(dtype) <= memory_.layout.network_bytes, "{} elements between boxes",
        elements);
  return memory_.arena.View(memory_.layout.network, dtype, {elements});
}

// Each box's rank adds one part of the shard, box by box: every box has the same bits.
void Executor::ExchangeShards(const Task& task, Stream& stream) {
  const Lease lease = gradients_.WriteSum(task.unit, FullGradientVersion());
  const ElementRange& shard = task.elements;
  if (shard.count() == 0) return;  // in all boxes
  const DType dtype = plan_.precision.gradient;
  std::vector<SlabRange> parts;
  for (int box = 0; box < plan_.boxes; ++box) {
    const ElementRange part = plan_.ExchangedPart(shard, box);
    parts.push_back({part.begin * SizeOf(dtype), part.count() * SizeOf(dtype)});
  }
  options_.network->SumEverywhere(stream, {.data = SumOverRanks(task), .parts = parts});
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
