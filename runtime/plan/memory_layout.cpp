#include "runtime/plan/memory_layout.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/api/workspace.h"
#include "kernels/core/check.h"
#include "runtime/plan/boundary_places.h"
#include "runtime/plan/gradient_places.h"

namespace hearth {

namespace {

// Every tensor starts on a cache line pair; FP8 scales need 16 bytes, vector loads at most 128.
constexpr int64_t kTensorAlignment = 256;
constexpr int64_t kScaleBytes = 16;
constexpr int64_t kPageBytes = 4096;
// Large enough that a copy's start costs little beside it.
constexpr int64_t kLargestTransferPiece = int64_t{4} << 20;

// Hands out offsets in one allocation and keeps the memory table.
class Region {
 public:
  Region(Tier tier, std::vector<MemoryPool>& pools) : tier_(tier), pools_(pools) {}

  int64_t Add(std::string_view pool, int64_t bytes, int64_t alignment = kTensorAlignment) {
    // What is empty takes nothing, but has a place.
    const int64_t offset = bytes == 0 ? bytes_ / alignment * alignment : RoundUp(bytes_, alignment);
    const int64_t end = std::max(bytes_, offset + bytes);
    // The gap in front belongs to whoever needs the alignment, so that the table adds up.
    Pool(pool).bytes += end - bytes_;
    bytes_ = end;
    return offset;
  }
  int64_t bytes() const { return bytes_; }

 private:
  MemoryPool& Pool(std::string_view name) {
    // The planner counts thousands of plans, each of them pool by pool.
    const bool again = name.data() == last_name_.data() && name.size() == last_name_.size();
    if (again && last_ < pools_.size()) return pools_[last_];
    last_name_ = name;
    for (last_ = 0; last_ < pools_.size(); ++last_) {
      MemoryPool& pool = pools_[last_];
      if (pool.tier == tier_ && pool.name == name) return pool;
    }
    return pools_.emplace_back(MemoryPool{tier_, std::string(name), 0});
  }

  const Tier tier_;
  std::vector<MemoryPool>& pools_;
  size_t last_ = 0;  // the pool asked for last
  std::string_view last_name_;
  int64_t bytes_ = 0;
};

struct GradientSlot {
  int64_t whole = -1;
  int64_t sum = -1;
};

class LayoutBuilder {
 public:
  LayoutBuilder(const Plan& plan, const ModelSpec& spec, int rank)
      : plan_(plan),
        spec_(spec),
        rank_(rank),
        gradient_places_(plan, spec),
        slab_(Tier::kDevice, layout_.pools),
        arena_(Tier::kDevice, layout_.pools),
        host_(Tier::kHost, layout_.pools) {}

  MemoryLayout Build() {
    AddUnits();
    AddStates();
    AddStaging();
    AddStateSlots();
    AddBatches();
    AddTransfer();
    AddBoundaries();
    AddBlocks();
    AddHead();
    AddFp8Head();
    AddWords();
    AddNetwork();
    AddSaveCopy();
    AddCommunicator();
    layout_.slab_bytes = slab_.bytes();
    layout_.arena_bytes = arena_.bytes();
    layout_.host_bytes = host_.bytes();
    return std::move(layout_);
  }

 private:
  int64_t StorageBytes() const { return SizeOf(plan_.precision.storage); }
  int64_t GradientBytes() const { return SizeOf(plan_.precision.gradient); }

  int Units() const { return static_cast<int>(spec_.units.size()); }
  ElementRange Updated(int unit) const {
    return plan_.Updated(spec_.units[static_cast<size_t>(unit)], rank_);
  }

