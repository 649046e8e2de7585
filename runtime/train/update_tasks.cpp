// The executor's tasks behind the backward: reductions, clipping, the optimizer, new weights.

#include <algorithm>
#include <cstddef>

#include "runtime/train/executor.h"

namespace hearth {

namespace {

std::vector<AdamwSegment> SegmentsOf(const ModelSpec& spec, int unit, const ElementRange& range) {
  std::vector<AdamwSegment> segments;
  for (const ParameterPiece& piece : PiecesOf(spec, unit, range)) {
    segments.push_back({.begin = piece.range_begin,
                        .count = piece.count,
                        .first_element = piece.first_element,
                        .tensor_id = static_cast<uint32_t>(piece.parameter->tensor_id),
                        .decay = piece.parameter->decay});
  }
  return segments;
}

}  // namespace

bool Executor::Quantized(int unit) const {
  return Fp8Elements(plan_, spec_.units[static_cast<size_t>(unit)]) > 0;
}

int64_t Executor::StepOf(const Task& task) const {
  return task.step_offset != 0 ? pending_->step : input_.step;
}

void Executor::ReduceSums(const Task& task, Stream& stream) {
  if (task.kind == TaskKind::kExchangeSums) return ExchangeSums(stream);
  communicator_.AllReduce(stream,
                          {.dtype = DType::kI64,
                           .op = AllReduceOp::kSum,
                           .range = {memory_.layout.words.sums, kStepSumWords * int64_t{8}}});
  ReduceStepAmax(stream);
}

void Executor::Clip(Stream& stream) {
  const WordLayout& words = memory_.layout.words;
  const TensorView control = memory_.arena.View(words.control, DType::kI32, {2});
  backend_.Clip(stream, {.sum = memory_.slab.View(words.sums, DType::kI64, {kFixedPointWords}),
                         .losses = memory_.slab.View(words.sums + kFixedPointWords * int64_t{8},
                                                     DType::kI64, {kFixedPointWords}),
                         .max_norm = static_cast<float>(plan_.max_grad_norm),
                         .norm = memory_.arena.View(words.norm, DType::kF32, {1}),
                         .control = control});
  // The host optimizer reads its own copy, and so does the end of the step.
  Copy(stream, {.source = control,
                .destination = memory_.host.View(
                    words.host + static_cast<int64_t>(offsetof(StepWords, clip_factor)),
                    DType::kI32, {2})});
  UpdateScales(stream);
}

void Executor::MoveState(const Task& task, Stream& stream) {
  for (StateKind kind : {StateKind::kMaster, StateKind::kM, StateKind::kV}) {
    if (optimizer_.HomeTier(task.unit, kind) != Tier::kHost || task.elements.count() == 0) continue;
    const TensorView home = optimizer_.Home(task.unit, kind, task.elements);
    const TensorView staged = optimizer_.OnDevice(task.unit, kind, task.elements, task.slot);
    const bool fetch = task.kind == TaskKind::kFetchState;
    Copy(stream, {.source = fetch ? home : staged, .destination = fetch ? staged : home});
  }
}

TensorView Executor::NewWeights(const Task& task) const {
  const int64_t begin = task.elements.begin - parameters_.Updated(task.unit).begin;
  const auto part = [&](const TensorView& all) { return all.Rows(begin, task.elements.count()); };
  if (StagesWeights(plan_, spec_, task.unit)) {
    return part(optimizer_.StagedWeights(task.unit, StagingSlot(task.unit)));
  }
  return parameters_.InSlot(task.unit) ? part(parameters_.HomeDense(task.unit))
                                       : parameters_.Dense(task.unit, task.elements);
}

TensorView Executor::NewFp8(const Task& task) const {
  if (!parameters_.InSlot(task.unit)) {
    return parameters_.Fp8Values(task.unit, parameters_.Fp8Part(task.unit, task.elements));
  }
  return plan_.weights.tier == Tier::kHost ? optimizer_.StagedFp8(task.unit, task.slot)
                                           : parameters_.HomeFp8(task.unit);
}

TensorView Executor::NewDense(const Task& task) const {
  if (!parameters_.InSlot(task.unit)) {
    return parameters_.Dense(task.unit, parameters_.DensePart(task.unit, task.elements));
  }
  return plan_.weights.tier == Tier::kHost ? TensorView() : parameters_.HomeDense(task.unit);
}

AdamwArgs Executor::UpdateArgs(const Task& task) const {
  return {.hyper = task.step_offset != 0 ? pending_->hyper : input_.hyper,
          .segments = SegmentsOf(spec_, task.unit, task.elements)};
}

void Executor::Update(const Task& task, Stream& stream) {
  const Lease gradients = LeaseUpdatedGradient(task);
  const Lease weights = parameters_.Write(task.unit, StepOf(task));
  if (task.elements.count() > 0) {
    AdamwArgs args = UpdateArgs(task);
    args.master = optimizer_.OnDevice(task.unit, StateKind::kMaster, task.elements, task.slot);
    args.m = optimizer_.OnDevice(task.unit, StateKind::kM, task.elements, task.slot);
    args.v = optimizer_.OnDevice(task.unit, StateKind::kV, task.elements, task.slot);
    args.gradient = UpdatedGradient(task);
    args.control = memory_.arena.View(memory_.layout.words.control, DType::kI32, {2});
    args.weight = NewWeights(task);
    backend_.Adamw(stream, args);
  }
  StagedAmax(task, stream);
}

void Executor::UpdateOnHost(const Task& task) {
  if (task.elements.count() == 0) return;
  AdamwArgs args = UpdateArgs(task);
  args.master = optimizer_.Home(task.unit, StateKind::kMaster);
  args.m = optimizer_.Home(task.unit, StateKind::kM);
  args.v = optimizer_.Home(task.unit, StateKind::kV);
  args.gradient = HostGradient(task);
  args.control = memory_.host.View(
      memory_.layout.words.host + static_cast<int64_t>(offsetof(StepWords, clip_factor)),
      DType::kI32, {2});
  args.weight = optimizer_.HostWeights(task.unit, task.slot);
  std::vector<float> amax(args.segments.size(), 0.0f);
  host_optimizer_->adamw().Update(args, amax);
  StoreHostAmax(task, amax);
}

void Executor::StoreHostAmax(const Task& task, const std::vector<float>& amax) const {
  if (!Quantized(task.unit)) return;
  float* matrices = optimizer_.HostAmax(task.unit, task.slot).as<float>();
  std::fill(matrices, matrices + CountFp8(spec_, task.unit), 0.0f);
  const std::vector<ParameterPiece> pieces = PiecesOf(spec_, task.unit, task.elements);
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].fp8_index >= 0) matrices[pieces[i].fp8_index] = amax[i];
  }
}

