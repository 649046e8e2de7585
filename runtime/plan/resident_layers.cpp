#include "runtime/plan/resident_layers.h"

#include <algorithm>

#include "kernels/core/check.h"

namespace hearth {

namespace {

// Of rank 0's part of a block's state.
int64_t HostStateBytes(const Plan& plan, const ModelSpec& spec) {
  const UnitSpec& block = spec.units[static_cast<size_t>(spec.block_unit(0))];
  const OptimizerPlacement& place = plan.optimizer;
  const auto size = [](Tier tier, DType type) { return tier == Tier::kHost ? SizeOf(type) : 0; };
  return plan.Updated(block, 0).count() *
         (size(place.master, plan.state_types.master) + size(place.m, plan.state_types.m) +
          size(place.v, plan.state_types.v));
}

}  // namespace

std::optional<ResidentFit> FewestResidentLayers(
    const Plan& plan, const ModelSpec& spec, const MemoryNeed& need, const MemoryLimits& limits,
    const std::function<std::optional<MemoryNeed>(int64_t)>& need_with) {
  const auto room = limits.host.ArenaBytes();
  const int64_t bytes = HostStateBytes(plan, spec);
  // Where the device is the host, nothing leaves it.
  if (limits.device_is_host || !room || need.host_bytes <= *room || bytes == 0) return std::nullopt;
  const int64_t layers = spec.config.num_layers;
  const int64_t fewest = std::min(DivUp(need.host_bytes - *room, bytes), layers);
  const auto device = limits.device.ArenaBytes();
  const bool is_hopeless = device && need.device_bytes + fewest * bytes > *device;
  // Other ranks' shards, and gaps between tensors, may take one more; with all of them resident,
  // the slots through which a block's state passes are given back.
  for (int64_t count : {fewest, fewest + 1, layers}) {
    const bool gives_slots_back = count == layers && fewest >= layers - 2;
    if (count > layers || (is_hopeless && !gives_slots_back)) continue;
    const std::optional<MemoryNeed> with = need_with(count);
    if (with && Fits(*with, limits)) return ResidentFit{count, *with};
  }
  return std::nullopt;
}

}  // namespace hearth