  void AddUnits() {
    for (size_t u = 0; u < spec_.units.size(); ++u) {
      const UnitSpec& unit = spec_.units[u];
      UnitLayout& out = layout_.units.emplace_back();
      out.dense_begin = Fp8Elements(plan_, unit);
      const int fp8_count = out.dense_begin > 0 ? CountFp8(spec_, static_cast<int>(u)) : 0;
      if (plan_.WeightsInSlot(unit)) {
        AddSlotWeights(unit, out);
        AddHomeWeights(unit, out);
      } else {
        out.fp8_values = slab_.Add("weights", out.dense_begin, kPageBytes);
        out.dense = slab_.Add("weights", DenseElements(plan_, unit) * StorageBytes(), kPageBytes);
        out.fp8_transposed = arena_.Add("transposed weights", out.dense_begin, kPageBytes);
      }
      AddGradients(static_cast<int>(u));
      out.scales = arena_.Add("scales", fp8_count * kScaleBytes);
      out.amax = slab_.Add("scales", fp8_count * int64_t{4});
    }
  }

  // All blocks are alike, so the first that takes a slot makes it. One transposed copy is enough:
  // compute makes it where it is about to use it.
  void AddSlotWeights(const UnitSpec& unit, UnitLayout& out) {
    const auto end = layout_.units.end();
    if (unit.layer < kUnitSlots) {
      out.fp8_values = slab_.Add("weight slots", out.dense_begin, kPageBytes);
      out.dense =
          slab_.Add("weight slots", DenseElements(plan_, unit) * StorageBytes(), kPageBytes);
    } else {
      out.fp8_values = end[-1 - kUnitSlots].fp8_values;
      out.dense = end[-1 - kUnitSlots].dense;
    }
    out.fp8_transposed = unit.layer > 0 ? end[-2].fp8_transposed
                                        : arena_.Add("weight slots", out.dense_begin, kPageBytes);
  }

  void AddHomeWeights(const UnitSpec& unit, UnitLayout& out) {
    const ElementRange own = plan_.Updated(unit, rank_);
    const int64_t fp8 = std::max<int64_t>(0, std::min(own.end, out.dense_begin) - own.begin);
    Region& home = plan_.weights.tier == Tier::kDevice ? arena_ : host_;
    out.home_fp8 = home.Add("weights", fp8, kPageBytes);
    out.home_dense = home.Add("weights", (own.count() - fp8) * StorageBytes(), kPageBytes);
  }

  void AddGradients(int u) {
    const auto add = [&](Region& region, int64_t elements, int64_t alignment) {
      return region.Add("gradients", elements * GradientBytes(), alignment);
    };
    const UnitSpec& unit = spec_.units[static_cast<size_t>(u)];
    UnitLayout& out = layout_.units[static_cast<size_t>(u)];
    const GradientPlaces& places = gradient_places_;
    const int64_t shard = places.HasShardSum(u) ? plan_.Shard(unit, rank_).count() : 0;
    if (!places.InSlot(u)) {
      out.gradients = add(slab_, plan_.inference ? 0 : unit.elements, kPageBytes);
      out.shard_gradients = add(arena_, shard, kTensorAlignment);
      return;
    }
    GradientSlot& slot = gradient_slots_[static_cast<size_t>(places.Slot(u))];
    if (slot.whole < 0) {
      // The first unit makes it, large enough for all.
      slot.whole = add(slab_, places.SlotElements(places.Slot(u)), kPageBytes);
      const int64_t largest = places.SlotShardElements(places.Slot(u), rank_);
      slot.sum =
          add(arena_, places.OnHost(u) && places.HasShardSum(u) ? largest : 0, kTensorAlignment);
    }
    out.gradients = slot.whole;
    out.shard_gradients = places.OnHost(u) ? slot.sum : add(arena_, shard, kTensorAlignment);
    if (!places.OnHost(u)) return;
    out.host_gradients = add(host_, places.HostRange(u, rank_).count(), kPageBytes);
  }

