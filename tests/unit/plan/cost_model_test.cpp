#include "runtime/plan/cost_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "runtime/model/load_model.h"
#include "runtime/plan/step_estimate.h"

namespace hearth::test {
namespace {

const std::string kConfigs = std::string(HEARTH_SOURCE_DIR) + "/configs";

std::string TextOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

HardwareProfile H200() { return ParseHardware(TextOf(kConfigs + "/hardware/h200.yaml"), "h200"); }

// 2 * 100 * 200 * 300 operations at half of 24 TFLOP/s are 1 us; 60,000 + 30,000... bytes are moved
// beside.
TEST(CostModel, AMatmulIsRoofAndFixedPart) {
  const HardwareProfile hardware{.copy_gbps = 100,
                                 .fp8_tflops = 48,
                                 .bf16_tflops = 24,
                                 .fp8_share = 0.5,
                                 .bf16_share = 0.5,
                                 .half_rate_gflop = 0.024,
                                 .kernel_us = 3};
  // a [100, 300] and b [200, 300] in bf16, out [100, 200] in bf16, read as well: 260,000 bytes.
  const double computing = 1e-6, moving = 2.6e-6, fixed = 2e-6, kernel = 3e-6;
  EXPECT_NEAR(MatmulSeconds({.m = 100, .n = 200, .k = 300, .accumulates = true}, hardware),
              std::sqrt(computing * computing + moving * moving) + fixed + kernel, 1e-15);
  // FP8 operands: half of the time to compute and 90,000 + 40,000 bytes.
  EXPECT_NEAR(MatmulSeconds({.m = 100, .n = 200, .k = 300, .type = DType::kF8E4M3}, hardware),
              std::sqrt(0.5e-6 * 0.5e-6 + 1.3e-6 * 1.3e-6) + 1e-6 + kernel, 1e-15);
}

struct Row {
  const char* run;
  double tokens_per_second;  // measured on an H200: docs/performance.md
  double bound;              // relative error
};

double Predicted(const std::string& run) {
  const std::string path = kConfigs + "/runs/bench/" + run + ".yaml";
  const ResolvedConfig resolved =
      ParseConfig({.text = TextOf(path),
                   .file_name = path,
                   .overrides = {{.path = "data.datasets", .value = "[{path: x}]", .given = ""}},
                   .features = {.cuda = true}});
  const ModelSpec spec =
      BuildModelSpec(LoadModel(resolved.config.model.name_or_path, kConfigs).config);
  return EstimateStep(MakePlan(resolved, spec, 1), spec, H200()).tokens_per_second;
}

// Where several hosts gave several figures, their mean. The profile was fitted on 0.5B and on bf16:
// the last two rows are predictions.
TEST(CostModel, WholeStepsOnAnH200AreAsMeasured) {
  for (const Row& row : {Row{"0.5b-fp8", 185366, 0.05}, Row{"0.5b-bf16", 165453, 0.10},
                         Row{"1.5b-bf16", 60062, 0.05}, Row{"7b-bf16", 14128, 0.05},
                         Row{"1.5b-fp8", 77415, 0.05}, Row{"7b-fp8", 21761, 0.05}}) {
    const double error = Predicted(row.run) / row.tokens_per_second - 1;
    EXPECT_FALSE(!(std::abs(error) <= row.bound)) << row.run << " " << error;
  }
}

// Ops of one step of 0.5B, in ms: the tables "Where a step's time goes" and "Attention over few
// tokens".
TEST(CostModel, OpsOfTheSmallestModelAreAsMeasured) {
  const ModelSpec spec = BuildModelSpec(LoadModel("models/qwen2.5-0.5b.yaml", kConfigs).config);
  Precision precision;
  precision.fp8 = true;
  const HardwareProfile hardware = H200();
  const double layers_and_micro_batches = 24 * 8 * 1e3;
  const auto attention = [&](bool backward) {
    return layers_and_micro_batches *
           AttentionSeconds(spec.config, precision, 32768, 1024, backward, hardware);
  };
  EXPECT_NEAR(attention(false), 53, 7);
  EXPECT_NEAR(attention(true), 153, 15);
  Plan plan;
  plan.precision = precision;
  plan.tokens_per_micro_batch = 32768;
  plan.sequence_len = 1024;
  const auto forward = [&](Segment segment) {
    return layers_and_micro_batches * SegmentSeconds(segment, plan, spec.config, hardware);
  };
  EXPECT_NEAR(forward(Segment::kSwiglu), 74, 4);
  EXPECT_NEAR(forward(Segment::kNorm1) + forward(Segment::kNorm2), 22, 4);
}

}  // namespace
}  // namespace hearth::test
