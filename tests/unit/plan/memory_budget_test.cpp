// What a run may take, and what it is told where it takes more.
#include "runtime/plan/memory_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "runtime/plan/smallest_change.h"
#include "tests/unit/plan/plan_test_support.h"

namespace hearth {
namespace {

using test::PlanCase;
using test::ResolvedOf;
using test::SmallConfig;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int64_t kGibibyte = int64_t{1} << 30;

MemoryLimits LimitsFor(const std::string& memory, const MachineMemory& machine) {
  return LimitsOf(ResolvedOf({.more = "memory: {" + memory + "}\n"}).config.memory, machine);
}

const MachineMemory kCard{.device_is_host = false,
                          .device_bytes = 100 * kGibibyte,
                          .device_free_bytes = 90 * kGibibyte,
                          .device_outside_bytes = kGibibyte,
                          .host_bytes = 200 * kGibibyte,
                          .host_outside_bytes = 2 * kGibibyte,
                          .ranks_per_host = 4};

TEST(MemoryBudget, AFractionIsOfWhatThereIsAndASizeIsTakenAsGiven) {
  const MemoryLimits share = LimitsFor("gpu_budget: 0.5, host_budget: 0.25", kCard);
  EXPECT_EQ(share.device.ArenaBytes(), 49 * kGibibyte);
  EXPECT_EQ(share.host.ArenaBytes(), 50 * kGibibyte / 4 - 2 * kGibibyte);
  const MemoryLimits size = LimitsFor("gpu_budget: 15GiB, host_budget: 400GiB", kCard);
  EXPECT_EQ(size.device.ArenaBytes(), 14 * kGibibyte);
  EXPECT_EQ(size.host.ArenaBytes(), 98 * kGibibyte);
}

TEST(MemoryBudget, WhatIsNotFreeIsNotThere) {
  EXPECT_EQ(LimitsFor("gpu_budget: 1.0", kCard).device.ArenaBytes(), 90 * kGibibyte);
  MachineMemory shared = kCard;
  shared.ranks_per_device = 2;
  EXPECT_EQ(LimitsFor("gpu_budget: 1.0", shared).device.ArenaBytes(), 45 * kGibibyte);
  EXPECT_EQ(LimitsFor("gpu_budget: 10GiB", shared).device.ArenaBytes(), 4 * kGibibyte);
}

TEST(MemoryBudget, WhatNobodyKnowsLimitsNothing) {
  const MachineMemory unknown{.device_is_host = false};
  const MemoryLimits limits = LimitsFor("gpu_budget: 0.5", unknown);
  EXPECT_FALSE(limits.device.ArenaBytes().has_value());
  EXPECT_TRUE(Fits({.device_bytes = int64_t{1} << 60, .host_bytes = int64_t{1} << 60}, limits));
}

TEST(MemoryBudget, OnTheCpuTheDeviceTierCountsAgainstTheHostToo) {
  const MachineMemory cpu{.host_bytes = 16 * kGibibyte, .ranks_per_host = 2};
  const MemoryLimits limits = LimitsFor("gpu_budget: 1.0, host_budget: 0.5", cpu);
  EXPECT_TRUE(Fits({.device_bytes = 3 * kGibibyte, .host_bytes = kGibibyte}, limits));
  EXPECT_FALSE(Fits({.device_bytes = 3 * kGibibyte, .host_bytes = kGibibyte + 1}, limits));
}

TEST(MemoryBudget, NeedIsThatOfTheRankWithMost) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  for (int world : {1, 2, 3}) {
    const Plan plan = test::PlanOf({.world = world}, spec);
    const MemoryNeed need = NeedOf(plan, spec);
    int64_t device = 0, host = 0;
    for (int rank = 0; rank < world; ++rank) {
      const MemoryLayout layout = MakeMemoryLayout(plan, spec, rank);
      device = std::max(device, layout.slab_bytes + layout.arena_bytes);
      host = std::max(host, layout.host_bytes);
    }
    EXPECT_EQ(need.device_bytes, device);
    EXPECT_EQ(need.host_bytes, host);
  }
}

// The need of the run with keys set by hand.
MemoryNeed NeedWith(const KeyValues& values, const PlanCase& c, const ModelSpec& spec) {
  ResolvedConfig resolved = ResolvedOf(c);
  for (const auto& [path, value] : values) {
    if (path == "memory.offload.optimizer") {
      for (const char* state : {"memory.offload.m", "memory.offload.v", "memory.offload.master"}) {
        resolved.SetPlanned(state, value);
      }
    } else {
      resolved.SetPlanned(path, value);
    }
  }
  return NeedOf(MakePlan(resolved, spec, c.world), spec);
}

TEST(SmallestChange, FitsAndHasAsFewKeysAsPossibleWhateverTheBudget) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const PlanCase c{.more = "memory: {head_slab_tokens: 16}\n"};
  const ResolvedConfig resolved = ResolvedOf(c);
  const Plan plan = MakePlan(resolved, spec, 1);
  const int64_t most = NeedOf(plan, spec).device_bytes;
  int found = 0, refused = 0;
  size_t keys_before = 0;
  for (int64_t part = 40; part > 0; --part) {
    MemoryLimits limits{.device = {.key = "memory.gpu_budget", .budget_bytes = most * part / 40},
                        .host = {.key = "memory.host_budget"},
                        .device_is_host = false};
    if (part == 40) {
      EXPECT_NO_THROW(RequirePlanFits(resolved, plan, spec, limits));
      continue;
    }
    const KeyValues change = SmallestChange(resolved, spec, 1, limits);
    if (change.empty()) {
      ++refused;
      continue;
    }
    EXPECT_EQ(refused, 0) << "less memory fits where more did not";
    EXPECT_TRUE(Fits(NeedWith(change, c, spec), limits));
    EXPECT_GE(change.size(), keys_before);
    // Without any one of its keys it does not fit.
    for (size_t left_out = 0; left_out < change.size(); ++left_out) {
      KeyValues fewer = change;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(left_out));
      EXPECT_FALSE(Fits(NeedWith(fewer, c, spec), limits)) << part;
    }
    keys_before = change.size();
    ++found;
  }
  EXPECT_GT(found, 0);
  EXPECT_GT(refused, 0);
}

TEST(SmallestChange, IsTheRemedyOfTheRefusal) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const ResolvedConfig resolved = ResolvedOf({.more = "memory: {gpu_budget: 1MiB}\n"});
  const Plan plan = MakePlan(resolved, spec, 1);
  const int64_t need = NeedOf(plan, spec).device_bytes;
  const auto error = [&](int64_t budget, int64_t outside) -> std::string {
    try {
      RequirePlanFits(
          resolved, plan, spec,
          {.device = {.key = "memory.gpu_budget", .budget_bytes = budget, .outside_bytes = outside},
           .host = {.key = "memory.host_budget"},
           .device_is_host = false});
    } catch (const BudgetError& refusal) {
      return refusal.what();
    }
    return "no error";
  };
  EXPECT_EQ(error(need, 0), "no error");
  EXPECT_EQ(error(need + 5, 5), "no error");
  EXPECT_THAT(error(need + 4, 5), StartsWith("run.yaml:4:22: error: memory.gpu_budget: "));
  EXPECT_THAT(error(need - 1, 0), HasSubstr("; set memory."));
  EXPECT_THAT(error(1, 0), HasSubstr("no setting of this version makes it fit"));
  EXPECT_THAT(error(need + 4, 5), testing::Not(HasSubstr("\n")));
}

}  // namespace
}  // namespace hearth
