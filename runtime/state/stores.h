// The tensors of a rank, by their name in the model. Stores place nothing and decide nothing: the
// plan's memory layout says where things are, and a lease on what no task has made is an error.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "comm/api/communicator.h"
#include "runtime/memory/arena.h"
#include "runtime/model/model_spec.h"
#include "runtime/plan/boundary_places.h"
#include "runtime/plan/gradient_places.h"
#include "runtime/plan/memory_layout.h"
#include "runtime/state/lease.h"

namespace hearth {

// The three allocations of a rank, exactly as large as the plan says, and what lies where.
struct RankMemory {
  RankMemory(Device& device, const Plan& plan, const ModelSpec& spec, int rank);

  const Plan& plan;
  const ModelSpec& spec;
  const int rank;
  const MemoryLayout layout;
  Arena slab;   // device, registered with the communicator
  Arena arena;  // device
  Arena host;   // pinned host

  const Arena& Of(Tier tier) const { return tier == Tier::kDevice ? arena : host; }
};

// One parameter's working weight.
struct ParameterView {
  TensorView values;      // stored shape: f8 for an FP8 matrix, else the storage type
  TensorView transposed;  // [columns, rows] f8, FP8 matrices only
  TensorView scale;       // [4] f32 ScaleRecord, FP8 matrices only
};

// The part of elements [range) of a parameter that this rank updates, relative to the unit; empty,
// somewhere, where there is none.
ElementRange UpdatedPart(const RankMemory& memory, const ParameterSpec& parameter,
                         const ElementRange& range);

// A piece of a parameter inside an element range of its unit.
struct ParameterPiece {
  const ParameterSpec* parameter = nullptr;
  int fp8_index = -1;         // among the unit's FP8 matrices
  int64_t range_begin = 0;    // first element, relative to the range
  int64_t first_element = 0;  // the same element in the parameter
  int64_t count = 0;
};

// The logical parameters that overlap a range, in order; padding belongs to none.
std::vector<ParameterPiece> PiecesOf(const ModelSpec& spec, int unit, const ElementRange& range);

class ParameterStore {
 public:
  explicit ParameterStore(const RankMemory& memory);

  // The version of a unit's weights is the step whose update they contain; 0 for initial ones.
  // Read and ReadTransposed are for whoever computes with them; Write is the update's.
  Lease Read(int unit, int64_t version);
  Lease ReadTransposed(int unit, int64_t version);
  Lease Write(int unit, int64_t version) { return leases_.Write(unit, version); }
  // Of a unit that takes turns in a slot: on the way from home to there, and to the second copy.
  bool InSlot(int unit) const { return memory_.plan.WeightsInSlot(Unit(unit)); }
  Lease ReadHome(int unit, int64_t version) { return leases_.Read(unit, version); }
  Lease FillSlot(int unit, int64_t version);
  Lease FillTransposed(int unit, int64_t version);

  // A parameter the unit has not gives absent views.
  ParameterView Parameter(int unit, ParameterRole role) const;
  // What the LM head reads: its own matrix, or the embedding's table; in FP8 where the plan says.
  ParameterView HeadMatrix() const;
  // [count] in the storage type; the range (of the unit) lies in its dense part.
  TensorView Dense(int unit, const ElementRange& range) const;
  // [count] f8; the range lies in the unit's FP8 prefix.
  TensorView Fp8Values(int unit, const ElementRange& range) const;
  // What this rank updates, of a unit that takes turns in a slot: [its FP8 part] and [its dense
  // part], at home.
  TensorView HomeFp8(int unit) const;
  TensorView HomeDense(int unit) const;
  ElementRange Updated(int unit) const;
  TensorView Scales(int unit) const;  // [FP8 matrices, 4] f32
  TensorView Amax(int unit) const;    // [FP8 matrices] f32
  // The parts of a range that are dense, and that are FP8; either may be empty.
  ElementRange DensePart(int unit, const ElementRange& range) const;
  ElementRange Fp8Part(int unit, const ElementRange& range) const;
  // Where such a part lies in the slab.
  SlabRange DenseSlab(int unit, const ElementRange& dense) const;
  SlabRange Fp8Slab(int unit, const ElementRange& fp8) const;
  SlabRange AmaxSlab(int unit) const;

 private:
  const UnitLayout& Layout(int unit) const;
  const UnitSpec& Unit(int unit) const;
  int Slot(int unit) const { return UnitSlot(Unit(unit).layer); }
  // Who is there, in which version, as one number.
  int64_t Content(int unit, int64_t version) const;

  const RankMemory& memory_;
  LeaseTable leases_;
  LeaseTable slots_;
  LeaseTable transposed_;
};

// Where GradientPlaces says. A version counts micro-batches: step * micro-batches of a step +
// micro-batches contained - 1.
class GradientStore {
 public:
  explicit GradientStore(const RankMemory& memory);

