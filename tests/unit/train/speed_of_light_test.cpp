// Speed of light and MFU against the published figures for one H200 at 1,024 tokens.
#include "runtime/train/speed_of_light.h"

#include <gtest/gtest.h>

#include <cmath>

namespace hearth {
namespace {

constexpr DevicePeaks kH200{.bf16_tflops = 989.4, .fp8_tflops = 1978.9};
const Precision kFp8{.fp8 = true};
const Precision kFp8Head{.fp8 = true, .fp8_head = true};
const Precision kBf16{};

ModelConfig Qwen05b() {
  ModelConfig config;
  config.vocab_size = 151'936;
  config.hidden_size = 896;
  config.intermediate_size = 4864;
  config.num_layers = 24;
  config.num_heads = 14;
  config.num_kv_heads = 2;
  config.head_dim = 64;
  return config;
}

TEST(EfficiencyOf, ThePublishedSpeedOfLightIsOne) {
  for (const auto& [precision, tokens_per_second] :
       {std::pair{kFp8, 489'232.0}, {kBf16, 319'585.0}}) {
    const auto all = EfficiencyOf(Qwen05b(), precision, 1024, kH200, tokens_per_second);
    ASSERT_TRUE(all);
    EXPECT_FALSE(!(std::abs(all->sol - 1.0) <= 2e-6)) << all->sol;
    const auto half = EfficiencyOf(Qwen05b(), precision, 1024, kH200, tokens_per_second / 2);
    EXPECT_FALSE(!(std::abs(half->sol - 0.5) <= 1e-6)) << half->sol;
  }
}

TEST(EfficiencyOf, MfuCountsEverythingAtTheRateOfTheBlocks) {
  const double blocks = 6.0 * 24 * 896 * (3 * 4864 + 14 * 64 + 64 * (14 + 2 * 2));
  const double head = 6.0 * 151'936 * 896;
  const double attention = 6.0 * 24 * 14 * 64 * 1024;
  const double flops = blocks + head + attention;
  const auto fp8 = EfficiencyOf(Qwen05b(), kFp8, 1024, kH200, 200'000);
  EXPECT_FALSE(!(std::abs(fp8->mfu - flops * 200'000 / 1978.9e12) <= 1e-9)) << fp8->mfu;
  EXPECT_LT(fp8->mfu, fp8->sol);
  const auto bf16 = EfficiencyOf(Qwen05b(), kBf16, 1024, kH200, 200'000);
  EXPECT_FALSE(!(std::abs(bf16->mfu - flops * 200'000 / 989.4e12) <= 1e-9)) << bf16->mfu;
  EXPECT_FALSE(!(std::abs(bf16->mfu - bf16->sol) <= 1e-9)) << bf16->sol;
}

// The head's operations take the other rate; those of attention do not.
TEST(EfficiencyOf, AnFp8HeadIsCountedAtItsRate) {
  const double head = 6.0 * 151'936 * 896;
  const double saved = head / 989.4e12 - head / 1978.9e12;
  const auto bf16 = EfficiencyOf(Qwen05b(), kFp8, 1024, kH200, 200'000);
  const auto fp8 = EfficiencyOf(Qwen05b(), kFp8Head, 1024, kH200, 200'000);
  EXPECT_FALSE(!(std::abs(bf16->sol - fp8->sol - saved * 200'000) <= 1e-9)) << fp8->sol;
  EXPECT_EQ(fp8->mfu, bf16->mfu);
}

TEST(EfficiencyOf, SaysNothingWithoutAPeak) {
  const DevicePeaks a100{.bf16_tflops = 312, .fp8_tflops = 0};
  EXPECT_FALSE(EfficiencyOf(Qwen05b(), kFp8, 1024, a100, 1e5));
  EXPECT_TRUE(EfficiencyOf(Qwen05b(), kBf16, 1024, a100, 1e5));
  EXPECT_FALSE(EfficiencyOf(Qwen05b(), {.storage = DType::kF32}, 1024, kH200, 1e5));
}

}  // namespace
}  // namespace hearth
