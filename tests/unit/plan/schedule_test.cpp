// Schedules of small plans: right as built, and refused when anything of their order is taken away.
#include "runtime/plan/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include "kernels/core/check.h"
#include "runtime/plan/memory_layout.h"
#include "tests/unit/plan/plan_test_support.h"

namespace hearth {
namespace {

using test::FindTask;
using test::PlanCase;
using test::PlanCases;
using test::PlanOf;
using test::Predecessors;
using test::SmallConfig;

constexpr Phase kPhases[] = {Phase::kTrain, Phase::kGradients, Phase::kEvaluate, Phase::kPublish,
                             Phase::kDrain};

bool IsValid(const Schedule& schedule) {
  try {
    ValidateSchedule(schedule);
  } catch (const CheckError&) {
    return false;
  }
  return true;
}

bool Conflict(const Task& a, const Task& b) {
  for (const Access& x : a.accesses) {
    for (const Access& y : b.accesses) {
      if (x.kind == y.kind && x.index == y.index && (x.write || y.write)) return true;
    }
  }
  return false;
}

TEST(Schedule, EveryConflictIsOrderedByStreamsAndWaits) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  for (const PlanCase& c : PlanCases({1, 4})) {
    const Plan plan = PlanOf(c, spec);
    for (Phase phase : kPhases) {
      const Schedule schedule = BuildSchedule(phase, plan, spec, 0);
      const std::vector<std::set<int>> before = Predecessors(schedule);
      for (const Task& b : schedule.tasks) {
        for (int a = 0; a < b.id; ++a) {
          if (!Conflict(schedule.tasks[static_cast<size_t>(a)], b)) continue;
          ASSERT_TRUE(before[static_cast<size_t>(b.id)].contains(a))
              << c.name << Name(phase) << ": " << a << " and " << b.id;
        }
      }
    }
  }
}

TEST(Schedule, EveryWaitIsNecessaryAndItsLossIsNoticed) {
  for (bool tied : {false, true}) {
    const ModelSpec spec = BuildModelSpec(SmallConfig(tied));
    for (const PlanCase& c : PlanCases({1, 2})) {
      const Plan plan = PlanOf(c, spec);
      for (Phase phase : kPhases) {
        const Schedule schedule = BuildSchedule(phase, plan, spec, 0);
        for (const Task& task : schedule.tasks) {
          for (size_t i = 0; i < task.waits.size(); ++i) {
            Schedule broken = schedule;
            std::vector<int>& waits = broken.tasks[static_cast<size_t>(task.id)].waits;
            waits.erase(waits.begin() + static_cast<std::ptrdiff_t>(i));
            ASSERT_FALSE(IsValid(broken)) << c.name << Name(phase) << ": task " << task.id
                                          << " without its wait for " << task.waits[i];
          }
        }
      }
    }
  }
}

int64_t CountTasks(const Schedule& schedule, TaskKind kind) {
  return std::count_if(schedule.tasks.begin(), schedule.tasks.end(),
                       [&](const Task& task) { return task.kind == kind; });
}

// Each layer once for the pass of a group, but for the two that are there when it turns round.
TEST(Schedule, WeightsAreFetchedOncePerGroupAndPass) {
  ModelConfig config = SmallConfig();
  config.num_layers = 6;
  const ModelSpec spec = BuildModelSpec(config);
  const auto fetches = [&](const char* memory) {
    const Plan plan =
        PlanOf({.more = fmt::format("memory: {{{}, offload: {{weights: host}}}}\n", memory),
                .training = "global_batch_size: 4, micro_batch_size: 1"},
               spec);
    return CountTasks(BuildSchedule(Phase::kTrain, plan, spec, 0), TaskKind::kFetchWeights);
  };
  EXPECT_EQ(fetches("schedule: vertical"), 6 + 4);
  EXPECT_EQ(fetches("micro_batches_per_group: 2"), 2 + 2 * (4 + 4));
  EXPECT_EQ(fetches("schedule: horizontal"), 2 + 4 * (4 + 4));
}

// Weights of a unit that has just been updated on the host, and are computed with as they are,
// never see the device on their way home.
TEST(Schedule, TheHostOptimizerWritesUnquantisedWeightsWhereTheyStay) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const auto count = [&](const char* compute, TaskKind kind) {
    const Plan plan =
        PlanOf({.more = fmt::format("precision: {{compute_dtype: {}}}\nmemory: "
                                    "{{offload: {{optimizer: host, weights: host}}}}\n",
                                    compute)},
               spec);
    return CountTasks(BuildSchedule(Phase::kTrain, plan, spec, 0), kind);
  };
  EXPECT_EQ(count("bf16", TaskKind::kWeightsToDevice), 2);  // embedding and head
  EXPECT_EQ(count("bf16", TaskKind::kStoreWeights), 0);
  EXPECT_EQ(count("fp8", TaskKind::kWeightsToDevice), 5);
  EXPECT_EQ(count("fp8", TaskKind::kStoreWeights), 3);
}