  const GradientPlaces& places() const { return places_; }
  // The whole gradient. Write gives the unit its slot, which the one before then has lost; Read and
  // AddTo are a CheckError without.
  Lease Read(int unit, int64_t version);
  Lease Write(int unit, int64_t version);
  Lease AddTo(int unit, int64_t version);
  // The sum over ranks on the device; of units without a ShardSum the whole gradient.
  Lease ReadSum(int unit, int64_t version);
  Lease WriteSum(int unit, int64_t version);
  // The sum on the host.
  Lease ReadHost(int unit, int64_t version) { return on_host_.Read(unit, version); }
  Lease WriteHost(int unit, int64_t version) { return on_host_.Write(unit, version); }

  // [stored shape] in the gradient type; absent when the unit has no such parameter.
  TensorView Parameter(int unit, ParameterRole role) const;
  // [count] of the whole unit.
  TensorView Range(int unit, const ElementRange& range) const;
  SlabRange Slab(int unit, const ElementRange& range) const;
  // [shard] where GradientPlaces::HasShardSum; absent otherwise.
  TensorView ShardSum(int unit) const;
  // [count] on the host, where GradientPlaces::OnHost; the range lies in HostRange.
  TensorView OnHost(int unit, const ElementRange& range) const;

 private:
  // The entry of a unit in a table by unit or by slot.
  int Entry(int unit, bool by_slot) const;
  void CheckHolder(int unit) const;

  const RankMemory& memory_;
  const GradientPlaces places_;
  // Units, then slots.
  LeaseTable whole_;
  LeaseTable sums_;
  LeaseTable on_host_;
  std::array<int, kGradientSlots> holders_;
};

enum class Pass : uint8_t { kForward, kBackward };

// Tensors between forward and backward. The version of a layer's kept tensors is the number of the
// forward that made them; entries and places are those of BoundaryPlaces.
class ActivationStore {
 public:
  explicit ActivationStore(const RankMemory& memory);

  const BoundaryPlaces& places() const { return places_; }
  Lease Read(int entry, int64_t version) { return kept_.Read(entry, version); }
  Lease Write(int entry, int64_t version) { return kept_.Write(entry, version); }
  Lease ReadBoundary(int place, int64_t version) { return boundaries_.Read(place, version); }
  Lease WriteBoundary(int place, int64_t version) { return boundaries_.Write(place, version); }
  Lease ReadHost(int entry, int64_t version) { return host_.Read(entry, version); }
  Lease WriteHost(int entry, int64_t version) { return host_.Write(entry, version); }

  // The pass decides where a block's input lies; its output is the forward's, its gradient the
  // backward's.
  TensorView Block(int layer, int micro_batch, Pass pass, BlockTensor tensor) const;
  TensorView Boundary(int place) const;      // [N, hidden]
  TensorView HostBoundary(int entry) const;  // [N, hidden], host
  TensorView Workspace() const;              // u8
  // u8, no smaller: the logits' memory where that is larger, for no head runs beside attention.
  TensorView AttentionWorkspace() const;
  TensorView CosSin() const;  // [sequence_len, head_dim] f32

 private:
  const RankMemory& memory_;
  const BoundaryPlaces places_;
  const std::vector<BlockTensorSpec> table_;
  LeaseTable kept_;
  LeaseTable boundaries_;
  LeaseTable host_;
};

enum class StateKind : uint8_t { kMaster, kM, kV };
constexpr int kStateKindCount = 3;
std::string_view Name(StateKind kind);

// A rank's part of master weights and moments, in their home tiers.
class OptimizerStore {
 public:
  explicit OptimizerStore(const RankMemory& memory) : memory_(memory) {}

  Tier HomeTier(int unit, StateKind kind) const;
  DType Type(StateKind kind) const;
  // [elements this rank updates], at home.
  TensorView Home(int unit, StateKind kind) const;
  TensorView Home(int unit, StateKind kind, const ElementRange& range) const;  // some of them
  // The same where the update kernel reads them: in a slot when home is the host.
  TensorView OnDevice(int unit, StateKind kind, const ElementRange& range, int slot) const;
  TensorView StagedWeights(int unit, int slot) const;  // device, storage type
  TensorView StagedFp8(int unit, int slot) const;  // device, its FP8 part on the way to the host
  TensorView HostGradients(int unit, int slot) const;  // host, gradient type
  // Host, storage type: where they stay, or on their way to the device.
  TensorView HostWeights(int unit, int slot) const;
  TensorView HostAmax(int unit, int slot) const;  // host, [FP8 matrices] f32

 private:
  Shape UpdatedShape(int unit) const;

  const RankMemory& memory_;
};

}  // namespace hearth
