#include "runtime/plan/simulation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "runtime/plan/step_estimate.h"
#include "tests/unit/plan/plan_test_support.h"
#include "tests/unit/plan/slow_card.h"

namespace hearth::test {
namespace {

constexpr auto kLink = static_cast<size_t>(SharedResource::kHostLink);

size_t Index(StreamId stream) { return static_cast<size_t>(stream); }

struct Made {
  StreamId stream = StreamId::kCompute;
  double seconds = 0;
  std::vector<int> waits = {};
  double link = 0;
  double to_host = 0;
};

SimulatedStep RunTasks(const std::vector<Made>& made) {
  Schedule schedule;
  std::vector<TaskPrice> prices;
  for (const Made& each : made) {
    schedule.tasks.push_back({.id = static_cast<int>(schedule.tasks.size()),
                              .stream = each.stream,
                              .waits = each.waits});
    TaskPrice price{.seconds = each.seconds};
    price.use[kLink] = each.link;
    price.use[static_cast<size_t>(SharedResource::kToHostLink)] = each.to_host;
    prices.push_back(price);
  }
  return Simulate(schedule, prices);
}

void ExpectSpan(const SimulatedStep& step, size_t task, double begin, double end) {
  EXPECT_NEAR(step.spans[task].begin, begin, 1e-12) << task;
  EXPECT_NEAR(step.spans[task].end, end, 1e-12) << task;
}

TEST(Simulation, OneStreamRunsInOrder) {
  const SimulatedStep step = RunTasks({{.seconds = 1}, {.seconds = 2}, {.seconds = 4}});
  ExpectSpan(step, 0, 0, 1);
  ExpectSpan(step, 1, 1, 3);
  ExpectSpan(step, 2, 3, 7);
  EXPECT_EQ(step.seconds, 7);
  EXPECT_EQ(step.critical[Index(StreamId::kCompute)], 7);
}

// A fetch of 3 s under a task of 2 s: the task behind both waits 1 s for it.
TEST(Simulation, WaitsAreKeptAndExposedTimeIsNamed) {
  const SimulatedStep step = RunTasks({{.seconds = 2},
                                       {.stream = StreamId::kToDevice, .seconds = 3},
                                       {.seconds = 5, .waits = {1}},
                                       {.stream = StreamId::kToHost, .seconds = 1, .waits = {2}}});
  ExpectSpan(step, 0, 0, 2);
  ExpectSpan(step, 1, 0, 3);
  ExpectSpan(step, 2, 3, 8);
  ExpectSpan(step, 3, 8, 9);
  EXPECT_EQ(step.seconds, 9);
  EXPECT_EQ(step.busy[Index(StreamId::kCompute)], 7);
  // The chain that ends last: the fetch, the task behind it, the copy to the host.
  EXPECT_EQ(step.critical[Index(StreamId::kToDevice)], 3);
  EXPECT_EQ(step.critical[Index(StreamId::kCompute)], 5);
  EXPECT_EQ(step.critical[Index(StreamId::kToHost)], 1);
}

// Both directions of 4 s alone want 0.8 of the link each: both run at 1 / 1.6 of their speed, until
// the shorter one has ended after 1.6 * 2 = 3.2 s and the other has 2 s left.
TEST(Simulation, TasksShareWhatIsTooNarrowForBoth) {
  const SimulatedStep step = RunTasks({{.stream = StreamId::kToDevice, .seconds = 4, .link = 0.8},
                                       {.stream = StreamId::kToHost, .seconds = 2, .link = 0.8}});
  ExpectSpan(step, 1, 0, 3.2);
  ExpectSpan(step, 0, 0, 5.2);
}

// Two streams to the host have half of that direction each, so of 1.1 of the link they leave 0.45
// to the one to the device: it needs 0.55 / 0.45 s.
TEST(Simulation, WhatTheSlowedLeaveIsTheOthers) {
  const SimulatedStep step =
      RunTasks({{.stream = StreamId::kToHost, .seconds = 1, .link = 0.55, .to_host = 1},
                {.stream = StreamId::kInputs, .seconds = 1, .link = 0.55, .to_host = 1},
                {.stream = StreamId::kToDevice, .seconds = 1, .link = 0.55}});
  ExpectSpan(step, 0, 0, 2);
  ExpectSpan(step, 1, 0, 2);
  ExpectSpan(step, 2, 0, 0.55 / 0.45);
}

TEST(Simulation, WhatFitsBesideEachOtherIsNotSlowed) {
  const SimulatedStep step = RunTasks({{.stream = StreamId::kToDevice, .seconds = 4, .link = 0.5},
                                       {.stream = StreamId::kToHost, .seconds = 4, .link = 0.5},
                                       {.seconds = 1, .link = 0}});
  EXPECT_EQ(step.seconds, 4);
}

// Any schedule takes at least as long as its busiest stream, and at most as long as all tasks one
// after the other. (A shared resource is never wanted by more than two streams here, for less than
// all of it each: sharing costs no more than taking turns.)
TEST(Simulation, LiesBetweenTheBusiestStreamAndTheSum) {
  std::mt19937 random(7);
  const auto below = [&](int bound) {
    return static_cast<int>(random() % static_cast<unsigned>(bound));
  };
  for (int round = 0; round < 200; ++round) {
    std::vector<Made> made;
    std::array<double, kStreamCount> busy{};
    double sum = 0;
    for (int id = 0; id < 40; ++id) {
      Made task{.stream = static_cast<StreamId>(below(kStreamCount)), .seconds = below(100) / 7.0};
      const bool transfers = task.stream == StreamId::kToDevice || task.stream == StreamId::kToHost;
      if (transfers) task.link = 0.5 + below(50) / 100.0;
      for (int wait = 0; wait < 2 && id > 0; ++wait) task.waits.push_back(below(id));
      busy[Index(task.stream)] += task.seconds;
      sum += task.seconds;
      made.push_back(task);
    }
    const SimulatedStep step = RunTasks(made);
    const double longest = *std::max_element(busy.begin(), busy.end());
    EXPECT_FALSE(!(step.seconds >= longest * (1 - 1e-9))) << round;
    EXPECT_FALSE(!(step.seconds <= sum * (1 + 1e-9))) << round;
    const double critical = std::accumulate(step.critical.begin(), step.critical.end(), 0.0);
    EXPECT_FALSE(!(std::abs(critical - step.seconds) <= 1e-9 * sum)) << round;
  }
}

// No rate raised makes any plan slower where nothing is shared. Where host memory or the link is,
// who becomes faster may take from who matters more, and a step may lose a few percent.
TEST(StepEstimate, FasterHardwareIsNotSlower) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  using Rate = double HardwareProfile::*;
  for (const PlanCase& c : PlanCases({1, 2})) {
    const Plan plan = PlanOf(c, spec);
    HardwareProfile wide = SlowCard();
    wide.both_ways_gbps = wide.memory_gbps = 1000;
    for (const bool shares : {false, true}) {
      const HardwareProfile card = shares ? SlowCard() : wide;
      const double before = EstimateStep(plan, spec, card).seconds;
      for (Rate rate : {Rate{&HardwareProfile::copy_gbps}, Rate{&HardwareProfile::bf16_share},
                        Rate{&HardwareProfile::to_device_gbps},
                        Rate{&HardwareProfile::to_host_gbps}, Rate{&HardwareProfile::memory_gbps},
                        Rate{&HardwareProfile::adamw_gbps}, Rate{&HardwareProfile::reduce_gbps}}) {
        HardwareProfile faster = card;
        faster.*rate *= 2;
        const double after = EstimateStep(plan, spec, faster).seconds;
        const double allowed = shares ? 0.1 : 1e-9;
        EXPECT_FALSE(!(after <= before * (1 + allowed))) << c.name << " " << after / before;
      }
    }
  }
}

TEST(StepEstimate, BytesOverTheLinkAreThoseOfTheTasks) {
  const ModelSpec spec = BuildModelSpec(SmallConfig());
  const Plan plan = PlanOf({.name = "",
                            .more = "memory: {offload: {optimizer: host}, optimizer_device: gpu}\n"
                                    "precision: {compute_dtype: bf16}\n"},
                           spec);
  const StepEstimate estimate = EstimateStep(plan, spec, SlowCard());
  // fp32 master, bf16 m and v, both ways; the batch comes besides.
  const int64_t state = spec.StoredElements() * 8;
  EXPECT_GE(estimate.to_device_bytes, state);
  EXPECT_LE(estimate.to_device_bytes, state + 8192);
  EXPECT_EQ(estimate.to_host_bytes, state);
  EXPECT_GT(estimate.exposed_seconds(), 0);
  EXPECT_LT(estimate.exposed_seconds(), estimate.seconds);
}

}  // namespace
}  // namespace hearth::test