TEST(Schedule, WaitsAreForOtherStreams) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  for (const PlanCase& c : PlanCases({2})) {
    const Schedule schedule = BuildSchedule(Phase::kTrain, PlanOf(c, spec), spec, 1);
    for (const Task& task : schedule.tasks) {
      for (int wait : task.waits) {
        ASSERT_NE(schedule.tasks[static_cast<size_t>(wait)].stream, task.stream) << c.name;
      }
    }
  }
}

// Swaps two neighbouring tasks of different streams, one of which waits for the other, and renames
// them everywhere: the later now comes first and cannot wait for what is behind it.
TEST(Schedule, AReorderedTaskIsNoticed) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const Plan plan = PlanOf({.more = "memory: {offload: {optimizer: host}}\n", .world = 2}, spec);
  const Schedule schedule = BuildSchedule(Phase::kTrain, plan, spec, 0);
  int swapped = 0;
  for (size_t i = 1; i + 2 < schedule.tasks.size(); ++i) {
    const int a = static_cast<int>(i), b = a + 1;
    if (!Conflict(schedule.tasks[i], schedule.tasks[i + 1])) continue;
    Schedule broken = schedule;
    std::swap(broken.tasks[i], broken.tasks[i + 1]);
    broken.tasks[i].id = a;
    broken.tasks[i + 1].id = b;
    std::erase(broken.tasks[i].waits, a);
    for (Task& task : broken.tasks) {
      for (int& wait : task.waits) wait = wait == a ? b : wait == b ? a : wait;
    }
    if (schedule.tasks[i].stream != schedule.tasks[i + 1].stream) {
      ++swapped;
      EXPECT_FALSE(IsValid(broken)) << "tasks " << a << " and " << b;
    }
  }
  EXPECT_GT(swapped, 5);
}

TEST(Schedule, AMissingFrameIsNoticed) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const Schedule schedule = BuildSchedule(Phase::kEvaluate, PlanOf({.world = 2}, spec), spec, 0);
  Schedule no_end = schedule;
  no_end.tasks.pop_back();
  EXPECT_FALSE(IsValid(no_end));
  Schedule no_begin = schedule;
  no_begin.tasks.front().kind = TaskKind::kClip;
  EXPECT_FALSE(IsValid(no_begin));
  Schedule forward_wait = schedule;
  forward_wait.tasks[2].waits = {5};
  EXPECT_FALSE(IsValid(forward_wait));
  Schedule wrong_id = schedule;
  wrong_id.tasks[2].id = 7;
  EXPECT_FALSE(IsValid(wrong_id));
}

bool IsCollective(TaskKind kind) {
  return kind == TaskKind::kReduceGradients || kind == TaskKind::kReduceSums ||
         kind == TaskKind::kGatherGradients || kind == TaskKind::kReduceAmax ||
         kind == TaskKind::kGatherWeights;
}