void Executor::CastMasterOnHost(const Task& task) {
  if (task.elements.count() == 0) return;
  AdamwArgs args = UpdateArgs(task);
  args.master = optimizer_.Home(task.unit, StateKind::kMaster);
  args.weight = optimizer_.HostWeights(task.unit, task.slot);
  std::vector<float> amax(args.segments.size(), 0.0f);
  host_optimizer_->adamw().RoundMaster(args, amax);
  StoreHostAmax(task, amax);
}

void Executor::MoveWeights(const Task& task, Stream& stream) {
  if (task.kind == TaskKind::kFetchWeights) {
    const bool is_staged = task.source != plan_.weights.tier && pending_;
    return is_staged ? TakeStagedWeights(task, stream) : FetchWeights(task, stream);
  }
  if (task.kind == TaskKind::kStoreWeights) return StoreWeights(task, stream);
  WeightsToDevice(task, stream);
}

void Executor::WeightsToDevice(const Task& task, Stream& stream) {
  const Lease weights = parameters_.Write(task.unit, StepOf(task));
  if (Quantized(task.unit)) {
    // A rank without a piece of a matrix contributes zero to its amax.
    if (task.elements.count() == 0) {
      backend_.Zero(stream, {.destination = parameters_.Amax(task.unit)});
      return;
    }
    Copy(stream, {.source = optimizer_.HostAmax(task.unit, task.slot),
                  .destination = parameters_.Amax(task.unit)});
  }
  if (task.elements.count() == 0) return;
  Copy(stream,
       {.source = optimizer_.HostWeights(task.unit, task.slot), .destination = NewWeights(task)});
}

