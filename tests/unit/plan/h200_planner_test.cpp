// The planner with the figures of an H200, whose budgets make it a smaller card.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <set>
#include <sstream>

#include "runtime/model/load_model.h"
#include "runtime/plan/host_rates.h"
#include "runtime/plan/planner.h"

namespace hearth::test {
namespace {

const std::string kConfigs = std::string(HEARTH_SOURCE_DIR) + "/configs";
const std::string k7B =
    "model: {name_or_path: models/qwen2.5-7b.yaml}\n"
    "data: {datasets: [{path: x}], sequence_len: 1024, sample_packing: false}\n"
    "training: {global_batch_size: 64}\n"
    "optimizer: {master_dtype: bf16_stochastic}\n";
constexpr int64_t kGibibyte = int64_t{1} << 30;

std::string TextOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

MemoryLimits Limits(double device_gib, int64_t host_gib) {
  return {.device = {.key = "memory.gpu_budget",
                     .budget_bytes = static_cast<int64_t>(device_gib * kGibibyte),
                     .outside_bytes = kGibibyte},
          .host = {.key = "memory.host_budget", .budget_bytes = host_gib * kGibibyte},
          .device_is_host = false};
}

ResolvedConfig Resolve(const std::string& text) {
  return ParseConfig({.text = text, .file_name = "run.yaml", .features = {.cuda = true}});
}

// Whatever fits a small card fits a larger one.
TEST(H200Planner, MoreMemoryIsNotSlower) {
  const HardwareProfile hardware = ParseHardware(TextOf(kConfigs + "/hardware/h200.yaml"), "h200");
  const ModelSpec spec = BuildModelSpec(LoadModel("models/qwen2.5-7b.yaml", kConfigs).config);
  const ResolvedConfig resolved = Resolve(k7B + "checkpoint: {async_save: false}\n");
  double less = std::numeric_limits<double>::infinity();
  for (const double gibibytes : {15.6, 23.5, 40.0, 79.0}) {
    const MemoryLimits limits = Limits(gibibytes, 110);
    const ChosenPlan chosen = ChoosePlan({resolved, spec, 1, limits, hardware});
    ASSERT_TRUE(chosen.fits) << gibibytes;
    const double seconds = EstimateStep(chosen.plan, spec, hardware).seconds;
    EXPECT_FALSE(!(seconds <= less * 1.01))
        << gibibytes << " GiB: " << seconds << " s, not " << less;
    less = seconds;
  }
}

// A 14B model's state, weights and gradients take 122.4 GiB of host memory: with less, blocks whose
// state stays on the device make it fit, as long as the device has room for them.
TEST(H200Planner, WhatTheHostHasNoRoomForStaysOnTheDevice) {
  const HardwareProfile hardware = ParseHardware(TextOf(kConfigs + "/hardware/h200.yaml"), "h200");
  const ModelSpec spec = BuildModelSpec(LoadModel("models/qwen2.5-14b.yaml", kConfigs).config);
  const std::string text =
      "model: {name_or_path: models/qwen2.5-14b.yaml}\n"
      "data: {datasets: [{path: x}], sequence_len: 1024, sample_packing: false}\n"
      "training: {global_batch_size: 128}\n"
      "optimizer: {master_dtype: bf16_stochastic}\n";
  double less = std::numeric_limits<double>::infinity();
  for (const int64_t gibibytes : {116, 118, 123}) {
    const MemoryLimits limits = Limits(23.5, gibibytes);
    const ChosenPlan chosen = ChoosePlan({Resolve(text), spec, 1, limits, hardware});
    ASSERT_TRUE(chosen.fits) << gibibytes;
    EXPECT_TRUE(Fits(NeedOf(chosen.plan, spec), limits)) << gibibytes;
    const double seconds = EstimateStep(chosen.plan, spec, hardware).seconds;
    EXPECT_FALSE(!(seconds <= less * 1.01)) << gibibytes << " GiB: " << seconds;
    less = seconds;
    // A block's state is 1.54 GiB.
    const int64_t resident = chosen.resolved.config.memory.resident_layers.value_or(0);
    EXPECT_FALSE(
        !(static_cast<double>(resident) >= (122.3 - static_cast<double>(gibibytes)) / 1.54))
        << gibibytes;
  }
  EXPECT_FALSE(ChoosePlan({Resolve(text), spec, 1, Limits(15.6, 118), hardware}).fits);
  // What is named stays.
  const ResolvedConfig none = Resolve(text + "memory: {resident_layers: 0}\n");
  EXPECT_FALSE(ChoosePlan({none, spec, 1, Limits(23.5, 118), hardware}).fits);
}

// A 7B model's state fits a host of 128 GiB once, and not twice: a copy for saves is left out,
// unless it is asked for.
TEST(H200Planner, AModelDataAndABudgetAreEnough) {
  const HardwareProfile hardware = ParseHardware(TextOf(kConfigs + "/hardware/h200.yaml"), "h200");
  for (const char* size : {"1.5b", "7b"}) {
    const std::string model = fmt::format("models/qwen2.5-{}.yaml", size);
    const ModelSpec spec = BuildModelSpec(LoadModel(model, kConfigs).config);
    const std::string text = fmt::format(
        "model: {{name_or_path: {}}}\ndata: {{datasets: [{{path: x}}]}}\nmemory: {{gpu_budget: "
        "15.6GiB}}\n",
        model);
    const MemoryLimits limits = Limits(15.6, 115);
    const ChosenPlan chosen = ChoosePlan({Resolve(text), spec, 1, limits, hardware});
    EXPECT_TRUE(chosen.fits) << size;
    EXPECT_EQ(chosen.plan.saves_from_copy, chosen.resolved.config.checkpoint.async_save);
    EXPECT_EQ(chosen.plan.saves_from_copy, model == "models/qwen2.5-1.5b.yaml");
    const ResolvedConfig copies = Resolve(text + "checkpoint: {async_save: true}\n");
    const ChosenPlan kept = ChoosePlan({copies, spec, 1, limits, hardware});
    EXPECT_TRUE(kept.plan.saves_from_copy);
    EXPECT_EQ(kept.fits, model == "models/qwen2.5-1.5b.yaml");
  }
}

// The same run is decided by the same micro-batch, and so ends in the same bits, whatever this
// host's memory gave when it was measured; where state lives and who updates it follows the
// measurement.
TEST(H200Planner, AMeasuredHostChangesPlacesAndNoBits) {
  const HardwareProfile hardware = ParseHardware(TextOf(kConfigs + "/hardware/h200.yaml"), "h200");
  const ModelSpec spec = BuildModelSpec(LoadModel("models/qwen2.5-7b.yaml", kConfigs).config);
  const ResolvedConfig resolved = Resolve(k7B);
  const MemoryLimits limits = Limits(15.6, 110);
  const ChosenPlan by_file = ChoosePlan({resolved, spec, 1, limits, hardware});
  ASSERT_TRUE(by_file.fits);
  ASSERT_EQ(by_file.values.front().first, "training.micro_batch_size");
  std::set<KeyValues> settings;
  for (const double adamw : {10.0, 66.0, 400.0}) {
    SCOPED_TRACE(adamw);
    const HostRates rates{
        .memory_gbps = 2 * adamw, .adamw_gbps = adamw, .adamw_stochastic_gbps = adamw};
    const HardwareProfile here = WithHost(hardware, rates, 1);
    const ChosenPlan chosen = ChoosePlan({resolved, spec, 1, limits, hardware, &here});
    ASSERT_TRUE(chosen.fits);
    EXPECT_EQ(chosen.plan.numeric, by_file.plan.numeric);
    EXPECT_EQ(chosen.values.front(), by_file.values.front());
    EXPECT_EQ(chosen.usual.front().first, "training.micro_batch_size");
    // No slower, by what was measured, than what the file alone would have chosen.
    EXPECT_FALSE(!(EstimateStep(chosen.plan, spec, here).seconds <=
                   EstimateStep(by_file.plan, spec, here).seconds * 1.01));
    settings.insert(chosen.values);
  }
  EXPECT_GT(settings.size(), 1U);
}

}  // namespace
}  // namespace hearth::test
