// What a run may take of each tier, and whether a plan keeps to it. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/plan/memory_layout.h"

namespace hearth {

// The memory that a rank finds: of its device, and of its host together with the other ranks there.
struct MachineMemory {
  bool device_is_host = true;           // the CPU: the device tier lies in host memory too
  std::optional<int64_t> device_bytes;  // of a device; nullopt: not known (yet)
  // Of these for the arenas of all ranks on it; nullopt: not known (yet).
  std::optional<int64_t> device_free_bytes;
  // What the process of one rank takes of its device beside the arenas: context, modules,
  // libraries.
  int64_t device_outside_bytes = 0;
  int ranks_per_device = 1;
  int devices = 1;                    // that the run computes on; the CPU is one for each rank
  std::optional<int64_t> host_bytes;  // of a host; nullopt: not known (yet)
  int64_t host_outside_bytes = 0;     // as above, of a rank's process
  int ranks_per_host = 1;
  bool operator==(const MachineMemory&) const = default;
};

// One tier for one rank.
struct TierLimit {
  std::string_view key;  // of run.yaml, "memory.gpu_budget"
  std::optional<int64_t> budget_bytes =
      std::nullopt;           // for all that the rank takes; nullopt: not known
  int64_t outside_bytes = 0;  // of it, beside the arenas
  std::optional<int64_t> free_bytes =
      std::nullopt;  // for arenas, whatever the budget says; nullopt: not known

  // For arenas; nullopt: not known.
  std::optional<int64_t> ArenaBytes() const;
};

struct MemoryLimits {
  TierLimit device;
  TierLimit host;
  bool device_is_host = true;  // the device tier's arenas count in both
};

MemoryLimits LimitsOf(const MemorySection& memory, const MachineMemory& machine);

// Bytes of the arenas of the rank that needs most of each tier.
struct MemoryNeed {
  int64_t device_bytes = 0;
  int64_t host_bytes = 0;
};
MemoryNeed NeedOf(const Plan& plan, const ModelSpec& spec);
// The same, or rank 0's alone where that breaks a limit already: for looking at many plans.
MemoryNeed NeedWithin(const Plan& plan, const ModelSpec& spec, const MemoryLimits& limits);
// Of what counts against the host's budget.
int64_t HostNeed(const MemoryNeed& need, const MemoryLimits& limits);

bool Fits(const MemoryNeed& need, const MemoryLimits& limits);

// "23.40 GiB of 15.60 GiB": the arenas with what lies outside them, and the budget where it is
// known.
std::string DescribeNeed(int64_t arenas, const TierLimit& limit);

// BudgetError at the place of the budget that `need` breaks: what the run takes, what it may take,
// and `remedy`.
void RequireFit(const ResolvedConfig& resolved, const MemoryNeed& need, const MemoryLimits& limits,
                std::string_view remedy);
// The same for what has no configuration: the message starts with `place`.
void RequireFit(std::string_view place, const MemoryNeed& need, const MemoryLimits& limits,
                std::string_view remedy);

}  // namespace hearth
