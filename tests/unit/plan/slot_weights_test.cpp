// Weights of blocks in the slots they take turns in: there when they are needed, and not before the
// one before has gone.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>

#include "runtime/plan/schedule.h"
#include "tests/unit/plan/plan_test_support.h"

namespace hearth::test {
namespace {

// Whether a carried update of the layer is still to come: it will leave the weights in staging.
bool IsUpdatedLater(const Schedule& schedule, const Task& task, int layer) {
  return std::any_of(
      schedule.tasks.begin() + task.id, schedule.tasks.end(), [&](const Task& other) {
        const bool makes_weights =
            other.kind == TaskKind::kUpdate || other.kind == TaskKind::kQuantizeWeights;
        return makes_weights && other.step_offset == 1 && other.unit == layer + 1;
      });
}

// With two slots: whoever computes finds its layer there, whole, and what comes next is on its way.
// Whatever tasks say they touch, a slot is filled behind its last use, and used when it is full.
void ExpectWeightsInSlots(const Schedule& schedule, const ModelSpec& spec, bool gathers) {
  const auto layer_of = [&](const Task& task) {
    return spec.units[static_cast<size_t>(task.unit)].layer;
  };
  const std::vector<std::set<int>> before = Predecessors(schedule);
  std::array<int, 2> fetched{-1, -1}, whole{-1, -1}, filler{-1, -1};  // layers; the last task
  std::array<std::vector<int>, 2> users;
  int transposed = -1;
  for (const Task& task : schedule.tasks) {
    const int layer = task.unit < 0 ? -1 : layer_of(task);
    if (layer < 0) continue;
    const auto slot = static_cast<size_t>(layer % 2);
    const std::set<int>& earlier = before[static_cast<size_t>(task.id)];
    if (task.kind == TaskKind::kFetchWeights) {
      for (int user : users[slot]) EXPECT_TRUE(earlier.contains(user)) << user << ", " << task.id;
      users[slot].clear();
      filler[slot] = task.id;
      EXPECT_EQ(task.slot, layer % 2);
      EXPECT_NE(fetched[slot], layer) << "task " << task.id << " fetches what is there";
      fetched[slot] = layer;
      whole[slot] = gathers ? -1 : layer;
    } else if (task.kind == TaskKind::kGatherWeights) {
      EXPECT_EQ(fetched[slot], layer);
      EXPECT_TRUE(earlier.contains(filler[slot]));
      filler[slot] = task.id;
      whole[slot] = layer;
    } else if (task.kind == TaskKind::kTransposeWeights) {
      EXPECT_EQ(whole[slot], layer);
      EXPECT_TRUE(earlier.contains(filler[slot]));
      users[slot].push_back(task.id);
      transposed = layer;
    } else if (task.kind == TaskKind::kForward || task.kind == TaskKind::kRecompute ||
               task.kind == TaskKind::kBackward) {
      EXPECT_EQ(whole[slot], layer) << "task " << task.id;
      EXPECT_TRUE(earlier.contains(filler[slot])) << "task " << task.id;
      users[slot].push_back(task.id);
      const int next = task.kind == TaskKind::kForward ? layer + 1 : layer - 1;
      if (next >= 0 && next < spec.config.num_layers && !IsUpdatedLater(schedule, task, next)) {
        EXPECT_EQ(whole[static_cast<size_t>(next % 2)], next) << "not on its way: task " << task.id;
      }
      if (task.kind == TaskKind::kBackward) {
        EXPECT_EQ(transposed, layer);
      }
    }
  }
}

// A carried update leaves its block's weights on the device: the forward takes them from staging,
// without the way home and back.
TEST(Schedule, TheForwardWaitsForNoWeightsOnTheirWayHome) {
  ModelConfig config = SmallConfig();
  config.num_layers = 5;
  const ModelSpec spec = BuildModelSpec(config);
  for (const char* memory : {"optimizer_device: gpu, offload: {optimizer: host, weights: host}",
                             "optimizer_device: cpu, offload: {optimizer: host, weights: host}",
                             "schedule: vertical, offload: {weights: host}"}) {
    SCOPED_TRACE(memory);
    const Plan plan = PlanOf({.more = fmt::format("precision: {{compute_dtype: fp8}}\n"
                                                  "memory: {{{}}}\n",
                                                  memory),
                              .training = "global_batch_size: 8, micro_batch_size: 1"},
                             spec);
    const Schedule schedule = BuildSchedule(Phase::kTrain, plan, spec, 0);
    const std::vector<std::set<int>> before = Predecessors(schedule);
    for (int unit = 1; unit <= 5; ++unit) {
      const Task* fetch = FindTask(schedule, TaskKind::kFetchWeights, unit, -1);
      const Task* store = FindTask(schedule, TaskKind::kStoreWeights, unit, -1);
      const Task* forward = FindTask(schedule, TaskKind::kForward, unit, 0);
      ASSERT_TRUE(fetch != nullptr && store != nullptr && forward != nullptr);
      EXPECT_EQ(fetch->source, Tier::kDevice);
      EXPECT_EQ(fetch->bytes, 0);
      EXPECT_TRUE(before[static_cast<size_t>(forward->id)].contains(fetch->id));
      EXPECT_FALSE(before[static_cast<size_t>(forward->id)].contains(store->id)) << unit;
    }
  }
}

TEST(Schedule, LayersFindTheirWeightsInSlots) {
  ModelConfig config = SmallConfig();
  for (const int layers : {1, 2, 3, 6}) {
    config.num_layers = layers;
    const ModelSpec spec = BuildModelSpec(config);
    for (const char* schedule : {"horizontal", "vertical"}) {
      for (const bool gathers : {false, true}) {
        for (const char* optimizer : {"gpu", "cpu"}) {
          const Plan plan = PlanOf(
              {.more = fmt::format("precision: {{compute_dtype: fp8}}\n"
                                   "memory: {{schedule: {}, offload: {{optimizer: host, weights: "
                                   "host}}, optimizer_device: {}}}\n",
                                   schedule, optimizer),
               .training = "global_batch_size: 8, micro_batch_size: 1",
               .world = gathers ? 2 : 1},
              spec);
          for (const Phase phase : {Phase::kTrain, Phase::kGradients, Phase::kEvaluate}) {
            SCOPED_TRACE(fmt::format("{} layers, {}, {}", layers, schedule, Name(phase)));
            const Schedule built = BuildSchedule(phase, plan, spec, 0);
            ExpectWeightsInSlots(built, spec, gathers);
          }
        }
      }
    }
  }
}

// A GPU's queues hold fewer launches than a layer of small micro-batches has, so what the host does
// layers ahead has to be enqueued before compute comes near it.
TEST(Schedule, NothingIsEnqueuedLaterThanItMay) {
  ModelConfig config = SmallConfig();
  config.num_layers = 6;
  const ModelSpec spec = BuildModelSpec(config);
  const Plan plan = PlanOf(
      {.more = "precision: {compute_dtype: fp8}\n"
               "memory: {schedule: vertical, recompute: [block], optimizer_device: gpu, "
               "host_updated_layers: 4, offload: {optimizer: host, weights: host, gradients: host, "
               "residual: host}}\n",
       .training = "global_batch_size: 8, micro_batch_size: 1"},
      spec);
  const Schedule schedule = BuildSchedule(Phase::kTrain, plan, spec, 0);
  const std::vector<std::set<int>> before = Predecessors(schedule);
  int compute = -1, ahead = 0;
  for (const Task& task : schedule.tasks) {
    if (task.stream == StreamId::kCompute) {
      compute = task.id;
      continue;
    }
    EXPECT_TRUE(before[static_cast<size_t>(task.id)].contains(compute))
        << Name(task.kind) << ", task " << task.id << ", could come before task " << compute;
    const bool host_update = task.stream == StreamId::kHostOptimizer;
    ahead +=
        host_update && task.unit > 1 && FindTask(schedule, TaskKind::kForward, 1, 0)->id > task.id;
  }
  EXPECT_GT(ahead, 0);  // the first blocks are not the only ones that the host begins with
}

}  // namespace
}  // namespace hearth::test