void Executor::CastMaster(const Task& task, Stream& stream) {
  const Lease weights = parameters_.Write(task.unit, StepOf(task));
  if (task.elements.count() > 0) {
    const TensorView master =
        optimizer_.OnDevice(task.unit, StateKind::kMaster, task.elements, task.slot);
    const TensorView out = NewWeights(task);
    if (master.dtype() == out.dtype()) {
      Copy(stream, {.source = master, .destination = out});
    } else {
      backend_.Cast(stream, {.source = master, .destination = out});
    }
  }
  StagedAmax(task, stream);
}

void Executor::StagedAmax(const Task& task, Stream& stream) {
  if (!Quantized(task.unit)) return;
  const TensorView amax = parameters_.Amax(task.unit);
  const bool first = task.elements.begin == parameters_.Updated(task.unit).begin;
  if (first) backend_.Zero(stream, {.destination = amax});
  if (task.elements.count() == 0) return;
  const TensorView staged = NewWeights(task);
  for (const ParameterPiece& piece : PiecesOf(spec_, task.unit, task.elements)) {
    if (piece.fp8_index < 0) continue;
    backend_.Amax(stream, {.input = staged.Rows(piece.range_begin, piece.count),
                           .amax = amax.Rows(piece.fp8_index, 1),
                           .accumulate = true});
  }
}

void Executor::ReduceAmax(const Task& task, Stream& stream) {
  communicator_.AllReduce(
      stream,
      {.dtype = DType::kF32, .op = AllReduceOp::kMax, .range = parameters_.AmaxSlab(task.unit)});
}

void Executor::QuantizeWeights(const Task& task, Stream& stream) {
  const Lease weights = parameters_.Write(task.unit, StepOf(task));
  const TensorView scales = parameters_.Scales(task.unit);
  backend_.ScaleFromAmax(
      stream, {.amax = parameters_.Amax(task.unit), .scales = scales, .format = DType::kF8E4M3});
  if (task.elements.count() == 0) return;
  const TensorView staged = optimizer_.StagedWeights(task.unit, task.slot);
  const TensorView fp8 = NewFp8(task), out = NewDense(task);
  for (const ParameterPiece& piece : PiecesOf(spec_, task.unit, task.elements)) {
    if (piece.fp8_index < 0) continue;
    const Shape row{1, piece.count};
    backend_.Quantize(stream,
                      {.input = staged.Rows(piece.range_begin, piece.count).Reshape(row),
                       .output = {.values = fp8.Rows(piece.range_begin, piece.count).Reshape(row),
                                  .scale = scales.Rows(piece.fp8_index, 1).Reshape({4}),
                                  .mode = ScaleMode::kGiven}});
  }
  const ElementRange dense = parameters_.DensePart(task.unit, task.elements);
  if (dense.count() == 0 || !out) return;
  Copy(stream, {.source = staged.Rows(dense.begin - task.elements.begin, dense.count()),
                .destination = out});
}

void Executor::StoreWeights(const Task& task, Stream& stream) {
  const Lease home = parameters_.Write(task.unit, StepOf(task));
  const ElementRange dense = parameters_.DensePart(task.unit, task.elements);
  const TensorView fp8 = parameters_.HomeFp8(task.unit);
  if (fp8.elements() > 0) {
    Copy(stream, {.source = optimizer_.StagedFp8(task.unit, task.slot), .destination = fp8});
  }
  if (dense.count() == 0) return;
  Copy(stream, {.source = optimizer_.StagedWeights(task.unit, task.slot)
                              .Rows(dense.begin - task.elements.begin, dense.count()),
                .destination = parameters_.HomeDense(task.unit)});
}

// From this rank's place of the plan, not the task's: a rank that warms up alone has its shard too.
void Executor::FetchWeights(const Task& task, Stream& stream) {
  const Lease home = parameters_.ReadHome(task.unit, weights_version_);
  const Lease slot = parameters_.FillSlot(task.unit, weights_version_);
  const ElementRange own = parameters_.Updated(task.unit);
  const ElementRange fp8 = parameters_.Fp8Part(task.unit, own);
  const ElementRange dense = parameters_.DensePart(task.unit, own);
  if (fp8.count() > 0) {
    Copy(stream, {.source = parameters_.HomeFp8(task.unit),
                  .destination = parameters_.Fp8Values(task.unit, fp8)});
  }
  if (dense.count() == 0) return;
  Copy(stream, {.source = parameters_.HomeDense(task.unit),
                .destination = parameters_.Dense(task.unit, dense)});
}