  void AddStates() {
    const auto add = [&](Tier tier, DType dtype, int64_t elements) {
      Region& region = tier == Tier::kDevice ? arena_ : host_;
      return region.Add("optimizer state", elements * SizeOf(dtype), kPageBytes);
    };
    for (int u = 0; u < Units(); ++u) {
      const OptimizerPlacement& place = plan_.PlacementOf(u);
      const int64_t elements = Updated(u).count();
      const int64_t moments = plan_.inference ? 0 : elements;
      layout_.states.push_back({.master = add(place.master, plan_.state_types.master, elements),
                                .m = add(place.m, plan_.state_types.m, moments),
                                .v = add(place.v, plan_.state_types.v, moments)});
    }
  }

  void AddStaging() {
    int64_t largest = 0, largest_gradient = 0, largest_staged = 0, largest_fp8 = 0;
    for (int u = 0; u < Units(); ++u) {
      const UnitSpec& unit = spec_.units[static_cast<size_t>(u)];
      const ElementRange own = Updated(u);
      const bool on_host = plan_.PlacementOf(u).update_on_host;
      if (on_host) largest = std::max(largest, own.count());
      // What is on the host already is read where it is.
      if (on_host && !gradient_places_.OnHost(u)) {
        largest_gradient = std::max(largest_gradient, own.count());
      }
      if (StagesWeights(plan_, spec_, u)) largest_staged = std::max(largest_staged, own.count());
      if (!plan_.WeightsInSlot(unit) || plan_.weights.tier != Tier::kHost) continue;
      largest_fp8 = std::max(largest_fp8, std::min(own.end, Fp8Elements(plan_, unit)) - own.begin);
    }
    for (StagingLayout& slot : layout_.staging) {
      slot.weights = arena_.Add("staging", largest_staged * StorageBytes());
      slot.fp8 = arena_.Add("staging", largest_fp8);
      if (!plan_.UpdatesOnHost()) continue;
      slot.host_gradients = host_.Add("staging", largest_gradient * GradientBytes());
      slot.host_weights = host_.Add("staging", largest * StorageBytes());
      slot.host_amax = host_.Add("staging", kParameterRoleCount * int64_t{4});
    }
  }

  void AddStateSlots() {
    int64_t largest = 0;
    for (int unit = 0; unit < Units(); ++unit) {
      if (!FetchesState(plan_, unit)) continue;
      for (const ElementRange& piece : StatePieces(plan_, spec_, unit, rank_)) {
        largest = std::max(largest, piece.count());
      }
    }
    const auto fetched = [&](Tier tier, DType dtype) {
      return arena_.Add("staging", tier == Tier::kHost ? largest * SizeOf(dtype) : 0);
    };
    for (StateSlotLayout& slot : layout_.state_slots) {
      slot.state[0] = fetched(plan_.optimizer.master, plan_.state_types.master);
      slot.state[1] = fetched(plan_.optimizer.m, plan_.state_types.m);
      slot.state[2] = fetched(plan_.optimizer.v, plan_.state_types.v);
    }
  }

  void AddBatches() {
    const auto take = [&](int64_t words) {
      const int64_t offset = layout_.batch_bytes;
      layout_.batch_bytes = RoundUp(offset + words * 4, kTensorAlignment);
      return offset;
    };
    const int64_t n = plan_.tokens_per_micro_batch;
    for (int64_t micro_batch = 0; micro_batch < plan_.micro_batches; ++micro_batch) {
      layout_.batch.push_back({.tokens = take(n),
                               .targets = take(n),
                               .positions = take(n),
                               .sequence_offsets = take(plan_.max_sequences + 1)});
    }
    layout_.device_batch = arena_.Add("batch", layout_.batch_bytes);
    for (int64_t& slot : layout_.host_batch) slot = host_.Add("batch", layout_.batch_bytes);
  }

