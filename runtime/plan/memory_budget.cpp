#include "runtime/plan/memory_budget.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/error.h"

namespace hearth {

namespace {

constexpr std::string_view kDeviceKey = "memory.gpu_budget";
constexpr std::string_view kHostKey = "memory.host_budget";
// Shards differ by single blocks: these many ranks from either end stand for all of a large world.
constexpr int kRanksLookedAt = 8;

std::optional<int64_t> BudgetBytes(const MemoryBudget& budget, std::optional<int64_t> there,
                                   int sharing) {
  if (budget.bytes) return *budget.bytes / sharing;
  if (!there) return std::nullopt;
  return static_cast<int64_t>(budget.fraction * static_cast<double>(*there)) / sharing;
}

// "15.6 GiB", precise enough to tell two neighbours apart.
std::string Amount(int64_t bytes) {
  constexpr double kMebibyte = 1 << 20, kGibibyte = 1 << 30;
  const auto value = static_cast<double>(bytes);
  if (value >= kGibibyte) return fmt::format("{:.2f} GiB", value / kGibibyte);
  if (value >= kMebibyte) return fmt::format("{:.1f} MiB", value / kMebibyte);
  return fmt::format("{} bytes", bytes);
}

bool TierFits(int64_t arenas, const TierLimit& limit) {
  const std::optional<int64_t> room = limit.ArenaBytes();
  return !room || arenas <= *room;
}

// `start`: what the message begins with, "run.yaml:4:3: error: memory.gpu_budget".
void RequireTier(std::string_view start, std::string_view what, int64_t arenas,
                 const TierLimit& limit, std::string_view remedy) {
  if (TierFits(arenas, limit)) return;
  const bool by_budget = limit.budget_bytes && limit.outside_bytes + arenas > *limit.budget_bytes;
  std::string text = fmt::format("{}: a rank takes {} of {} memory", start,
                                 Amount(arenas + limit.outside_bytes), what);
  if (limit.outside_bytes > 0) {
    text += fmt::format(", {} of it outside its arenas,", Amount(limit.outside_bytes));
  }
  text += by_budget ? fmt::format(" and may take {}", Amount(*limit.budget_bytes))
                    : fmt::format(" and finds {} free for its arenas", Amount(*limit.free_bytes));
  throw BudgetError(fmt::format("{}; {}", text, remedy));
}

}  // namespace

std::optional<int64_t> TierLimit::ArenaBytes() const {
  std::optional<int64_t> room = free_bytes;
  if (budget_bytes) {
    const int64_t left = std::max<int64_t>(0, *budget_bytes - outside_bytes);
    room = std::min(room.value_or(left), left);
  }
  return room;
}

MemoryLimits LimitsOf(const MemorySection& memory, const MachineMemory& machine) {
  MemoryLimits limits{.device = {.key = kDeviceKey},
                      .host = {.key = kHostKey, .outside_bytes = machine.host_outside_bytes},
                      .device_is_host = machine.device_is_host};
  limits.host.budget_bytes =
      BudgetBytes(memory.host_budget, machine.host_bytes, machine.ranks_per_host);
  if (machine.device_is_host) {
    // Each rank is a device of its own, with its share of the host.
    limits.device.budget_bytes =
        memory.gpu_budget.bytes
            ? memory.gpu_budget.bytes
            : BudgetBytes(memory.gpu_budget, machine.host_bytes, machine.ranks_per_host);
    return limits;
  }
  limits.device.budget_bytes =
      BudgetBytes(memory.gpu_budget, machine.device_bytes, machine.ranks_per_device);
  limits.device.outside_bytes = machine.device_outside_bytes;
  if (machine.device_free_bytes) {
    limits.device.free_bytes = *machine.device_free_bytes / machine.ranks_per_device;
  }
  return limits;
}

MemoryNeed NeedOf(const Plan& plan, const ModelSpec& spec) {
  MemoryNeed need;
  for (int rank = 0; rank < plan.world; ++rank) {
    if (rank >= kRanksLookedAt && rank < plan.world - kRanksLookedAt) continue;
    const MemoryLayout layout = MakeMemoryLayout(plan, spec, rank);
    need.device_bytes = std::max(need.device_bytes, layout.slab_bytes + layout.arena_bytes);
    need.host_bytes = std::max(need.host_bytes, layout.host_bytes);
  }
  return need;
}

MemoryNeed NeedWithin(const Plan& plan, const ModelSpec& spec, const MemoryLimits& limits) {
  const MemoryLayout first = MakeMemoryLayout(plan, spec, 0);
  const MemoryNeed need{.device_bytes = first.slab_bytes + first.arena_bytes,
                        .host_bytes = first.host_bytes};
  return plan.world > 1 && Fits(need, limits) ? NeedOf(plan, spec) : need;
}

int64_t HostNeed(const MemoryNeed& need, const MemoryLimits& limits) {
  return need.host_bytes + (limits.device_is_host ? need.device_bytes : 0);
}

bool Fits(const MemoryNeed& need, const MemoryLimits& limits) {
  return TierFits(need.device_bytes, limits.device) &&
         TierFits(HostNeed(need, limits), limits.host);
}

std::string DescribeNeed(int64_t arenas, const TierLimit& limit) {
  const std::string need = Amount(arenas + limit.outside_bytes);
  return limit.budget_bytes ? fmt::format("{} of {}", need, Amount(*limit.budget_bytes)) : need;
}

void RequireFit(const ResolvedConfig& resolved, const MemoryNeed& need, const MemoryLimits& limits,
                std::string_view remedy) {
  const auto start = [&](const TierLimit& limit) {
    return fmt::format("{}: error: {}", resolved.Place(limit.key), limit.key);
  };
  RequireTier(start(limits.device), "device", need.device_bytes, limits.device, remedy);
  RequireTier(start(limits.host), "host", HostNeed(need, limits), limits.host, remedy);
}

void RequireFit(std::string_view place, const MemoryNeed& need, const MemoryLimits& limits,
                std::string_view remedy) {
  const std::string start = fmt::format("{}: error", place);
  RequireTier(start, "device", need.device_bytes, limits.device, remedy);
  RequireTier(start, "host", HostNeed(need, limits), limits.host, remedy);
}

}  // namespace hearth
