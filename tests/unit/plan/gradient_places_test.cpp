// Gradients that are not whole on the device: what the plan decides about them, and what their way
// there and back hides under.
#include "runtime/plan/gradient_places.h"

#include <gtest/gtest.h>

#include <map>

#include "runtime/plan/memory_layout.h"
#include "tests/unit/plan/plan_test_support.h"

namespace hearth {
namespace {

using test::FindTask;
using test::PlanOf;
using test::Predecessors;

ModelSpec FiveLayers(bool tied = false) {
  ModelConfig config = test::SmallConfig(tied);
  config.num_layers = 5;
  return BuildModelSpec(config);
}

Plan PlanWith(const ModelSpec& spec, const std::string& parallel, const std::string& memory,
              int world) {
  return PlanOf({.more = fmt::format("precision: {{compute_dtype: bf16}}\nparallel: {{{}}}\n"
                                     "memory: {{{}}}\n",
                                     parallel, memory),
                 .training = fmt::format("global_batch_size: {}, micro_batch_size: 2", 8 * world),
                 .world = world},
                spec);
}

struct Decision {
  const char* parallel;
  const char* memory;
  int world;
  bool ranks_first;
  Residence gradients;
};

TEST(GradientPlaces, AreDecidedByStageOrderAndGroups) {
  const ModelSpec spec = FiveLayers();
  const Residence whole, shards{.sharded = true}, host{.tier = Tier::kHost},
      host_shards{.tier = Tier::kHost, .sharded = true};
  const char* auto_first = "zero_stage: 2";
  const char* micro_first = "zero_stage: 2, reduction_order: micro_then_rank";
  const std::vector<Decision> decisions = {
      {"zero_stage: 1", "recompute: none", 2, false, whole},
      {auto_first, "recompute: none", 2, true, shards},
      {auto_first, "schedule: vertical", 2, false, shards},
      {auto_first, "micro_batches_per_group: 3", 2, true, shards},
      {micro_first, "recompute: none", 2, false, whole},
      {micro_first, "schedule: vertical", 2, false, shards},
      {auto_first, "recompute: none", 1, false, whole},
      {"zero_stage: 1", "offload: {gradients: host}", 1, false, host},
      {"zero_stage: 0", "offload: {gradients: host}, schedule: vertical", 2, false, host},
      {"zero_stage: 1", "offload: {gradients: host}", 2, false, host},
      {"zero_stage: 1", "offload: {gradients: host}, schedule: vertical", 2, false, host_shards},
      {auto_first, "offload: {gradients: host}", 2, true, host_shards},
  };
  for (const Decision& each : decisions) {
    const Plan plan = PlanWith(spec, each.parallel, each.memory, each.world);
    SCOPED_TRACE(fmt::format("{}, {}, {} ranks", each.parallel, each.memory, each.world));
    EXPECT_EQ(plan.RanksFirst(), each.ranks_first);
    EXPECT_EQ(plan.gradients.tier, each.gradients.tier);
    EXPECT_EQ(plan.gradients.sharded, each.gradients.sharded);
  }
  // Groups cannot have that order where a table is tied.
  EXPECT_FALSE(PlanWith(FiveLayers(/*tied=*/true), auto_first, "micro_batches_per_group: 3", 2)
                   .RanksFirst());
}

TEST(GradientPlaces, UnitsShareSlots) {
  for (bool tied : {false, true}) {
    const ModelSpec spec = FiveLayers(tied);
    const Plan plan = PlanWith(spec, "zero_stage: 2", "recompute: none", 2);
    const GradientPlaces places(plan, spec);
    for (int layer = 0; layer < 5; ++layer) {
      EXPECT_TRUE(places.InSlot(spec.block_unit(layer)));
      EXPECT_EQ(places.Slot(spec.block_unit(layer)), layer % 2);
    }
    for (int edge : {spec.embedding_unit(), spec.head_unit()}) {
      EXPECT_EQ(places.InSlot(edge), !tied);
      EXPECT_EQ(places.Slot(edge), 2);
    }
    const MemoryLayout layout = MakeMemoryLayout(plan, spec, 0);
    EXPECT_EQ(layout.units[1].gradients, layout.units[3].gradients);
    EXPECT_NE(layout.units[1].gradients, layout.units[2].gradients);
    EXPECT_EQ(layout.units.front().gradients == layout.units.back().gradients, !tied);
  }
}

// Neither waits for the other: they can run at the same time.
bool RunBeside(const std::vector<std::set<int>>& before, const Task* a, const Task* b) {
  return a != nullptr && b != nullptr && !before[static_cast<size_t>(a->id)].contains(b->id) &&
         !before[static_cast<size_t>(b->id)].contains(a->id);
}

TEST(GradientPlaces, TheirWayIsHiddenUnderTheNeighboursBackward) {
  const ModelSpec spec = FiveLayers();
  const auto expect = [&](TaskKind kind, const Plan& plan, int neighbour) {
    const Schedule schedule = BuildSchedule(Phase::kTrain, plan, spec, 0);
    const std::vector<std::set<int>> before = Predecessors(schedule);
    for (int layer = 1; layer < 4; ++layer) {
      for (int mb = 1; mb < 4; ++mb) {
        const Task* moved = FindTask(schedule, kind, spec.block_unit(layer), mb);
        if (moved == nullptr) continue;
        const Task* computed =
            FindTask(schedule, TaskKind::kBackward, spec.block_unit(layer + neighbour), mb);
        EXPECT_TRUE(RunBeside(before, moved, computed))
            << Name(kind) << " of layer " << layer << ", micro-batch " << mb;
      }
    }
    EXPECT_NE(FindTask(schedule, kind, spec.block_unit(2), 3), nullptr) << Name(kind);
  };
  const Plan shards = PlanWith(spec, "zero_stage: 2", "recompute: none", 2);
  expect(TaskKind::kReduceGradients, shards, -1);
  const Plan host = PlanWith(spec, "zero_stage: 1", "offload: {gradients: host}", 1);
  expect(TaskKind::kStoreGradients, host, -1);
  expect(TaskKind::kFetchGradients, host, +1);
  const Plan streamed =
      PlanWith(spec, "zero_stage: 1", "offload: {gradients: host, weights: host}", 1);
  expect(TaskKind::kFetchGradients, streamed, +1);
  const Plan both = PlanWith(spec, "zero_stage: 2", "offload: {gradients: host}", 2);
  expect(TaskKind::kReduceGradients, both, -1);
  expect(TaskKind::kFetchGradients, both, +1);
}

// There and back for each group of micro-batches, once a step with all in one; to a host optimizer
// no more. What nobody takes the slot from stays for a device's update.
TEST(GradientPlaces, TheLinkCarriesThemOncePerGroup) {
  const ModelSpec spec = FiveLayers();
  int64_t gradients = 0, last = 0;
  for (const UnitSpec& unit : spec.units) gradients += unit.elements * 2;
  for (int unit : {spec.embedding_unit(), spec.block_unit(0), spec.block_unit(1)}) {
    last += spec.units[static_cast<size_t>(unit)].elements * 2;
  }
  for (const auto& [schedule, groups] :
       {std::pair{"schedule: horizontal", 4}, std::pair{"micro_batches_per_group: 3", 2},
        std::pair{"schedule: vertical", 1}}) {
    for (const char* optimizer : {"cpu", "gpu"}) {
      const Plan plan = PlanWith(spec, "zero_stage: 1",
                                 fmt::format("{}, optimizer_device: {}, offload: {{gradients: "
                                             "host, optimizer: host}}",
                                             schedule, optimizer),
                                 1);
      std::map<TaskKind, int64_t> bytes;
      for (const Task& task : BuildSchedule(Phase::kTrain, plan, spec, 0).tasks) {
        bytes[task.kind] += task.bytes;
      }
      SCOPED_TRACE(fmt::format("{}, {}", schedule, optimizer));
      const int updates = plan.optimizer.update_on_host ? 0 : 1;
      const int64_t stays = updates * last;
      EXPECT_EQ(bytes[TaskKind::kStoreGradients], groups * gradients - stays);
      EXPECT_EQ(bytes[TaskKind::kFetchGradients], (groups - 1 + updates) * gradients - stays);
      EXPECT_EQ(bytes[TaskKind::kGradientsToHost], 0);
    }
  }
}

}  // namespace
}  // namespace hearth