// With seven ranks some have nothing of a small unit, and must take part in it all the same.
TEST(Schedule, EveryRankHasTheSameTasksInTheSameOrder) {
  const ModelSpec spec = BuildModelSpec(SmallConfig(/*tied=*/true));
  ASSERT_LT(spec.units.back().elements / kParameterAlignment, 7);
  for (const PlanCase& c : PlanCases({2, 4, 7})) {
    const Plan plan = PlanOf(c, spec);
    for (Phase phase : kPhases) {
      const Schedule first = BuildSchedule(phase, plan, spec, 0);
      for (int rank = 1; rank < c.world; ++rank) {
        const Schedule other = BuildSchedule(phase, plan, spec, rank);
        ASSERT_EQ(other.tasks.size(), first.tasks.size()) << c.name << Name(phase) << rank;
        for (size_t i = 0; i < first.tasks.size(); ++i) {
          const Task &a = first.tasks[i], &b = other.tasks[i];
          ASSERT_EQ(a.kind, b.kind) << c.name << Name(phase) << rank;
          ASSERT_EQ(a.stream, b.stream) << c.name;
          ASSERT_EQ(a.unit, b.unit) << c.name;
          ASSERT_EQ(a.micro_batch, b.micro_batch) << c.name;
          ASSERT_EQ(a.waits, b.waits) << c.name;
          if (IsCollective(a.kind)) {
            ASSERT_EQ(a.bytes, b.bytes) << c.name;
          }
        }
      }
    }
  }
}

TEST(Schedule, CollectivesAreOnOneStreamAndOnlyWithOtherRanks) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  for (const PlanCase& c : PlanCases()) {
    const Plan plan = PlanOf(c, spec);
    for (Phase phase : kPhases) {
      for (const Task& task : BuildSchedule(phase, plan, spec, 0).tasks) {
        // Squares of what was reduced are added up behind the reduction; what is to be gathered is
        // fetched ahead of it.
        if (task.kind != TaskKind::kSquareSum && task.kind != TaskKind::kFetchWeights) {
          EXPECT_EQ(IsCollective(task.kind), task.stream == StreamId::kComm) << c.name;
        }
        if (task.kind == TaskKind::kGatherWeights || task.kind == TaskKind::kReduceAmax) {
          EXPECT_TRUE(c.world > 1 && plan.zero_stage > 0) << c.name;
        }
      }
    }
  }
}

// Of the units that are updated, each of whose elements must be once, in order.
int CountUpdatedUnits(const Schedule& schedule, const Plan& plan, const ModelSpec& spec) {
  std::map<int, int64_t> updated;  // by unit: the end of what has been
  for (const Task& task : schedule.tasks) {
    if (task.kind != TaskKind::kUpdate) continue;
    const ElementRange all = plan.Updated(spec.units[static_cast<size_t>(task.unit)], 0);
    const auto [end, first] = updated.try_emplace(task.unit, all.begin);
    EXPECT_EQ(task.elements.begin, end->second);
    end->second = task.elements.end;
  }
  for (const auto& [unit, end] : updated) {
    EXPECT_EQ(end, plan.Updated(spec.units[static_cast<size_t>(unit)], 0).end);
  }
  return static_cast<int>(updated.size());
}

// What a training step must do to every unit, whatever the plan: gradients of every micro-batch,
// then the norm over all units, and one update each: carried ones before anything uses the unit,
// early ones before the norm, others behind it.
void ExpectWholeStep(const Plan& plan, const ModelSpec& spec, const std::string& name) {
  const int units = static_cast<int>(spec.units.size());
  const Schedule schedule = BuildSchedule(Phase::kTrain, plan, spec, 0);
  const Task* clip = FindTask(schedule, TaskKind::kClip, -1);
  ASSERT_NE(clip, nullptr);
  std::map<TaskKind, int> counts;
  for (const Task& task : schedule.tasks) ++counts[task.kind];
  const int micro_batches = static_cast<int>(plan.micro_batches);
  EXPECT_EQ(counts[TaskKind::kLoadBatch], 1) << name;
  EXPECT_EQ(counts[TaskKind::kForward], micro_batches * (units - 1)) << name;
  EXPECT_EQ(counts[TaskKind::kHead], micro_batches) << name;
  EXPECT_EQ(counts[TaskKind::kBackward], micro_batches * (units - 1)) << name;
  EXPECT_EQ(counts[TaskKind::kSquareSum], units) << name;
  EXPECT_EQ(CountUpdatedUnits(schedule, plan, spec), units) << name;
  EXPECT_EQ(counts[TaskKind::kReduceSums], plan.world > 1 ? 1 : 0) << name;
  for (const Task& task : schedule.tasks) {
    const bool gradient = task.kind == TaskKind::kBackward || task.kind == TaskKind::kHead ||
                          task.kind == TaskKind::kSquareSum;
    if (gradient) {
      EXPECT_LT(task.id, clip->id) << name;
    }
    if (task.kind != TaskKind::kUpdate) continue;
    EXPECT_EQ(task.step_offset, plan.IsDeferred(task.unit) ? 1 : 0) << name;
    if (task.step_offset == 0) {
      EXPECT_EQ(task.id < clip->id, plan.early_updates) << name;
      continue;
    }
    for (const Task& other : schedule.tasks) {
      const bool uses = other.kind == TaskKind::kForward || other.kind == TaskKind::kHead ||
                        other.kind == TaskKind::kZeroGradients;
      if (uses && other.unit == task.unit) {
        EXPECT_GT(other.id, task.id) << name;
      }
    }
  }
}

