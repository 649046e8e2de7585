// Plans and schedules of several boxes.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/plan/memory_layout.h"
#include "runtime/plan/schedule.h"
#include "runtime/plan/schedule_order.h"
#include "runtime/plan/step_estimate.h"
#include "tests/unit/plan/plan_test_support.h"

namespace hearth::test {
namespace {

constexpr Phase kPhases[] = {Phase::kTrain, Phase::kGradients, Phase::kEvaluate, Phase::kPublish,
                             Phase::kDrain};

Plan PlanIn(int boxes, const PlanCase& c, const ModelSpec& spec) {
  return MakePlan(ResolvedOf(c), spec, {c.world, boxes});
}

TEST(Boxes, RepeatTheShardsOfTheFirst) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const Plan plan = PlanIn(2, {.world = 6}, spec);
  EXPECT_EQ(plan.RanksPerBox(), 3);
  for (const UnitSpec& unit : spec.units) {
    int64_t end = 0;
    for (int rank = 0; rank < 3; ++rank) {
      const ElementRange shard = plan.Shard(unit, rank);
      EXPECT_EQ(shard.begin, end);
      EXPECT_EQ(plan.Shard(unit, rank + 3), shard);
      end = shard.end;
      int64_t exchanged = 0;
      for (int box = 0; box < 2; ++box) {
        EXPECT_EQ(plan.ExchangedPart(shard, box).begin, exchanged);
        exchanged = plan.ExchangedPart(shard, box).end;
      }
      EXPECT_EQ(exchanged, shard.count());
    }
    EXPECT_EQ(end, unit.elements);
  }
  EXPECT_TRUE(plan.Saves(2));
  EXPECT_FALSE(plan.Saves(3));
  EXPECT_THROW(PlanIn(4, {.world = 6}, spec), CheckError);
}

TEST(Boxes, WordsHaveRoomOnTheNetworkAndReplicasCopyNothingToSave) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const Plan plan = PlanIn(2, {.world = 4}, spec);
  for (int rank = 0; rank < 4; ++rank) {
    const MemoryLayout layout = MakeMemoryLayout(plan, spec, rank);
    EXPECT_GE(layout.network_bytes, kStepSumWords * int64_t{8});
    EXPECT_EQ(layout.save_copy_bytes > 0, rank < 2);
  }
  EXPECT_EQ(MakeMemoryLayout(PlanIn(1, {.world = 4}, spec), spec, 0).network_bytes, 0);
}

// The cases that several ranks in a box can have.
template <typename Body>
void ForEachSchedule(const Body& body) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  for (const PlanCase& c : PlanCases({2, 4})) {
    const Plan plan = PlanIn(2, c, spec);
    for (Phase phase : kPhases) {
      SCOPED_TRACE(c.name + std::string(Name(phase)));
      body(plan, spec, BuildSchedule(phase, plan, spec, 0));
    }
  }
}

TEST(Boxes, AllRanksHaveTheSameTasks) {
  ForEachSchedule([](const Plan& plan, const ModelSpec& spec, const Schedule& first) {
    for (int rank = 1; rank < plan.world; ++rank) {
      const Schedule other = BuildSchedule(first.phase, plan, spec, rank);
      ASSERT_EQ(other.tasks.size(), first.tasks.size());
      for (size_t i = 0; i < first.tasks.size(); ++i) {
        ASSERT_EQ(other.tasks[i].kind, first.tasks[i].kind);
        ASSERT_EQ(other.tasks[i].unit, first.tasks[i].unit);
        ASSERT_EQ(other.tasks[i].waits, first.tasks[i].waits);
      }
    }
  });
}

