// The planner with the figures of an H200, whose budgets make it a smaller card.
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "runtime/model/load_model.h"
#include "runtime/plan/planner.h"

namespace hearth::test {
namespace {

const std::string kConfigs = std::string(HEARTH_SOURCE_DIR) + "/configs";
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
  const ResolvedConfig resolved = Resolve(
      "model: {name_or_path: models/qwen2.5-7b.yaml}\n"
      "data: {datasets: [{path: x}], sequence_len: 1024, sample_packing: false}\n"
      "training: {global_batch_size: 64}\n"
      "optimizer: {master_dtype: bf16_stochastic}\n"
      "checkpoint: {async_save: false}\n");
  double less = std::numeric_limits<double>::infinity();
  for (const double gibibytes : {15.6, 23.5, 31.5, 40.0, 60.0, 79.0}) {
    const MemoryLimits limits = Limits(gibibytes, 110);
    const ChosenPlan chosen = ChoosePlan({resolved, spec, 1, limits, hardware});
    ASSERT_TRUE(chosen.fits) << gibibytes;
    const double seconds = EstimateStep(chosen.plan, spec, hardware).seconds;
    EXPECT_FALSE(!(seconds <= less * 1.01))
        << gibibytes << " GiB: " << seconds << " s, not " << less;
    less = seconds;
  }
}

}  // namespace
}  // namespace hearth::test