TEST(Schedule, ATrainingStepDoesEverythingOnceAndInOrder) {
  for (bool tied : {false, true}) {
    const ModelSpec spec = BuildModelSpec(SmallConfig(tied));
    const auto units = static_cast<double>(spec.units.size());
    for (const PlanCase& c : PlanCases({1, 2})) {
      Plan plan = PlanOf(c, spec);
      ASSERT_EQ(plan.micro_batches, c.training == PlanCase{}.training ? 4 / c.world : 4);
      EXPECT_EQ(plan.deferred_share, 1) << c.name;
      for (double share : {0.0, 0.25, 0.5, 1.0}) {
        for (bool early : {false, true}) {
          plan.deferred_share = share;
          plan.early_updates = early;
          ExpectWholeStep(plan, spec, c.name + (early ? " early" : ""));
          const Schedule drain = BuildSchedule(Phase::kDrain, plan, spec, 0);
          for (const Task& task : drain.tasks) {
            if (task.kind != TaskKind::kUpdate) continue;
            EXPECT_TRUE(plan.IsDeferred(task.unit) && task.step_offset == 1) << c.name;
          }
          EXPECT_EQ(CountUpdatedUnits(drain, plan, spec), static_cast<int>(share * units))
              << c.name;
        }
      }
    }
  }
}

// With ranks, the gather of a carried unit runs under the forward of the one before.
TEST(Schedule, CarriedGathersRunUnderTheForward) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const Schedule schedule = BuildSchedule(Phase::kTrain, PlanOf({.world = 2}, spec), spec, 0);
  const std::vector<std::set<int>> before = Predecessors(schedule);
  for (int layer = 1; layer < static_cast<int>(spec.config.num_layers); ++layer) {
    const Task* gather = FindTask(schedule, TaskKind::kGatherWeights, spec.block_unit(layer));
    const Task* forward =
        FindTask(schedule, TaskKind::kForward, spec.block_unit(layer - 1), /*micro_batch=*/0);
    ASSERT_TRUE(gather != nullptr && forward != nullptr);
    EXPECT_FALSE(before[static_cast<size_t>(gather->id)].contains(forward->id)) << layer;
    EXPECT_FALSE(before[static_cast<size_t>(forward->id)].contains(gather->id)) << layer;
  }
}

TEST(Schedule, AHostUpdateGoesThroughTheHostAndADeviceUpdateDoesNot) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  for (const PlanCase& c : PlanCases({1, 2})) {
    const Plan plan = PlanOf(c, spec);
    for (const Task& task : BuildSchedule(Phase::kTrain, plan, spec, 0).tasks) {
      if (task.kind == TaskKind::kUpdate) {
        EXPECT_EQ(task.stream == StreamId::kHostOptimizer, plan.optimizer.update_on_host) << c.name;
      }
      if (task.kind == TaskKind::kGradientsToHost || task.kind == TaskKind::kWeightsToDevice) {
        EXPECT_TRUE(plan.optimizer.update_on_host) << c.name;
      }
      if (task.kind == TaskKind::kFetchState || task.kind == TaskKind::kStoreState) {
        EXPECT_TRUE(!plan.optimizer.update_on_host && plan.optimizer.m == Tier::kHost) << c.name;
      }
    }
  }
}