void Executor::TakeStagedWeights(const Task& task, Stream& stream) {
  const Lease home = parameters_.ReadHome(task.unit, weights_version_);  // is made of the same
  const Lease slot = parameters_.FillSlot(task.unit, weights_version_);
  const int staging = StagingSlot(task.unit);
  const ElementRange fp8 = parameters_.Fp8Part(task.unit, task.elements);
  const ElementRange dense = parameters_.DensePart(task.unit, task.elements);
  if (fp8.count() > 0) {
    Copy(stream, {.source = optimizer_.StagedFp8(task.unit, staging),
                  .destination = parameters_.Fp8Values(task.unit, fp8)});
  }
  if (dense.count() == 0) return;
  Copy(stream, {.source = optimizer_.StagedWeights(task.unit, staging)
                              .Rows(dense.begin - task.elements.begin, dense.count()),
                .destination = parameters_.Dense(task.unit, dense)});
}

void Executor::LoadWeights(int unit, Stream& stream) {
  if (!parameters_.InSlot(unit)) return;
  FetchWeights({.unit = unit}, stream);
  if (plan_.SharesUpdates()) GatherWeights({.unit = unit}, stream);
}

void Executor::LoadFirstBlocks() {
  if (!plan_.weights.sharded) return;
  Stream& stream = *streams_[static_cast<size_t>(StreamId::kCompute)];
  const int layers = static_cast<int>(spec_.config.num_layers);
  for (int layer = 0; layer < std::min(layers, kUnitSlots); ++layer) {
    LoadWeights(spec_.block_unit(layer), stream);
  }
  stream.Synchronize(options_.step_timeout);
}

void Executor::GatherWeights(const Task& task, Stream& stream) {
  // What has been fetched into a slot is this rank's part of what is there afterwards.
  const bool in_slot = parameters_.InSlot(task.unit);
  if (in_slot) parameters_.Read(task.unit, weights_version_);
  const Lease weights = in_slot ? parameters_.FillSlot(task.unit, weights_version_)
                                : parameters_.Write(task.unit, StepOf(task));
  const UnitSpec& unit = spec_.units[static_cast<size_t>(task.unit)];
  AllGatherArgs fp8, dense;
  for (int rank = 0; rank < plan_.RanksPerBox(); ++rank) {
    const ElementRange shard = plan_.Shard(unit, rank);
    fp8.ranges.push_back(parameters_.Fp8Slab(task.unit, parameters_.Fp8Part(task.unit, shard)));
    dense.ranges.push_back(
        parameters_.DenseSlab(task.unit, parameters_.DensePart(task.unit, shard)));
  }
  if (Quantized(task.unit)) communicator_.AllGather(stream, fp8);
  communicator_.AllGather(stream, dense);
}

void Executor::TransposeWeights(const Task& task, Stream& stream) {
  Lease weights, transposed;
  if (parameters_.InSlot(task.unit)) {
    weights = parameters_.Read(task.unit, weights_version_);
    transposed = parameters_.FillTransposed(task.unit, weights_version_);
  } else {
    weights = parameters_.Write(task.unit, StepOf(task));
  }
  if (task.unit == spec_.embedding_unit()) return QuantizeTiedHead(stream);
  for (const ParameterSpec& parameter : spec_.UnitParameters(task.unit)) {
    if (!parameter.fp8) continue;
    const ParameterView view = parameters_.Parameter(task.unit, parameter.role);
    backend_.Transpose(stream, {.input = view.values, .output = view.transposed});
  }
}

// Every rank has the whole table, so that all find the same scale without being told.
void Executor::QuantizeTiedHead(Stream& stream) {
  const ParameterView head = parameters_.HeadMatrix();
  const ParameterSpec& table = spec_.HeadMatrix();
  backend_.Quantize(stream, {.input = parameters_.Parameter(table.unit, table.role).values,
                             .output = {.values = head.values,
                                        .transposed = head.transposed,
                                        .scale = head.scale,
                                        .mode = ScaleMode::kCurrent}});
}

}  // namespace hearth
