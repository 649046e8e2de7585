#include "runtime/plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/core/check.h"
#include "runtime/plan/memory_layout.h"
#include "runtime/plan/schedule.h"

namespace hearth {

namespace {

constexpr int64_t kLargestAutomaticMicroBatch = 8;
// FP8 operands need multiples of 16 tokens; the other precisions follow so that one layout serves
// all.
constexpr int64_t kTokenAlignment = 16;
constexpr int64_t kFp8Alignment = 16;

// `auto` offloads nothing but what the host optimizer needs.
Tier ToTier(OffloadTarget target, OptimizerDevice optimizer) {
  const bool host = target == OffloadTarget::kHost ||
                    (target == OffloadTarget::kAuto && optimizer == OptimizerDevice::kCpu);
  return host ? Tier::kHost : Tier::kDevice;
}

// Sequences of rank r of a global batch.
int64_t RankSequences(int64_t global_batch, int world, int rank) {
  return (rank + 1) * global_batch / world - rank * global_batch / world;
}

int64_t ChooseMicroBatch(int64_t global_batch, int world) {
  int64_t common = 0;
  for (int rank = 0; rank < world; ++rank) {
    common = std::gcd(common, RankSequences(global_batch, world, rank));
  }
  for (int64_t size = std::min(kLargestAutomaticMicroBatch, common); size > 1; --size) {
    if (common % size == 0) return size;
  }
  return 1;
}

void PlanBatch(const ResolvedConfig& resolved, Plan& plan) {
  const RunConfig& config = resolved.config;
  const TrainingSection& training = config.training;
  plan.global_batch_size = GlobalBatchSize(training, plan.world);
  if (plan.global_batch_size < plan.world) {
    throw ConfigError(fmt::format(
        "{}: error: global_batch_size {} is smaller than the number of ranks {}; raise it or start "
        "fewer ranks",
        resolved.Place("training.global_batch_size"), plan.global_batch_size, plan.world));
  }
  plan.numeric.micro_batch_size =
      training.micro_batch_size.value_or(ChooseMicroBatch(plan.global_batch_size, plan.world));
  plan.micro_batches = 0;
  for (int rank = 0; rank < plan.world; ++rank) {
    plan.micro_batches =
        std::max(plan.micro_batches, DivUp(RankSequences(plan.global_batch_size, plan.world, rank),
                                           plan.numeric.micro_batch_size));
  }
  plan.sequence_len = config.data.sequence_len;
  const int64_t tokens = plan.numeric.micro_batch_size * plan.sequence_len;
  plan.tokens_per_micro_batch = RoundUp(tokens, kTokenAlignment);
  plan.packed = config.data.sample_packing;
  // Every token can be a document of its own.
  plan.max_sequences = plan.packed ? tokens : plan.numeric.micro_batch_size;
}

void PlanMemory(const ResolvedConfig& resolved, const ModelSpec& spec, Plan& plan) {
  const MemorySection& memory = resolved.config.memory;
  plan.numeric.head_slab_tokens = memory.head_slab_tokens;
  const int64_t slabs = DivUp(plan.tokens_per_micro_batch, memory.head_slab_tokens);
  const int64_t chunks = std::clamp<int64_t>(memory.lm_head_chunks.value_or(1), 1, slabs);
  plan.head_chunk_tokens =
      std::min(DivUp(slabs, chunks) * memory.head_slab_tokens, plan.tokens_per_micro_batch);
  const std::vector<RecomputeItem> items = memory.recompute.value_or(std::vector<RecomputeItem>{});
  plan.recompute.assign(static_cast<size_t>(spec.config.num_layers),
                        MakeRecomputeSet(items, spec.config, plan.precision));
  const auto tier = [&](OffloadTarget target) { return ToTier(target, memory.optimizer_device); };
  plan.optimizer = {.master = tier(memory.offload.master),
                    .m = tier(memory.offload.m),
                    .v = tier(memory.offload.v)};
  const bool all_on_host = plan.optimizer.master == Tier::kHost &&
                           plan.optimizer.m == Tier::kHost && plan.optimizer.v == Tier::kHost;
  if (memory.optimizer_device == OptimizerDevice::kCpu && !all_on_host) {
    throw ConfigError(fmt::format(
        "{}: error: optimizer_device cpu works on state in host memory; add `offload: {{optimizer: "
        "host}}`",
        resolved.Place("memory.optimizer_device")));
  }
  plan.optimizer.update_on_host = all_on_host && memory.optimizer_device != OptimizerDevice::kGpu;
}

// Of `of` things so many, evenly, the first one among them.
bool IsOneOf(int64_t count, int64_t of, int64_t index) { return index * count % of < count; }

void PlanPlacements(const ResolvedConfig& resolved, const ModelSpec& spec, Plan& plan) {
  const int64_t resident = resolved.config.memory.resident_layers.value_or(0);
  const int64_t hosted = resolved.config.memory.host_updated_layers.value_or(0);
  const OptimizerPlacement& usual = plan.optimizer;
  const int on_host =
      (usual.master == Tier::kHost) + (usual.m == Tier::kHost) + (usual.v == Tier::kHost);
  if (resident > 0 && on_host == 0) {
    resolved.Fail(
        "memory.resident_layers",
        "all optimizer state is on the device; write auto, or offload: {optimizer: host}");
  }
  if (hosted > 0 && (on_host < 3 || usual.update_on_host)) {
    resolved.Fail("memory.host_updated_layers",
                  usual.update_on_host
                      ? "the host updates all of them; write auto, or optimizer_device: gpu"
                      : "the host updates state in its memory; write auto, or offload: {optimizer: "
                        "host}");
  }
  const int64_t layers = spec.config.num_layers;
  if (resident + hosted > layers) {
    resolved.Fail(hosted > 0 ? "memory.host_updated_layers" : "memory.resident_layers",
                  fmt::format("{} blocks stay on the device and {} are updated by the host, of {}; "
                              "write fewer",
                              resident, hosted, layers));
  }
  int64_t offloaded = 0;
  for (int layer = 0; layer < static_cast<int>(layers); ++layer) {
    const int unit = spec.block_unit(layer);
    if (IsOneOf(resident, layers, layer)) {
      plan.optimizer_of[unit] = {};
    } else if (IsOneOf(hosted, layers - resident, offloaded++)) {
      plan.optimizer_of[unit] = usual;
      plan.optimizer_of[unit].update_on_host = true;
    }
  }
}

// Whether what takes most time in a block runs again in the backward of every layer.
bool RecomputesBlocks(const Plan& plan) {
  return std::all_of(plan.recompute.begin(), plan.recompute.end(), [](const RecomputeSet& set) {
    const auto& again = set.segments;
    return std::find(again.begin(), again.end(), Segment::kAttention) != again.end() &&
           std::find(again.begin(), again.end(), Segment::kUp) != again.end();
  });
}

// `auto` is the vertical order where little else than block inputs is kept, and these on the host:
// then a micro-batch more in a group takes nearly no device memory.
void PlanSchedule(const ResolvedConfig& resolved, const ModelSpec& spec, Plan& plan) {
  const MemorySection& memory = resolved.config.memory;
  plan.residual = memory.offload.residual == OffloadTarget::kHost ? Tier::kHost : Tier::kDevice;
  const bool ranks_first =
      spec.HeadMatrix().unit != spec.head_unit() &&
      resolved.config.parallel.reduction_order == ReductionOrder::kRankThenMicro;
  const bool automatic = memory.schedule == ScheduleKind::kAuto && !ranks_first &&
                         plan.residual == Tier::kHost && RecomputesBlocks(plan);
  const bool vertical = memory.schedule == ScheduleKind::kVertical || automatic;
  plan.micro_batches_per_group =
      memory.micro_batches_per_group.value_or(vertical ? plan.micro_batches : 1);
  const int64_t group = plan.micro_batches_per_group;
  if (group > plan.micro_batches) {
    resolved.Fail("memory.micro_batches_per_group",
                  fmt::format("a step has {} micro-batches, not {}; write at most {}, or auto",
                              plan.micro_batches, group, plan.micro_batches));
  }
  if (memory.schedule == ScheduleKind::kHorizontal && group > 1) {
    resolved.Fail(
        "memory.micro_batches_per_group",
        "the horizontal schedule has one micro-batch per group; write 1, or schedule: vertical");
  }
}

// ZeRO 2 and 3 give up a micro-batch's gradients as soon as the ranks have added them, unless each
// rank has to add its own micro-batches first.
void PlanGradients(const ResolvedConfig& resolved, const ModelSpec& spec, Plan& plan) {
  const bool gives_up = plan.zero_stage >= 2 && plan.RanksPerBox() > 1;
  const bool one_group = plan.GroupsOfMicroBatches() == 1;
  const bool grouped_tied_head =
      plan.micro_batches_per_group > 1 && spec.HeadMatrix().unit != spec.head_unit();
  const ReductionOrder given = resolved.config.parallel.reduction_order;
  const bool ranks_first = given == ReductionOrder::kAuto
                               ? gives_up && !one_group && !grouped_tied_head
                               : given == ReductionOrder::kRankThenMicro;
  plan.numeric.reduction_order =
      ranks_first ? ReductionOrder::kRankThenMicro : ReductionOrder::kMicroThenRank;
  if (ranks_first && grouped_tied_head) {
    resolved.Fail(
        "parallel.reduction_order",
        "micro-batches in groups cannot add the ranks first where head and embedding share "
        "their weights; write micro_then_rank, or schedule: horizontal");
  }
  const bool host = resolved.config.memory.offload.gradients == OffloadTarget::kHost;
  const bool has_shards = plan.RanksPerBox() > 1 && plan.zero_stage >= (host ? 1 : 2);
  plan.gradients = {.tier = host ? Tier::kHost : Tier::kDevice,
                    .sharded = has_shards && (ranks_first || one_group)};
}

// Where a rank updates only its shard of a block, that is all it keeps of the block.
void PlanWeights(const RunConfig& config, Plan& plan) {
  const bool host = config.memory.offload.weights == OffloadTarget::kHost;
  plan.weights = {.tier = host ? Tier::kHost : Tier::kDevice,
                  .sharded = plan.SharesUpdates() && (host || plan.zero_stage == 3)};
}

void PlanUpdates(const RunConfig& config, Plan& plan) {
  // Between boxes a gradient is final long after its backward.
  plan.early_updates = plan.boxes == 1 && plan.max_grad_norm == 0 &&
                       config.resilience.on_nonfinite == OnNonfinite::kStop;
  plan.deferred_share = 1.0;
  if (!plan.early_updates) return;
  // As the time of the forward is to that of the backward, which takes twice as long, or three
  // times where blocks are computed again.
  plan.deferred_share = RecomputesBlocks(plan) ? 1.0 / 4 : 1.0 / 3;
}

// The matmuls' rule for FP8 operands, before anything is allocated.
void CheckFp8Sizes(const ResolvedConfig& resolved, const ModelConfig& config) {
  for (const auto& [name, size] :
       {std::pair<std::string_view, int64_t>{"hidden_size", config.hidden_size},
        {"intermediate_size", config.intermediate_size},
        {"num_attention_heads * head_dim", config.query_size()},
        {"the q, k and v columns together", config.qkv_size()}}) {
    if (size % kFp8Alignment == 0) continue;
    resolved.Fail("precision.compute_dtype",
                  fmt::format("fp8 matmuls need sizes in multiples of {}, the model has {} = {}; "
                              "use compute_dtype: bf16",
                              kFp8Alignment, name, size));
  }
  const int64_t slab = resolved.config.memory.head_slab_tokens;
  if (resolved.config.precision.fp8_lm_head && slab % kFp8Alignment != 0) {
    resolved.Fail("memory.head_slab_tokens",
                  fmt::format("an FP8 head sums its gradient over slabs in multiples of {} tokens, "
                              "not {}; write {}, or fp8_lm_head: false",
                              kFp8Alignment, slab, RoundUp(slab, kFp8Alignment)));
  }
}

// The blocks whose state is not where the others' is, or that are updated elsewhere.
std::string PlacementsYaml(const Plan& plan, const ModelSpec& spec) {
  std::vector<int> resident, hosted;
  for (const auto& [unit, place] : plan.optimizer_of) {
    const int layer = spec.units[static_cast<size_t>(unit)].layer;
    (place.update_on_host ? hosted : resident).push_back(layer);
  }
  std::string text;
  if (!resident.empty()) {
    text += fmt::format("  blocks_on_device: [{}]\n", fmt::join(resident, ", "));
  }
  if (!hosted.empty()) {
    text += fmt::format("  blocks_updated_by_host: [{}]\n", fmt::join(hosted, ", "));
  }
  return text;
}

// What crosses the link between host and device, by kind of task.
std::string LinkYaml(const Plan& plan, const ModelSpec& spec) {
  const Schedule schedule = BuildSchedule(Phase::kTrain, plan, spec, 0);
  std::string text = "link:  # bytes between host and device in a step, by rank 0\n";
  for (int i = 0; i <= static_cast<int>(TaskKind::kEndStep); ++i) {
    const auto kind = static_cast<TaskKind>(i);
    const LinkBytes bytes = SumLinkBytes(schedule, kind);
    if (bytes.sum() == 0) continue;
    text += fmt::format("  - {{task: {}, to_device: {}, to_host: {}}}\n", Name(kind),
                        bytes.to_device, bytes.to_host);
  }
  return text;
}

}  // namespace

std::string_view Name(Tier tier) { return tier == Tier::kDevice ? "device" : "host"; }

ElementRange Plan::Shard(const UnitSpec& unit, int rank) const {
  const int64_t blocks = DivExact(unit.elements, kParameterAlignment);
  const int64_t ranks = RanksPerBox();
  const int64_t number = rank % ranks;
  return {blocks * number / ranks * kParameterAlignment,
          blocks * (number + 1) / ranks * kParameterAlignment};
}

ElementRange Plan::ExchangedPart(const ElementRange& shard, int box) const {
  const int64_t blocks = DivExact(shard.count(), kParameterAlignment);
  return {blocks * box / boxes * kParameterAlignment,
          blocks * (box + 1) / boxes * kParameterAlignment};
}

ElementRange Plan::Updated(const UnitSpec& unit, int rank) const {
  return zero_stage == 0 ? ElementRange{0, unit.elements} : Shard(unit, rank);
}

const OptimizerPlacement& Plan::PlacementOf(int unit) const {
  const auto found = optimizer_of.find(unit);
  return found == optimizer_of.end() ? optimizer : found->second;
}

bool Plan::UpdatesOnHost() const {
  return optimizer.update_on_host ||
         std::any_of(optimizer_of.begin(), optimizer_of.end(),
                     [](const auto& each) { return each.second.update_on_host; });
}

int64_t Plan::GroupsOfMicroBatches() const { return DivUp(micro_batches, micro_batches_per_group); }

bool Plan::IsDeferred(int unit) const {
  return std::floor((unit + 1) * deferred_share) > std::floor(unit * deferred_share);
}

int64_t GlobalBatchSize(const TrainingSection& training, int ranks) {
  if (!training.gradient_accumulation_steps) return training.global_batch_size.value_or(1);
  return training.micro_batch_size.value_or(1) * *training.gradient_accumulation_steps * ranks;
}

Plan MakePlan(const ResolvedConfig& resolved, const ModelSpec& spec, const RankGrid& grid) {
  const RunConfig& config = resolved.config;
  if (config.data.sequence_len > spec.config.max_position_embeddings) {
    throw ConfigError(
        fmt::format("{}: error: sequence_len {} is beyond the model's {} positions; lower it",
                    resolved.Place("data.sequence_len"), config.data.sequence_len,
                    spec.config.max_position_embeddings));
  }
  Plan plan;
  plan.world = grid.ranks;
  plan.boxes = grid.boxes;
  DivExact(plan.world, plan.boxes);
  plan.saves_from_copy = config.checkpoint.async_save;
  plan.zero_stage = static_cast<int>(config.parallel.zero_stage);
  plan.precision = MakePrecision(config.precision);
  if (plan.precision.fp8) CheckFp8Sizes(resolved, spec.config);
  const auto dtype = [](FloatDtype type) {
    return type == FloatDtype::kFp32 ? DType::kF32 : DType::kBF16;
  };
  plan.state_types = {
      .master = config.optimizer.master_dtype == MasterDtype::kFp32 ? DType::kF32 : DType::kBF16,
      .m = dtype(config.optimizer.m_dtype),
      .v = dtype(config.optimizer.v_dtype)};
  plan.z_loss = static_cast<float>(config.training.z_loss);
  plan.max_grad_norm = config.training.max_grad_norm;
  PlanBatch(resolved, plan);
  PlanMemory(resolved, spec, plan);
  PlanPlacements(resolved, spec, plan);
  PlanSchedule(resolved, spec, plan);
  PlanGradients(resolved, spec, plan);
  PlanWeights(config, plan);
  PlanUpdates(config, plan);
  return plan;
}

std::string PlanYaml(const Plan& plan, const ModelSpec& spec) {
  std::string text;
  const auto line = [&](std::string_view key, const auto& value) {
    text += fmt::format("{}: {}\n", key, value);
  };
  line("plan_version", 1);
  line("world", plan.world);
  line("boxes", plan.boxes);
  line("zero_stage", plan.zero_stage);
  if (!plan.exchange.empty()) line("exchange", fmt::format("\"{}\"", plan.exchange));
  line("compute", plan.precision.fp8 ? "fp8" : Name(plan.precision.storage));
  if (plan.precision.fp8) line("fp8_fast_accumulation", plan.precision.fast_accumulation);
  if (plan.precision.fp8) line("fp8_lm_head", plan.precision.fp8_head);
  if (plan.precision.fp8) {
    line("fp8_recipe", EnumName(plan.precision.verified_scales ? Fp8Recipe::kTensorwiseVerified
                                                               : Fp8Recipe::kTensorwiseCurrent));
  }
  line("gradients", Name(plan.precision.gradient));
  line("global_batch_size", plan.global_batch_size);
  line("micro_batch_size", plan.numeric.micro_batch_size);
  line("micro_batches", plan.micro_batches);
  line("tokens_per_micro_batch", plan.tokens_per_micro_batch);
  line("sequence_len", plan.sequence_len);
  line("reduction_order", EnumName(plan.numeric.reduction_order));
  line("head_slab_tokens", plan.numeric.head_slab_tokens);
  line("head_chunk_tokens", plan.head_chunk_tokens);
  line("schedule", plan.micro_batches_per_group > 1 ? "vertical" : "horizontal");
  line("micro_batches_per_group", plan.micro_batches_per_group);
  line("block_inputs", Name(plan.residual));
  text += fmt::format("block_weights: {{tier: {}, sharded: {}}}\n", Name(plan.weights.tier),
                      plan.weights.sharded);
  text += fmt::format("gradient_sums: {{tier: {}, sharded: {}}}\n", Name(plan.gradients.tier),
                      plan.gradients.sharded);
  text += "optimizer:\n";
  text += fmt::format("  master: {{type: {}, tier: {}}}\n", Name(plan.state_types.master),
                      Name(plan.optimizer.master));
  text += fmt::format("  m: {{type: {}, tier: {}}}\n", Name(plan.state_types.m),
                      Name(plan.optimizer.m));
  text += fmt::format("  v: {{type: {}, tier: {}}}\n", Name(plan.state_types.v),
                      Name(plan.optimizer.v));
  line("  update", plan.optimizer.update_on_host ? "host" : "device");
  text += PlacementsYaml(plan, spec);
  line("  deferred_share", plan.deferred_share);
  line("  under_backward", plan.early_updates);
  std::vector<std::string_view> again;
  if (!plan.recompute.empty()) {
    for (Segment segment : plan.recompute.front().segments) again.push_back(Name(segment));
  }
  text += fmt::format("recompute: [{}]\n", fmt::join(again, ", "));
  text += "memory:  # bytes, by rank 0\n";
  const MemoryLayout layout = MakeMemoryLayout(plan, spec, 0);
  for (const MemoryPool& pool : layout.pools) {
    text += fmt::format("  - {{tier: {}, pool: {}, bytes: {}}}\n", Name(pool.tier), pool.name,
                        pool.bytes);
  }
  return text + LinkYaml(plan, spec);
}

}  // namespace hearth