  void AddTransfer() {
    int64_t largest = 0;
    for (const UnitSpec& unit : spec_.units) largest = std::max(largest, unit.elements);
    layout_.transfer_piece_bytes =
        std::min(kLargestTransferPiece, RoundUp(largest * int64_t{4}, kPageBytes));
    for (int64_t& piece : layout_.transfer) {
      piece = host_.Add("transfer", layout_.transfer_piece_bytes);
    }
  }

  void AddBoundaries() {
    const BoundaryPlaces places(plan_, spec_);
    const int64_t bytes = plan_.tokens_per_micro_batch * spec_.config.hidden_size * StorageBytes();
    for (int place = 0; place < places.count(); ++place) {
      layout_.boundaries.push_back(arena_.Add("block inputs", bytes));
    }
    for (int place = 0; place < places.host_count(); ++place) {
      layout_.host_boundaries.push_back(host_.Add("block inputs", bytes, kPageBytes));
    }
  }

  void AddBlocks() {
    const std::vector<BlockTensorSpec> table =
        BlockTensors(spec_.config, plan_.precision, plan_.tokens_per_micro_batch);
    const BoundaryPlaces places(plan_, spec_);
    const auto layers = static_cast<size_t>(spec_.config.num_layers);
    const auto kept = static_cast<size_t>(places.kept_count());
    // One work slot per tensor, shared by the layers that do not keep it.
    std::vector<int64_t> work(table.size(), -1);
    layout_.block_tensors.assign(kept, std::vector<int64_t>(table.size(), -1));
    const int64_t records = table[static_cast<size_t>(BlockTensor::kScales)].bytes();
    layout_.scale_records = arena_.Add("activations", records * static_cast<int64_t>(kept));
    for (size_t t = 0; t < table.size(); ++t) {
      const BlockTensorSpec& tensor = table[t];
      if (tensor.lifetime == Lifetime::kAbsent || tensor.lifetime == Lifetime::kBoundary) continue;
      if (plan_.inference && tensor.lifetime == Lifetime::kBackward) continue;
      for (size_t place = 0; place < kept; ++place) {
        int64_t& offset = layout_.block_tensors[place][t];
        if (tensor.tensor == BlockTensor::kScales) {
          offset = layout_.scale_records + static_cast<int64_t>(place) * records;
        } else if (Kept(tensor, place % layers)) {
          offset = arena_.Add("activations", tensor.bytes());
        } else {
          if (work[t] < 0) work[t] = arena_.Add("work", tensor.bytes());
          offset = work[t];
        }
      }
    }
  }

  bool Kept(const BlockTensorSpec& tensor, size_t layer) const {
    if (tensor.lifetime == Lifetime::kAlways) return true;
    return tensor.lifetime == Lifetime::kSaved && !plan_.recompute[layer].Drops(tensor.tensor);
  }

  void AddHead() {
    const int64_t n = plan_.tokens_per_micro_batch;
    const int64_t rows = n * spec_.config.hidden_size * StorageBytes();
    layout_.head.rstd = arena_.Add("head", n * 4);
    layout_.head.normed =
        arena_.Add("head", plan_.precision.fp8_head ? n * spec_.config.hidden_size : rows);
    layout_.head.logits =
        arena_.Add("logits", plan_.head_chunk_tokens * spec_.padded_vocab_size() * StorageBytes());
    layout_.head.losses = arena_.Add("head", n * 4);
    layout_.head.d_normed = arena_.Add("head", rows);
    layout_.cos_sin = arena_.Add("head", plan_.sequence_len * spec_.config.head_dim * 4);
    layout_.workspace_bytes = WorkspaceBytes();
    layout_.workspace = arena_.Add("workspace", layout_.workspace_bytes);
  }

