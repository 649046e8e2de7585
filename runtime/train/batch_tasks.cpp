// The executor's way from a batch in ordinary memory to the device, and its step on made-up tokens.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/core/check.h"
#include "kernels/core/philox.h"
#include "runtime/train/executor.h"

namespace hearth {

namespace {

int64_t Elements(const Plan& plan, int64_t BatchLayout::*field) {
  return field == &BatchLayout::sequence_offsets ? plan.max_sequences + 1
                                                 : plan.tokens_per_micro_batch;
}

// Whole sequences of drawn tokens: what a step computes with looks like data.
MicroBatch MadeUpMicroBatch(const Plan& plan, const ModelSpec& spec) {
  MicroBatch batch;
  batch.rows = plan.tokens_per_micro_batch / plan.sequence_len;
  batch.max_sequence = Narrow<int32_t>(plan.sequence_len);
  batch.sequence_offsets = {0};
  const auto vocab = static_cast<uint32_t>(spec.config.vocab_size);
  for (int64_t row = 0; row < batch.rows; ++row) {
    for (int64_t position = 0; position < plan.sequence_len; ++position) {
      const auto i = static_cast<uint32_t>(batch.tokens.size());
      const Philox4 draw = Philox4x32(0, {i, 0, 0, 0});
      batch.tokens.push_back(static_cast<int32_t>(draw[0] % vocab));
      batch.targets.push_back(static_cast<int32_t>(draw[1] % vocab));
      batch.positions.push_back(static_cast<int32_t>(position));
    }
    batch.sequence_offsets.push_back(static_cast<int32_t>(batch.tokens.size()));
  }
  return batch;
}

}  // namespace

StepResult Executor::RunMadeUp(Phase phase, const Plan& plan, const StepInput& input) {
  StepBatch batch;
  batch.micro_batches.push_back(MadeUpMicroBatch(plan_, spec_));
  StepInput made_up = input;
  made_up.batch = &batch;
  made_up.targets = plan.tokens_per_micro_batch;
  made_up.hyper = MakeAdamwHyper(0.0f, 0.9f, 0.999f, 1e-8f, 0.0f, 0, 1);
  const PreparedSchedule prepared = MakePrepared(phase, plan);
  Start(prepared, made_up);
  return Finish();
}

void Executor::WarmUpAlone(int64_t step) {
  Plan plan = plan_;
  plan.micro_batches = 1;
  // This leaves out all collectives; nobody reads the gradients.
  plan.world = plan.boxes = 1;
  plan.numeric.reduction_order = ReductionOrder::kMicroThenRank;
  // What has a slot keeps it, and is left there.
  plan.gradients = {.sharded = plan.gradients.in_slots()};
  RunMadeUp(Phase::kGradients, plan, {.step = step});
}

void Executor::WarmUp(int64_t step) {
  Plan plan = plan_;
  plan.micro_batches = 1;
  // All updates behind the norm, in this step.
  plan.deferred_share = 0;
  plan.early_updates = false;
  // Gradients that are not finite leave the optimizer's state as it is, and the working weights are
  // written again from it.
  const bool amax_known = amax_known_;
  amax_known_ = true;  // FP8 scales are verified here, current in WarmUpAlone
  const StepResult result = RunMadeUp(Phase::kTrain, plan,
                                      {.step = step,
                                       .gradient_scale = std::numeric_limits<float>::quiet_NaN(),
                                       .wants_amax = true});
  CHECK(result.skipped, "the warm-up changed the weights; its gradient norm is {}",
        result.grad_norm);
  amax_known_ = amax_known;
  for (Phase phase : {Phase::kTrain, Phase::kEvaluate, Phase::kDrain}) Prepare(phase);
}

void Executor::Stage(const StepBatch& batch) {
  staged_slot_ = 1 - batch_slot_;
  FillHostBatch(batch, staged_slot_);
}

void Executor::TakeBatch(const StepInput& input) {
  if (input.batch == nullptr) {
    CHECK(staged_slot_ >= 0, "a step without a batch");
    batch_slot_ = staged_slot_;
    staged_slot_ = -1;
    return;
  }
  batch_slot_ = staged_slot_ < 0 ? batch_slot_ : 1 - staged_slot_;
  FillHostBatch(*input.batch, batch_slot_);
}

void Executor::FillHostBatch(const StepBatch& batch, int slot) {
  static const MicroBatch kNoRows;
  const auto given = static_cast<int64_t>(batch.micro_batches.size());
  CHECK(given <= plan_.micro_batches, "a step of {} micro-batches, planned {}", given,
        plan_.micro_batches);
  for (int i = 0; i < static_cast<int>(plan_.micro_batches); ++i) {
    FillHostMicroBatch(i < given ? batch.micro_batches[static_cast<size_t>(i)] : kNoRows, slot, i);
  }
}

void Executor::FillHostMicroBatch(const MicroBatch& batch, int slot, int micro_batch) {
  const MemoryLayout& layout = memory_.layout;
  const auto fill = [&](int64_t BatchLayout::*field, const std::vector<int32_t>& values,
                        int32_t rest) {
    const TensorView view = memory_.host.View(
        layout.host_batch[slot] + layout.batch.at(static_cast<size_t>(micro_batch)).*field,
        DType::kI32, {Elements(plan_, field)});
    CHECK(static_cast<int64_t>(values.size()) <= view.elements(),
          "{} values for a batch tensor of {}", values.size(), view.elements());
    int32_t* out = view.as<int32_t>();
    std::copy(values.begin(), values.end(), out);
    std::fill(out + values.size(), out + view.elements(), rest);
  };
  fill(&BatchLayout::tokens, batch.tokens, kPaddingToken);
  fill(&BatchLayout::targets, batch.targets, kMaskedTarget);
  fill(&BatchLayout::positions, batch.positions, 0);
  // The unused tail repeats the number of real tokens.
  fill(&BatchLayout::sequence_offsets, batch.sequence_offsets,
       batch.sequence_offsets.empty() ? 0 : batch.sequence_offsets.back());
}

void Executor::LoadBatch(Stream& stream) {
  const MemoryLayout& layout = memory_.layout;
  Copy(stream,
       {.source =
            memory_.host.View(layout.host_batch[batch_slot_], DType::kU8, {layout.batch_bytes}),
        .destination = memory_.arena.View(layout.device_batch, DType::kU8, {layout.batch_bytes})});
}

TensorView Executor::BatchView(int micro_batch, int64_t BatchLayout::*field) const {
  const MemoryLayout& layout = memory_.layout;
  return memory_.arena.View(
      layout.device_batch + layout.batch.at(static_cast<size_t>(micro_batch)).*field, DType::kI32,
      {Elements(plan_, field)});
}

}  // namespace hearth
