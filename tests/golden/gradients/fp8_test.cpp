// FP8 over 16 random batches, judged against the fp32 gradient (golden_test.cpp proves that one).

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/core/philox.h"
#include "runtime/data/hearth_writer.h"
#include "tests/golden/gradients/golden_run.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {
namespace {

constexpr int kBatches = 16;
constexpr int64_t kSequence = 32;
constexpr int64_t kSamples = 8;
constexpr uint32_t kVocabulary = 83;  // the smallest of the models'

void WriteRandomTokens(const std::filesystem::path& file, uint32_t seed) {
  HearthWriter writer({.path = file.string()});
  for (uint32_t i = 0; i < kSequence * kSamples + 1; ++i) {
    const auto token = static_cast<int32_t>(Philox4x32(seed, {i, 0, 0, 0})[0] % kVocabulary);
    writer.Append({&token, 1});
  }
  writer.Finish();
}

bool IsGradient(const std::string& name) { return name != "loss" && name != "logits"; }

// What the batches add up to.
struct TensorJudgement {
  double sum_of_projections = 0;  // of <g8, g> / <g, g>
  std::vector<double> errors;     // |g8 - g| / |g|
};

struct Judgement {
  std::map<std::string, TensorJudgement> tensors;
  InnerProducts whole;
};

void Add(const Tensors& fp8, const Tensors& fp32, Judgement& judgement) {
  ASSERT_EQ(fp8.size(), fp32.size());
  for (const auto& [name, reference] : fp32) {
    ASSERT_TRUE(fp8.contains(name)) << name;
    const std::vector<float>& values = fp8.at(name);
    if (name == "loss") {
      const double error = RelativeError(values, reference);
      EXPECT_FALSE(!(error <= 0.01)) << "loss: relative error " << error;
    }
    if (!IsGradient(name)) continue;
    const InnerProducts products = Multiply(values, reference);
    TensorJudgement& tensor = judgement.tensors[name];
    tensor.sum_of_projections += products.ab / products.bb;
    tensor.errors.push_back(RelativeError(values, reference));
    judgement.whole += products;
  }
}

double Median(std::vector<double> values) {
  // A NaN would make the order meaningless.
  for (double value : values) {
    if (std::isnan(value)) return value;
  }
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

struct Fp8Case {
  std::string model;
  std::string format;
  bool head = false;
};

class GoldenFp8 : public testing::TestWithParam<Fp8Case> {};

TEST_P(GoldenFp8, SixteenBatches) {
  const TemporaryFolder folder;
  Judgement judgement;
  for (int batch = 0; batch < kBatches; ++batch) {
    GoldenRun run{.model = GoldenFolder(GetParam().model),
                  .data = folder.path() / fmt::format("{}.hearth", batch),
                  .sequence_len = kSequence,
                  .samples = kSamples,
                  .micro_batch_size = kSamples};
    WriteRandomTokens(run.data, static_cast<uint32_t>(batch));
    run.keys = {{"precision", "compute_dtype: fp32"}};
    const Tensors fp32 = HearthGradients(run);
    run.keys = {{"precision", "compute_dtype: fp8"},
                {"precision", "fp8_format: " + GetParam().format},
                {"precision", fmt::format("fp8_lm_head: {}", GetParam().head)}};
    ASSERT_NO_FATAL_FAILURE(Add(HearthGradients(run), fp32, judgement));
  }
  for (const auto& [name, tensor] : judgement.tensors) {
    const double projection = tensor.sum_of_projections / kBatches;
    EXPECT_FALSE(!(projection >= 0.95 && projection <= 1.05)) << name << ": " << projection;
    const double error = Median(tensor.errors);
    EXPECT_FALSE(!(error <= 0.35)) << name << ": median relative error " << error;
  }
  const InnerProducts& whole = judgement.whole;
  const double cosine = whole.ab / std::sqrt(whole.aa * whole.bb);
  EXPECT_FALSE(!(cosine >= 0.94)) << "cosine of the whole gradient " << cosine;
}

INSTANTIATE_TEST_SUITE_P(Model, GoldenFp8,
                         testing::Values(Fp8Case{"llama", "e4m3"}, Fp8Case{"llama", "hybrid"},
                                         Fp8Case{"qwen2", "e4m3"}, Fp8Case{"qwen2", "hybrid"},
                                         Fp8Case{"qwen3-tied", "e4m3"},
                                         Fp8Case{"qwen3-tied", "hybrid"},
                                         Fp8Case{"llama", "e4m3", true},
                                         Fp8Case{"qwen3-tied", "e4m3", true}),
                         [](const auto& test) {
                           std::string name = test.param.model + "_" + test.param.format +
                                              (test.param.head ? "_head" : "");
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace hearth::test