  void AddFp8Head() {
    if (!plan_.precision.fp8_head) return;
    HeadLayout& head = layout_.head;
    head.normed_scale = arena_.Add("head", kScaleBytes);
    head.d_logits_scale = arena_.Add("head", kScaleBytes);
    const int64_t slab = plan_.inference ? 0 : HeadSlabTokens(plan_);
    head.normed_transposed = arena_.Add("head", slab * spec_.config.hidden_size);
    head.d_logits = arena_.Add("logits", slab * spec_.padded_vocab_size());
    if (!HasTiedFp8Head(plan_, spec_)) return;
    const int64_t elements = spec_.HeadMatrix().stored_elements;
    layout_.tied_head = {.values = arena_.Add("weights", elements),
                         .transposed = arena_.Add("transposed weights", elements),
                         .scale = arena_.Add("scales", kScaleBytes)};
  }

  int64_t WorkspaceBytes() const {
    const ModelConfig& config = spec_.config;
    const int64_t n = plan_.tokens_per_micro_batch;
    const AttentionShape attention{.heads = config.num_heads,
                                   .kv_heads = config.num_kv_heads,
                                   .head_dim = config.head_dim,
                                   .softmax_scale = 1.0f};
    return std::max(
        {AttentionBackwardWorkspaceBytes(attention, n),
         RmsNormBackwardWorkspaceBytes(n, config.hidden_size),
         RopeBackwardWorkspaceBytes(n, config.num_heads, config.num_kv_heads, config.head_dim),
         ColumnSumWorkspaceBytes(n, config.qkv_size()), EmbeddingBackwardWorkspaceBytes(n),
         GemmWorkspaceBytes()});
  }

  void AddWords() {
    const int64_t amaxes = CountBlockScales(plan_, spec_);
    const int64_t scales = CountVerifiedScales(plan_, spec_);
    layout_.words.sums = slab_.Add("words", kStepSumWords * 8);
    layout_.words.step_amax = slab_.Add("words", amaxes * 4);
    layout_.words.amax_history = arena_.Add("words", scales * 4);
    layout_.words.step_scales = arena_.Add("words", scales * kScaleBytes);
    layout_.words.norm = arena_.Add("words", 4);
    layout_.words.control = arena_.Add("words", 8);
    layout_.words.gradient_scale = arena_.Add("words", 4);
    layout_.words.host = host_.Add("words", static_cast<int64_t>(sizeof(StepWords)));
    layout_.words.host_amax = host_.Add("words", amaxes * 4);
  }

  void AddNetwork() {
    if (plan_.boxes == 1) return;
    layout_.network_bytes =
        std::max(kStepSumWords * int64_t{8}, CountBlockScales(plan_, spec_) * int64_t{4});
    layout_.network = arena_.Add("network", layout_.network_bytes, kPageBytes);
  }

  void AddSaveCopy() {
    if (!plan_.saves_from_copy || plan_.inference || !plan_.Saves(rank_)) return;
    const StateTypes& types = plan_.state_types;
    const int64_t element = SizeOf(types.master) + SizeOf(types.m) + SizeOf(types.v);
    for (const UnitSpec& unit : spec_.units) {
      layout_.save_copy_bytes += plan_.Shard(unit, rank_).count() * element;
    }
    layout_.save_copy = host_.Add("save copy", layout_.save_copy_bytes, kPageBytes);
  }

  // In none of the three allocations.
  void AddCommunicator() {
    const CommunicatorMemory& memory = plan_.communicator;
    const auto add = [&](Tier tier, std::string_view name, int64_t bytes) {
      if (bytes > 0) layout_.pools.push_back({tier, std::string(name), bytes});
    };
    add(Tier::kDevice, "communicator", memory.device_bytes);
    add(Tier::kHost, "communicator", memory.pinned_bytes);
    add(Tier::kHost, "shared communicator", DivUp(memory.shared_bytes, plan_.ranks_per_host));
  }

