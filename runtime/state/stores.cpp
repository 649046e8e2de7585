#include "runtime/state/stores.h"

#include <algorithm>
#include <array>

#include "kernels/core/check.h"

namespace hearth {

namespace {

int UnitCount(const RankMemory& memory) { return static_cast<int>(memory.spec.units.size()); }

const UnitSpec& UnitOf(const RankMemory& memory, int unit) {
  return memory.spec.units.at(static_cast<size_t>(unit));
}

const UnitLayout& LayoutOf(const RankMemory& memory, int unit) {
  return memory.layout.units.at(static_cast<size_t>(unit));
}

// What is empty begins with `a`, so that it has a place there.
ElementRange Intersect(const ElementRange& a, const ElementRange& b) {
  const int64_t begin = std::max(a.begin, b.begin);
  const int64_t end = std::min(a.end, b.end);
  return begin < end ? ElementRange{begin, end} : ElementRange{a.begin, a.begin};
}

}  // namespace

RankMemory::RankMemory(Device& device, const Plan& plan_in, const ModelSpec& spec_in, int rank_in)
    : plan(plan_in),
      spec(spec_in),
      rank(rank_in),
      layout(MakeMemoryLayout(plan_in, spec_in, rank_in)),
      slab(device, MemoryKind::kDevice, layout.slab_bytes, "exchange slab"),
      arena(device, MemoryKind::kDevice, layout.arena_bytes, "device arena"),
      host(device, MemoryKind::kPinnedHost, layout.host_bytes, "host slab") {}

ElementRange UpdatedPart(const RankMemory& memory, const ParameterSpec& parameter,
                         const ElementRange& range) {
  const ElementRange owned = memory.plan.Updated(UnitOf(memory, parameter.unit), memory.rank);
  const int64_t first = std::max(parameter.unit_offset + range.begin, owned.begin);
  const int64_t last = std::min(parameter.unit_offset + range.end, owned.end);
  return {first, std::max(first, last)};
}

std::vector<ParameterPiece> PiecesOf(const ModelSpec& spec, int unit, const ElementRange& range) {
  std::vector<ParameterPiece> pieces;
  int fp8_index = 0;
  for (const ParameterSpec& parameter : spec.UnitParameters(unit)) {
    const int index = parameter.fp8 ? fp8_index++ : -1;
    const ElementRange own{parameter.unit_offset, parameter.unit_offset + parameter.elements()};
    const ElementRange common = Intersect(own, range);
    if (common.count() == 0) continue;
    pieces.push_back({.parameter = &parameter,
                      .fp8_index = index,
                      .range_begin = common.begin - range.begin,
                      .first_element = common.begin - own.begin,
                      .count = common.count()});
  }
  return pieces;
}

ParameterStore::ParameterStore(const RankMemory& memory)
    : memory_(memory),
      leases_("weights of unit", UnitCount(memory)),
      slots_("weight slot (version * units + unit)", kUnitSlots),
      transposed_("transposed weights (version * units + unit)", 1) {}

int64_t ParameterStore::Content(int unit, int64_t version) const {
  return version * UnitCount(memory_) + unit;
}

Lease ParameterStore::Read(int unit, int64_t version) {
  return InSlot(unit) ? slots_.Read(Slot(unit), Content(unit, version))
                      : leases_.Read(unit, version);
}

Lease ParameterStore::ReadTransposed(int unit, int64_t version) {
  const bool own = !InSlot(unit) || Fp8Elements(memory_.plan, Unit(unit)) == 0;
  return own ? Lease() : transposed_.Read(0, Content(unit, version));
}

Lease ParameterStore::FillSlot(int unit, int64_t version) {
  return slots_.Write(Slot(unit), Content(unit, version));
}

Lease ParameterStore::FillTransposed(int unit, int64_t version) {
  return transposed_.Write(0, Content(unit, version));
}

ElementRange ParameterStore::Updated(int unit) const {
  return memory_.plan.Updated(Unit(unit), memory_.rank);
}

TensorView ParameterStore::HomeFp8(int unit) const {
  return memory_.Of(memory_.plan.weights.tier)
      .View(Layout(unit).home_fp8, DType::kF8E4M3, {Fp8Part(unit, Updated(unit)).count()});
}

TensorView ParameterStore::HomeDense(int unit) const {
  return memory_.Of(memory_.plan.weights.tier)
      .View(Layout(unit).home_dense, memory_.plan.precision.storage,
            {DensePart(unit, Updated(unit)).count()});
}

const UnitLayout& ParameterStore::Layout(int unit) const { return LayoutOf(memory_, unit); }
const UnitSpec& ParameterStore::Unit(int unit) const { return UnitOf(memory_, unit); }

ElementRange ParameterStore::Fp8Part(int unit, const ElementRange& range) const {
  return Intersect({0, Layout(unit).dense_begin}, range);
}

ElementRange ParameterStore::DensePart(int unit, const ElementRange& range) const {
  return Intersect({Layout(unit).dense_begin, Unit(unit).elements}, range);
}

TensorView ParameterStore::Dense(int unit, const ElementRange& range) const {
  const SlabRange bytes = DenseSlab(unit, range);
  return memory_.slab.View(bytes.offset_bytes, memory_.plan.precision.storage, {range.count()});
}

TensorView ParameterStore::Fp8Values(int unit, const ElementRange& range) const {
  return memory_.slab.View(Fp8Slab(unit, range).offset_bytes, DType::kF8E4M3, {range.count()});
}

SlabRange ParameterStore::DenseSlab(int unit, const ElementRange& dense) const {
  const int64_t begin = Layout(unit).dense_begin;
  CHECK(dense.begin >= begin && dense.end <= Unit(unit).elements,
        "elements {}..{} of unit {} are not dense", dense.begin, dense.end, unit);
  const int64_t size = SizeOf(memory_.plan.precision.storage);
  return {Layout(unit).dense + (dense.begin - begin) * size, dense.count() * size};
}

SlabRange ParameterStore::Fp8Slab(int unit, const ElementRange& fp8) const {
  CHECK(fp8.begin >= 0 && fp8.end <= Layout(unit).dense_begin,
        "elements {}..{} of unit {} are not FP8", fp8.begin, fp8.end, unit);
  return {Layout(unit).fp8_values + fp8.begin, fp8.count()};
}

SlabRange ParameterStore::AmaxSlab(int unit) const {
  return {Layout(unit).amax, int64_t{4} * CountFp8(memory_.spec, unit)};
}

TensorView ParameterStore::Scales(int unit) const {
  return memory_.arena.View(Layout(unit).scales, DType::kF32, {CountFp8(memory_.spec, unit), 4});
}

TensorView ParameterStore::Amax(int unit) const {
  return memory_.slab.View(Layout(unit).amax, DType::kF32, {CountFp8(memory_.spec, unit)});
}

ParameterView ParameterStore::Parameter(int unit, ParameterRole role) const {
  const ParameterSpec* parameter = memory_.spec.Find(unit, role);
  if (parameter == nullptr) return {};
  const ElementRange range{parameter->unit_offset,
                           parameter->unit_offset + parameter->stored_elements};
  if (!parameter->fp8 || Fp8Elements(memory_.plan, Unit(unit)) == 0) {
    return {.values = Dense(unit, range).Reshape(parameter->stored_shape)};
  }
  int index = 0;
  for (const ParameterSpec& other : memory_.spec.UnitParameters(unit)) {
    if (&other == parameter) break;
    index += other.fp8 ? 1 : 0;
  }
  const Shape& shape = parameter->stored_shape;
  return {.values = Fp8Values(unit, range).Reshape(shape),
          .transposed = memory_.arena.View(Layout(unit).fp8_transposed + range.begin,
                                           DType::kF8E4M3, {shape[1], shape[0]}),
          .scale = Scales(unit).Rows(index, 1).Reshape({4})};
}

ParameterView ParameterStore::HeadMatrix() const {
  const ParameterSpec& matrix = memory_.spec.HeadMatrix();
  if (!HasTiedFp8Head(memory_.plan, memory_.spec)) return Parameter(matrix.unit, matrix.role);
  const TiedHeadLayout& layout = memory_.layout.tied_head;
  const Shape& shape = matrix.stored_shape;
  return {.values = memory_.arena.View(layout.values, DType::kF8E4M3, shape),
          .transposed = memory_.arena.View(layout.transposed, DType::kF8E4M3, {shape[1], shape[0]}),
          .scale = memory_.arena.View(layout.scale, DType::kF32, {4})};
}

GradientStore::GradientStore(const RankMemory& memory)
    : memory_(memory),
      places_(memory.plan, memory.spec),
      whole_("gradients of unit or slot", UnitCount(memory) + kGradientSlots),
      sums_("gradient sums of unit or slot", UnitCount(memory) + kGradientSlots),
      on_host_("gradients on the host of unit", UnitCount(memory)) {
  holders_.fill(-1);
}

int GradientStore::Entry(int unit, bool by_slot) const {
  return by_slot ? UnitCount(memory_) + places_.Slot(unit) : unit;
}

void GradientStore::CheckHolder(int unit) const {
  if (!places_.InSlot(unit)) return;
  const int holder = holders_.at(static_cast<size_t>(places_.Slot(unit)));
  CHECK(holder == unit, "gradients of unit {}, whose slot unit {} has", unit, holder);
}

Lease GradientStore::Read(int unit, int64_t version) {
  CheckHolder(unit);
  return whole_.Read(Entry(unit, places_.InSlot(unit)), version);
}

Lease GradientStore::Write(int unit, int64_t version) {
  Lease lease = whole_.Write(Entry(unit, places_.InSlot(unit)), version);
  if (places_.InSlot(unit)) holders_.at(static_cast<size_t>(places_.Slot(unit))) = unit;
  return lease;
}

Lease GradientStore::AddTo(int unit, int64_t version) {
  CheckHolder(unit);
  return Write(unit, version);
}

Lease GradientStore::ReadSum(int unit, int64_t version) {
  if (!places_.HasShardSum(unit)) return Read(unit, version);
  return sums_.Read(Entry(unit, places_.OnHost(unit)), version);
}

Lease GradientStore::WriteSum(int unit, int64_t version) {
  if (!places_.HasShardSum(unit)) return Write(unit, version);
  return sums_.Write(Entry(unit, places_.OnHost(unit)), version);
}

SlabRange GradientStore::Slab(int unit, const ElementRange& range) const {
  const int64_t size = SizeOf(memory_.plan.precision.gradient);
  return {LayoutOf(memory_, unit).gradients + range.begin * size, range.count() * size};
}

TensorView GradientStore::Range(int unit, const ElementRange& range) const {
  CHECK(range.begin >= 0 && range.end <= UnitOf(memory_, unit).elements,
        "gradients {}..{} of unit {}", range.begin, range.end, unit);
  return memory_.slab.View(Slab(unit, range).offset_bytes, memory_.plan.precision.gradient,
                           {range.count()});
}

TensorView GradientStore::Parameter(int unit, ParameterRole role) const {
  const ParameterSpec* parameter = memory_.spec.Find(unit, role);
  if (parameter == nullptr) return {};
  return Range(unit, {parameter->unit_offset, parameter->unit_offset + parameter->stored_elements})
      .Reshape(parameter->stored_shape);
}

TensorView GradientStore::ShardSum(int unit) const {
  if (!places_.HasShardSum(unit)) return {};
  return memory_.arena.View(LayoutOf(memory_, unit).shard_gradients,
                            memory_.plan.precision.gradient,
                            {memory_.plan.Shard(UnitOf(memory_, unit), memory_.rank).count()});
}

TensorView GradientStore::OnHost(int unit, const ElementRange& range) const {
  const ElementRange held = places_.HostRange(unit, memory_.rank);
  CHECK(places_.OnHost(unit) && range.begin >= held.begin && range.end <= held.end,
        "gradients {}..{} of unit {}, the host has {}..{}", range.begin, range.end, unit,
        held.begin, held.end);
  const DType dtype = memory_.plan.precision.gradient;
  return memory_.host.View(
      LayoutOf(memory_, unit).host_gradients + (range.begin - held.begin) * SizeOf(dtype), dtype,
      {range.count()});
}

ActivationStore::ActivationStore(const RankMemory& memory)
    : memory_(memory),
      places_(memory.plan, memory.spec),
      table_(BlockTensors(memory.spec.config, memory.plan.precision,
                          memory.plan.tokens_per_micro_batch)),
      kept_("activations of layer and micro-batch", places_.kept_count()),
      boundaries_("block input in place", places_.count()),
      host_("block input on the host in place", places_.host_count()) {}

TensorView ActivationStore::Block(int layer, int micro_batch, Pass pass, BlockTensor tensor) const {
  const BlockTensorSpec& row = table_[static_cast<size_t>(tensor)];
  const bool forward = pass == Pass::kForward;
  if (row.lifetime == Lifetime::kAbsent) return {};
  if (tensor == BlockTensor::kInput) {
    return Boundary(forward ? places_.Input(layer, micro_batch)
                            : places_.BackwardInput(layer, micro_batch));
  }
  if (tensor == BlockTensor::kOutput) {
    return forward ? Boundary(places_.Input(layer + 1, micro_batch)) : TensorView{};
  }
  if (tensor == BlockTensor::kDOutput) {
    return forward ? TensorView{} : Boundary(places_.Gradient(micro_batch));
  }
  if (memory_.plan.inference && row.lifetime == Lifetime::kBackward) return {};
  const int64_t offset =
      memory_.layout.block_tensors.at(static_cast<size_t>(places_.Kept(layer, micro_batch)))
          .at(static_cast<size_t>(tensor));
  return memory_.arena.View(offset, row.dtype, row.shape);
}

TensorView ActivationStore::Boundary(int place) const {
  return memory_.arena.View(memory_.layout.boundaries.at(static_cast<size_t>(place)),
                            memory_.plan.precision.storage,
                            {memory_.plan.tokens_per_micro_batch, memory_.spec.config.hidden_size});
}

TensorView ActivationStore::HostBoundary(int entry) const {
  return memory_.host.View(memory_.layout.host_boundaries.at(static_cast<size_t>(entry)),
                           memory_.plan.precision.storage,
                           {memory_.plan.tokens_per_micro_batch, memory_.spec.config.hidden_size});
}

TensorView ActivationStore::AttentionWorkspace() const {
  const MemoryLayout& layout = memory_.layout;
  const int64_t logits = memory_.plan.head_chunk_tokens * memory_.spec.padded_vocab_size() *
                         SizeOf(memory_.plan.precision.storage);
  if (logits <= layout.workspace_bytes) return Workspace();
  return memory_.arena.View(layout.head.logits, DType::kU8, {logits});
}

TensorView ActivationStore::Workspace() const {
  return memory_.arena.View(memory_.layout.workspace, DType::kU8, {memory_.layout.workspace_bytes});
}

TensorView ActivationStore::CosSin() const {
  return memory_.arena.View(memory_.layout.cos_sin, DType::kF32,
                            {memory_.plan.sequence_len, memory_.spec.config.head_dim});
}

std::string_view Name(StateKind kind) {
  constexpr std::array<std::string_view, kStateKindCount> kNames = {"master", "m", "v"};
  return kNames[static_cast<size_t>(kind)];
}

Tier OptimizerStore::HomeTier(int unit, StateKind kind) const {
  const OptimizerPlacement& place = memory_.plan.PlacementOf(unit);
  return kind == StateKind::kMaster ? place.master : kind == StateKind::kM ? place.m : place.v;
}

DType OptimizerStore::Type(StateKind kind) const {
  const StateTypes& types = memory_.plan.state_types;
  return kind == StateKind::kMaster ? types.master : kind == StateKind::kM ? types.m : types.v;
}

Shape OptimizerStore::UpdatedShape(int unit) const {
  return {memory_.plan.Updated(UnitOf(memory_, unit), memory_.rank).count()};
}

TensorView OptimizerStore::Home(int unit, StateKind kind) const {
  const StateLayout& layout = memory_.layout.states.at(static_cast<size_t>(unit));
  const int64_t offset = kind == StateKind::kMaster ? layout.master
                         : kind == StateKind::kM    ? layout.m
                                                    : layout.v;
  return memory_.Of(HomeTier(unit, kind)).View(offset, Type(kind), UpdatedShape(unit));
}

TensorView OptimizerStore::Home(int unit, StateKind kind, const ElementRange& range) const {
  const int64_t begin = memory_.plan.Updated(UnitOf(memory_, unit), memory_.rank).begin;
  return Home(unit, kind).Rows(range.begin - begin, range.count());
}

TensorView OptimizerStore::OnDevice(int unit, StateKind kind, const ElementRange& range,
                                    int slot) const {
  if (HomeTier(unit, kind) == Tier::kDevice) return Home(unit, kind, range);
  return memory_.arena.View(memory_.layout.state_slots[slot].state[static_cast<int>(kind)],
                            Type(kind), {range.count()});
}

TensorView OptimizerStore::StagedWeights(int unit, int slot) const {
  return memory_.arena.View(memory_.layout.staging[slot].weights, memory_.plan.precision.storage,
                            UpdatedShape(unit));
}

TensorView OptimizerStore::StagedFp8(int unit, int slot) const {
  const ElementRange own = memory_.plan.Updated(UnitOf(memory_, unit), memory_.rank);
  return memory_.arena.View(memory_.layout.staging[slot].fp8, DType::kF8E4M3,
                            {Intersect({0, LayoutOf(memory_, unit).dense_begin}, own).count()});
}

TensorView OptimizerStore::HostGradients(int unit, int slot) const {
  return memory_.host.View(memory_.layout.staging[slot].host_gradients,
                           memory_.plan.precision.gradient, UpdatedShape(unit));
}

TensorView OptimizerStore::HostWeights(int unit, int slot) const {
  const bool at_home = UpdatesWeightsAtHome(memory_.plan, memory_.spec, unit);
  const int64_t offset =
      at_home ? LayoutOf(memory_, unit).home_dense : memory_.layout.staging[slot].host_weights;
  return memory_.host.View(offset, memory_.plan.precision.storage, UpdatedShape(unit));
}

TensorView OptimizerStore::HostAmax(int unit, int slot) const {
  return memory_.host.View(memory_.layout.staging[slot].host_amax, DType::kF32,
                           {CountFp8(memory_.spec, unit)});
}

}  // namespace hearth