TEST(Schedule, MovedBytesAreThoseOfTheUpdatedElements) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const Plan plan = PlanOf({.more = "precision: {compute_dtype: bf16}\n"
                                    "optimizer: {m_dtype: bf16, v_dtype: fp32}\n"
                                    "memory: {offload: {m: host, v: host}}\n",
                            .world = 2},
                           spec);
  int64_t fetched = 0, updated = 0;
  for (const Task& task : BuildSchedule(Phase::kTrain, plan, spec, 1).tasks) {
    if (task.kind == TaskKind::kFetchState) fetched += task.bytes;
    if (task.kind == TaskKind::kUpdate) updated += task.elements.count();
  }
  EXPECT_GT(updated, 0);
  EXPECT_EQ(fetched, updated * (2 + 4));
}

// The state of the next block comes while that of this one is on its way back; embedding and head
// take no larger pieces than a block does.
TEST(Schedule, StateComesInPiecesThatTakeTurns) {
  ModelConfig config = SmallConfig();
  config.vocab_size = 2000;
  const ModelSpec spec = BuildModelSpec(config);
  ASSERT_GT(spec.units[0].elements, 2 * spec.units[1].elements);
  for (const int world : {1, 3}) {
    const Plan plan = PlanOf(
        {.more = "memory: {offload: {optimizer: host}, optimizer_device: gpu}\n", .world = world},
        spec);
    for (int unit = 0; unit < static_cast<int>(spec.units.size()); ++unit) {
      const size_t pieces = StatePieces(plan, spec, unit, 0).size();
      for (int rank = 0; rank < world; ++rank) {
        const std::vector<ElementRange> ranges = StatePieces(plan, spec, unit, rank);
        ASSERT_EQ(ranges.size(), pieces);
        int64_t end = plan.Updated(spec.units[static_cast<size_t>(unit)], rank).begin;
        for (const ElementRange& range : ranges) {
          EXPECT_EQ(range.begin, end);
          EXPECT_EQ(range.begin % kParameterAlignment, 0);
          EXPECT_LE(range.count(), spec.units[1].elements / world / 4 + 2 * kParameterAlignment);
          end = range.end;
        }
        EXPECT_EQ(end, plan.Updated(spec.units[static_cast<size_t>(unit)], rank).end);
      }
    }
    const Schedule schedule = BuildSchedule(Phase::kTrain, plan, spec, 0);
    const std::vector<std::set<int>> before = Predecessors(schedule);
    const auto first = [&](TaskKind kind, int unit) { return FindTask(schedule, kind, unit)->id; };
    const int fetch = first(TaskKind::kFetchState, 2);
    EXPECT_TRUE(before[static_cast<size_t>(first(TaskKind::kUpdate, 2))].contains(fetch));
    for (const Task& task : schedule.tasks) {
      if (task.kind != TaskKind::kUpdate || task.unit != 1) continue;
      EXPECT_FALSE(before[static_cast<size_t>(fetch)].contains(task.id)) << "waits for the update";
    }
  }
}

TEST(Schedule, NamesAreUniqueAndThePrintHasALineATask) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(TaskKind::kEndStep); ++i) {
    EXPECT_FALSE(Name(static_cast<TaskKind>(i)).empty());
    EXPECT_TRUE(names.insert(Name(static_cast<TaskKind>(i))).second);
  }
  EXPECT_EQ(Name(TaskKind::kEndStep), "end_step");
  std::set<std::string_view> streams;
  for (int i = 0; i < kStreamCount; ++i) streams.insert(Name(static_cast<StreamId>(i)));
  EXPECT_EQ(streams.size(), static_cast<size_t>(kStreamCount));
  EXPECT_FALSE(streams.contains(""));
  std::set<std::string_view> phases;
  for (Phase phase : kPhases) phases.insert(Name(phase));
  EXPECT_EQ(phases.size(), static_cast<size_t>(kPhaseCount));
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const Schedule schedule = BuildSchedule(Phase::kTrain, PlanOf({.world = 2}, spec), spec, 0);
  const std::string text = PrintSchedule(schedule);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'),
            static_cast<std::ptrdiff_t>(schedule.tasks.size()) + 1);
}

}  // namespace
}  // namespace hearth