  const Plan& plan_;
  const ModelSpec& spec_;
  const int rank_;
  const GradientPlaces gradient_places_;
  MemoryLayout layout_;
  std::array<GradientSlot, kGradientSlots> gradient_slots_;
  Region slab_;
  Region arena_;
  Region host_;
};

}  // namespace

int64_t Fp8Elements(const Plan& plan, const UnitSpec& unit) {
  const Precision& precision = plan.precision;
  const bool fp8 = unit.kind == UnitKind::kHead ? precision.fp8_head : precision.fp8;
  return fp8 ? unit.matmul_elements : 0;
}

int64_t DenseElements(const Plan& plan, const UnitSpec& unit) {
  return unit.elements - Fp8Elements(plan, unit);
}

bool FetchesState(const Plan& plan, int unit) {
  const OptimizerPlacement& place = plan.PlacementOf(unit);
  return !place.update_on_host &&
         (place.master == Tier::kHost || place.m == Tier::kHost || place.v == Tier::kHost);
}

std::vector<ElementRange> StatePieces(const Plan& plan, const ModelSpec& spec, int unit, int rank) {
  const auto blocks = [&](int of, int at) {
    return plan.Updated(spec.units[static_cast<size_t>(of)], at).count() / kParameterAlignment;
  };
  int64_t pieces = 1;
  if (FetchesState(plan, unit)) {
    int64_t largest = 0, largest_of_block = 1;
    for (int at = 0; at < plan.world; ++at) {
      largest = std::max(largest, blocks(unit, at));
      largest_of_block = std::max(largest_of_block, blocks(spec.block_unit(0), at));
    }
    pieces = std::max<int64_t>(1, DivUp(largest, DivUp(largest_of_block, kStatePiecesOfBlock)));
  }
  const int64_t begin = plan.Updated(spec.units[static_cast<size_t>(unit)], rank).begin;
  const auto place = [&](int64_t piece) {
    return begin + blocks(unit, rank) * piece / pieces * kParameterAlignment;
  };
  std::vector<ElementRange> ranges;
  for (int64_t piece = 0; piece < pieces; ++piece) {
    ranges.push_back({place(piece), place(piece + 1)});
  }
  return ranges;
}

bool UpdatesWeightsAtHome(const Plan& plan, const ModelSpec& spec, int unit) {
  const UnitSpec& sizes = spec.units[static_cast<size_t>(unit)];
  return plan.WeightsInSlot(sizes) && plan.weights.tier == Tier::kHost &&
         plan.PlacementOf(unit).update_on_host && Fp8Elements(plan, sizes) == 0;
}

bool StagesWeights(const Plan& plan, const ModelSpec& spec, int unit) {
  const UnitSpec& sizes = spec.units[static_cast<size_t>(unit)];
  if (Fp8Elements(plan, sizes) > 0) return true;
  return plan.WeightsInSlot(sizes) && plan.weights.tier == Tier::kHost &&
         !UpdatesWeightsAtHome(plan, spec, unit);
}

bool HasTiedFp8Head(const Plan& plan, const ModelSpec& spec) {
  return plan.precision.fp8_head && spec.HeadMatrix().unit != spec.head_unit();
}

int64_t HeadSlabTokens(const Plan& plan) {
  return std::min(plan.numeric.head_slab_tokens, plan.tokens_per_micro_batch);
}

int CountFp8(const ModelSpec& spec, int unit) {
  int count = 0;
  for (const ParameterSpec& parameter : spec.UnitParameters(unit)) count += parameter.fp8 ? 1 : 0;
  return count;
}

int64_t CountBlockScales(const Plan& plan, const ModelSpec& spec) {
  const bool trains = plan.precision.fp8 && !plan.inference;
  return trains ? spec.config.num_layers * kBlockScaleCount : 0;
}

int64_t CountVerifiedScales(const Plan& plan, const ModelSpec& spec) {
  return plan.precision.verified_scales ? CountBlockScales(plan, spec) : 0;
}

MemoryLayout MakeMemoryLayout(const Plan& plan, const ModelSpec& spec, int rank) {
  return LayoutBuilder(plan, spec, rank).Build();
}

}  // namespace hearth
