// The executor's FP8 scales from one step to the next.

#include <cmath>

#include "kernels/core/check.h"
#include "runtime/train/executor.h"

namespace hearth {

bool Executor::KeepsAmaxHistory() const {
  return plan_.precision.verified_scales && phase_ == Phase::kTrain;
}

// Whatever does not train has no part in the history: its results do not depend on the steps
// before.
ScaleMode Executor::FirstScales() const {
  return KeepsAmaxHistory() && amax_known_ ? ScaleMode::kVerified : ScaleMode::kCurrent;
}

bool Executor::CollectsAmax() const {
  if (!plan_.precision.fp8 || phase_ != Phase::kTrain) return false;
  return plan_.precision.verified_scales || input_.wants_amax;
}

TensorView Executor::StepAmax() const {
  return memory_.slab.View(memory_.layout.words.step_amax, DType::kF32,
                           {CountBlockScales(plan_, spec_)});
}

TensorView Executor::HostAmax() const {
  return memory_.host.View(memory_.layout.words.host_amax, DType::kF32,
                           {CountBlockScales(plan_, spec_)});
}

TensorView Executor::HistoryView() const {
  return memory_.arena.View(memory_.layout.words.amax_history, DType::kF32,
                            {CountVerifiedScales(plan_, spec_)});
}

TensorView Executor::StepScales() const {
  return memory_.arena.View(memory_.layout.words.step_scales, DType::kF32,
                            {CountVerifiedScales(plan_, spec_), 4});
}

TensorView Executor::ScaleRecords(int micro_batch) const {
  const int64_t count = CountBlockScales(plan_, spec_);
  const int64_t slot = activations_.places().Slot(micro_batch);
  return memory_.arena.View(
      memory_.layout.scale_records + slot * count * static_cast<int64_t>(sizeof(ScaleRecord)),
      DType::kF32, {count, 4});
}

void Executor::BeginScales(int micro_batch, Stream& stream) {
  if (FirstScales() != ScaleMode::kVerified) return;
  backend_.Copy(stream, {.source = StepScales(), .destination = ScaleRecords(micro_batch)});
}

void Executor::CollectAmax(int micro_batch, Stream& stream) {
  if (!CollectsAmax()) return;
  std::vector<Lease> kept;
  for (int layer = 0; layer < static_cast<int>(spec_.config.num_layers); ++layer) {
    kept.push_back(activations_.Read(activations_.places().Kept(layer, micro_batch),
                                     ForwardNumber(micro_batch)));
  }
  const int64_t repairs = memory_.layout.words.sums + (kStepSumWords - 1) * int64_t{8};
  backend_.CollectAmax(stream, {.records = ScaleRecords(micro_batch),
                                .amax = StepAmax(),
                                .repairs = memory_.slab.View(repairs, DType::kI64, {1})});
}

void Executor::ReduceStepAmax(Stream& stream) {
  if (!CollectsAmax()) return;
  communicator_.AllReduce(stream, {.dtype = DType::kF32,
                                   .op = AllReduceOp::kMax,
                                   .range = {memory_.layout.words.step_amax, StepAmax().bytes()}});
}

void Executor::UpdateScales(Stream& stream) {
  if (!KeepsAmaxHistory()) return;
  UpdateScalesArgs args{
      .amax = StepAmax(),
      .control = memory_.arena.View(memory_.layout.words.control, DType::kI32, {2}),
      .formats = {},
      .history = HistoryView(),
      .scales = StepScales()};
  for (int scale = 0; scale < kBlockScaleCount; ++scale) {
    args.formats.push_back(FormatOf(static_cast<BlockScale>(scale), plan_.precision));
  }
  backend_.UpdateScales(stream, args);
}

std::vector<float> Executor::AmaxHistory() const {
  if (!amax_known_) return {};
  std::vector<float> history(static_cast<size_t>(CountVerifiedScales(plan_, spec_)));
  transfer_.Download(HistoryView(), history.data());
  return history;
}

void Executor::RestoreAmaxHistory(const std::vector<float>& history) {
  amax_known_ = false;
  if (history.empty()) return;
  CHECK(std::ssize(history) == CountVerifiedScales(plan_, spec_),
        "a history of {} amaxes for {} scales", history.size(), CountVerifiedScales(plan_, spec_));
  std::vector<ScaleRecord> records;
  for (size_t i = 0; i < history.size(); ++i) {
    CHECK(std::isfinite(history[i]) && history[i] >= 0, "an amax of {}", history[i]);
    const auto scale = static_cast<BlockScale>(i % kBlockScaleCount);
    const bool e5m2 = FormatOf(scale, plan_.precision) == DType::kF8E5M2;
    records.push_back(MakePowerScale(history[i], e5m2));
    records.back().amax = 0.0f;
  }
  transfer_.Upload(history.data(), HistoryView());
  transfer_.Upload(records.data(), StepScales());
  amax_known_ = true;
}

}  // namespace hearth
