// Blocks whose optimizer state is not where the others' is, or that are updated elsewhere.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "kernels/core/error.h"
#include "runtime/model/load_model.h"
#include "runtime/plan/memory_layout.h"
#include "runtime/plan/planner.h"
#include "runtime/plan/schedule.h"
#include "tests/unit/plan/plan_test_support.h"
#include "tests/unit/plan/slow_card.h"

namespace hearth {
namespace {

using test::PlanCase;
using test::ResolvedOf;
using test::SlowCard;

ModelSpec FiveLayers() {
  ModelConfig config = test::SmallConfig();
  config.num_layers = 5;
  return BuildModelSpec(config);
}

ResolvedConfig Resolved(const std::string& memory) {
  return ResolvedOf({.name = "", .more = fmt::format("memory: {{{}}}\n", memory)});
}

constexpr const char* kStreamed = "optimizer_device: gpu, offload: {optimizer: host}";

std::vector<int> LayersOf(const Plan& plan, const ModelSpec& spec, bool on_host) {
  std::vector<int> layers;
  for (const auto& [unit, place] : plan.optimizer_of) {
    if (place.update_on_host == on_host) {
      layers.push_back(spec.units[static_cast<size_t>(unit)].layer);
    }
  }
  return layers;
}

int64_t PoolBytes(const MemoryLayout& layout, Tier tier, std::string_view name) {
  for (const MemoryPool& pool : layout.pools) {
    if (pool.tier == tier && pool.name == name) return pool.bytes;
  }
  return 0;
}

TEST(Residence, IsSpreadOverTheDepth) {
  const ModelSpec spec = FiveLayers();
  const std::vector<std::vector<int>> resident = {{},        {0},          {0, 3},
                                                  {0, 2, 4}, {0, 2, 3, 4}, {0, 1, 2, 3, 4}};
  for (size_t count = 0; count < resident.size(); ++count) {
    const Plan plan =
        MakePlan(Resolved(fmt::format("{}, resident_layers: {}", kStreamed, count)), spec, 1);
    EXPECT_EQ(LayersOf(plan, spec, false), resident[count]);
  }
  const Plan both = MakePlan(
      Resolved(fmt::format("{}, resident_layers: 2, host_updated_layers: 2", kStreamed)), spec, 1);
  EXPECT_EQ(LayersOf(both, spec, false), (std::vector<int>{0, 3}));
  EXPECT_EQ(LayersOf(both, spec, true), (std::vector<int>{1, 4}));
}

// bf16 moments and an fp32 master: eight bytes an element, which neither leave the device nor have
// memory on the host.
TEST(Residence, WhatStaysCrossesNoLink) {
  const ModelSpec spec = FiveLayers();
  const Plan none = MakePlan(Resolved(kStreamed), spec, 1);
  const Plan some = MakePlan(Resolved(fmt::format("{}, resident_layers: 2", kStreamed)), spec, 1);
  const int64_t bytes = 2 * 8 * spec.units[1].elements;
  const MemoryLayout before = MakeMemoryLayout(none, spec, 0);
  const MemoryLayout after = MakeMemoryLayout(some, spec, 0);
  EXPECT_EQ(PoolBytes(before, Tier::kDevice, "optimizer state"), 0);
  EXPECT_NEAR(PoolBytes(after, Tier::kDevice, "optimizer state"), bytes, 2 * 3 * 4096);
  EXPECT_NEAR(before.host_bytes - after.host_bytes, bytes, 2 * 3 * 4096);
  const Schedule streamed = BuildSchedule(Phase::kTrain, none, spec, 0);
  const Schedule resident = BuildSchedule(Phase::kTrain, some, spec, 0);
  for (TaskKind kind : {TaskKind::kFetchState, TaskKind::kStoreState}) {
    EXPECT_EQ(SumLinkBytes(streamed, kind).sum() - SumLinkBytes(resident, kind).sum(), bytes);
  }
  for (const Task& task : resident.tasks) {
    if (task.kind != TaskKind::kFetchState && task.kind != TaskKind::kStoreState) continue;
    EXPECT_TRUE(task.unit != spec.block_unit(0) && task.unit != spec.block_unit(3));
  }
}

TEST(Residence, TheHostUpdatesItsBlocksAndNoOthers) {
  const ModelSpec spec = FiveLayers();
  const Plan plan = MakePlan(
      Resolved(fmt::format("{}, resident_layers: 1, host_updated_layers: 2", kStreamed)), spec, 1);
  for (const Task& task : BuildSchedule(Phase::kTrain, plan, spec, 0).tasks) {
    if (task.unit < 0) continue;
    const bool by_host = plan.PlacementOf(task.unit).update_on_host;
    if (task.kind == TaskKind::kUpdate) {
      EXPECT_EQ(task.stream == StreamId::kHostOptimizer, by_host) << task.unit;
    }
    const bool is_hosts =
        task.kind == TaskKind::kGradientsToHost || task.kind == TaskKind::kWeightsToDevice;
    const bool is_devices =
        task.kind == TaskKind::kFetchState || task.kind == TaskKind::kStoreState;
    EXPECT_FALSE(is_hosts && !by_host) << task.unit;
    EXPECT_FALSE(is_devices && by_host) << task.unit;
  }
}

TEST(Residence, WhatCannotBeIsRefusedAtItsPlace) {
  const ModelSpec spec = FiveLayers();
  const auto refusal = [&](const std::string& memory) {
    try {
      MakePlan(Resolved(memory), spec, 1);
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const std::string cpu = "optimizer_device: cpu, offload: {optimizer: host}";
  for (const auto& [memory, words] : std::vector<std::pair<std::string, std::string>>{
           {"resident_layers: 2", "all optimizer state is on the device"},
           {"host_updated_layers: 2", "the host updates state in its memory"},
           {cpu + ", host_updated_layers: 2", "the host updates all of them"},
           {fmt::format("{}, resident_layers: 6", kStreamed), "write fewer"},
           {fmt::format("{}, resident_layers: 3, host_updated_layers: 3", kStreamed),
            "write fewer"}}) {
    EXPECT_NE(refusal(memory).find(words), std::string::npos) << memory << ": " << refusal(memory);
    EXPECT_EQ(refusal(memory).find("run.yaml:4:"), 0u) << refusal(memory);
  }
}

// As many as the budget has room for: one more does not fit.
TEST(Residence, ThePlannerFillsTheDevice) {
  const ModelSpec spec = FiveLayers();
  const auto need = [&](int resident) {
    return NeedOf(
        MakePlan(Resolved(fmt::format("{}, resident_layers: {}", kStreamed, resident)), spec, 1),
        spec);
  };
  for (int resident : {0, 2, 5}) {
    const int64_t spare = resident < 5 ? need(resident + 1).device_bytes - 1 : int64_t{1} << 40;
    const MemoryLimits limits{
        .device = {.key = "memory.gpu_budget", .budget_bytes = spare},
        .host = {.key = "memory.host_budget", .budget_bytes = int64_t{1} << 40},
        .device_is_host = false};
    const ResolvedConfig resolved =
        Resolved(fmt::format("{}, schedule: horizontal, recompute: none, lm_head_chunks: 1, "
                             "micro_batches_per_group: 1",
                             kStreamed));
    const ChosenPlan run = ChoosePlan({resolved, spec, 1, limits, SlowCard()});
    EXPECT_TRUE(run.fits);
    EXPECT_EQ(LayersOf(run.plan, spec, false).size(), static_cast<size_t>(resident));
    EXPECT_EQ(run.resolved.config.memory.resident_layers, resident);
    EXPECT_EQ(run.resolved.config.memory.host_updated_layers, std::nullopt);
  }
}

// Of a 7B model with all on the host of an H200 that may use 15.6 GiB: one step with what the
// planner makes of these keys.
ChosenPlan OnH200(const std::string& keys) {
  static const std::string configs = std::string(HEARTH_SOURCE_DIR) + "/configs";
  static const ModelSpec spec =
      BuildModelSpec(LoadModel(configs + "/models/qwen2.5-7b.yaml", configs).config);
  std::ifstream file(configs + "/hardware/h200.yaml", std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  const HardwareProfile hardware = ParseHardware(text.str(), "h200.yaml");
  const ResolvedConfig resolved = ParseConfig(
      {.text = fmt::format("model: {{name_or_path: qwen2.5-7b.yaml}}\n"
                           "data: {{datasets: [{{path: a.hearth}}], sequence_len: 1024}}\n"
                           "training: {{global_batch_size: 64, micro_batch_size: 4}}\n"
                           "optimizer: {{master_dtype: bf16_stochastic}}\n"
                           "memory: {{schedule: vertical, recompute: [block], offload: {{residual: "
                           "host, optimizer: host, gradients: host, weights: host}}{}}}\n",
                           keys),
       .file_name = "run.yaml"});
  constexpr double kGiB = 1 << 30;
  const MemoryLimits limits{
      .device = {.key = "memory.gpu_budget",
                 .budget_bytes = static_cast<int64_t>(15.6 * kGiB),
                 .outside_bytes = static_cast<int64_t>(0.75 * kGiB)},
      .host = {.key = "memory.host_budget", .budget_bytes = int64_t{200} << 30},
      .device_is_host = false};
  ChosenPlan run = ChoosePlan({resolved, spec, 1, limits, hardware});
  EXPECT_TRUE(run.fits);
  run.seconds = EstimateStep(run.plan, spec, hardware).seconds;
  return run;
}

// Host and device together are faster than either, which say so themselves when they are told.
TEST(Residence, ThePlannerLetsBothUpdate) {
  const ChosenPlan both = OnH200("");
  EXPECT_EQ(both.resolved.config.memory.optimizer_device, OptimizerDevice::kGpu);
  EXPECT_GT(both.resolved.config.memory.host_updated_layers.value_or(0), 0);
  EXPECT_GT(both.resolved.config.memory.resident_layers.value_or(0), 0);
  for (const char* device : {", optimizer_device: gpu", ", optimizer_device: cpu"}) {
    const ChosenPlan one = OnH200(device);
    EXPECT_GT(one.resolved.config.memory.resident_layers.value_or(0), 0) << device;
    EXPECT_EQ(one.resolved.config.memory.host_updated_layers, std::nullopt) << device;
    EXPECT_FALSE(!(both.seconds < one.seconds)) << both.seconds << " for " << one.seconds << device;
  }
}

}  // namespace
}  // namespace hearth