TEST(Boxes, ExchangeEachGradientOnceWhenItIsFinal) {
  ForEachSchedule([](const Plan& plan, const ModelSpec& spec, const Schedule& schedule) {
    std::set<int> units;
    int sums = 0;
    for (const Task& task : schedule.tasks) {
      const bool exchange = task.kind == TaskKind::kExchangeShards;
      sums += task.kind == TaskKind::kExchangeSums ? 1 : 0;
      if (exchange || task.kind == TaskKind::kExchangeSums) {
        EXPECT_EQ(task.stream, StreamId::kNetwork);
      } else if (task.stream == StreamId::kNetwork) {
        EXPECT_EQ(task.kind, TaskKind::kSquareSum);
      }
      // Only of what the boxes have added.
      if (task.kind == TaskKind::kSquareSum) {
        EXPECT_TRUE(units.contains(task.unit));
      }
      if (!exchange) continue;
      EXPECT_TRUE(units.insert(task.unit).second);
      EXPECT_EQ(task.bytes, plan.Shard(spec.units[static_cast<size_t>(task.unit)], 0).count() *
                                SizeOf(plan.precision.gradient));
      for (const Task& later : schedule.tasks) {
        if (later.id < task.id || later.unit != task.unit) continue;
        EXPECT_NE(later.kind, TaskKind::kBackward);
        EXPECT_NE(later.kind, TaskKind::kReduceGradients);
      }
    }
    const bool trains = schedule.phase == Phase::kTrain || schedule.phase == Phase::kGradients;
    EXPECT_EQ(units.size(), trains ? spec.units.size() : 0);
    EXPECT_EQ(sums, trains || schedule.phase == Phase::kEvaluate ? 1 : 0);
  });
}

// Not even a reduction waits for the network: the network would then wait for it. Gradients that go
// on to the host wait for it in one of two slots.
TEST(Boxes, TheNetworkHoldsUpNothingBeforeTheNorm) {
  ForEachSchedule([](const Plan& plan, const ModelSpec&, const Schedule& schedule) {
    if (schedule.phase != Phase::kTrain || plan.gradients.tier == Tier::kHost) return;
    TaskOrder order;
    std::vector<int> exchanges;
    for (const Task& task : schedule.tasks) {
      const TaskOrder::Clock clock = order.ClockOf(task.stream, task.waits);
      order.Add(task);
      if (task.kind == TaskKind::kExchangeShards) exchanges.push_back(task.id);
      const bool computes = task.kind == TaskKind::kHead || task.kind == TaskKind::kBackward;
      const bool reduces = task.kind == TaskKind::kReduceGradients;
      if (exchanges.empty() || (!computes && !reduces)) continue;
      const int first = computes ? exchanges.front() : exchanges.back();
      EXPECT_FALSE(order.Before(first, clock)) << Name(task.kind) << " of unit " << task.unit;
    }
  });
}

TEST(Boxes, AreWarnedOfWhereOneIsFaster) {
  std::ifstream file(std::string(HEARTH_SOURCE_DIR) + "/configs/hardware/cpu.yaml");
  HardwareProfile hardware =
      ParseHardware(std::string(std::istreambuf_iterator<char>(file), {}), "");
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const PlanCase c{.training = "global_batch_size: 64, micro_batch_size: 2", .world = 4};
  const auto warning = [&] {
    return WarnOfSlowBoxes(PlanIn(2, c, spec),
                           PlanIn(1, {.training = c.training, .world = 2}, spec), spec, hardware);
  };
  hardware.box_gbps = 100;
  hardware.box_latency_us = 1;
  EXPECT_EQ(warning(), "");
  // What crosses it, and how long that takes.
  int64_t bytes = 0;
  for (const UnitSpec& unit : spec.units) bytes += unit.elements * 2;
  hardware.box_gbps = 1e-4;
  const Plan plan = PlanIn(2, c, spec);
  const StepEstimate estimate = EstimateStep(plan, spec, hardware);
  EXPECT_NEAR(estimate.busy[static_cast<size_t>(StreamId::kNetwork)],
              static_cast<double>(bytes) / 1e5, 0.02 * static_cast<double>(bytes) / 1e5);
  EXPECT_NE(warning().find("2 boxes are expected to be slower than one"), std::string::npos);
}

}  // namespace
}  // namespace hearth::test
