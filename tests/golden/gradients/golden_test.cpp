// Loss, logits, every gradient and ten steps of training against transformers and torch.optim.

#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/data/hearth_writer.h"
#include "tests/golden/gradients/golden_run.h"
#include "tests/support/backend_under_test.h"
#include "tests/support/temporary_folder.h"

namespace hearth::test {
namespace {

using Keys = std::vector<std::pair<std::string, std::string>>;

const Keys kFp32 = {{"precision", "compute_dtype: fp32"}};
const Keys kBf16 = {{"precision", "compute_dtype: bf16"}};
constexpr double kFp32Bound = 1e-5;
constexpr double kBf16Bound = 0.10;

GoldenRun RunOf(const std::string& name, const Keys& keys) {
  const std::filesystem::path folder = GoldenFolder(name);
  return {.model = folder, .data = folder / "tokens.bin", .keys = keys};
}

bool IsTraining(const std::string& name) { return name.starts_with("train."); }

// The same tensors on both sides, each within the bound.
void ExpectClose(const Tensors& ours, const Tensors& theirs, double bound) {
  for (const auto& [name, values] : ours) EXPECT_TRUE(theirs.contains(name)) << name;
  for (const auto& [name, values] : theirs) {
    if (IsTraining(name)) continue;
    const auto found = ours.find(name);
    if (found == ours.end()) {
      ADD_FAILURE() << name << " is missing";
      continue;
    }
    const double error = RelativeError(found->second, values);
    EXPECT_FALSE(!(error <= bound)) << name << ": relative error " << error;
  }
}

class Golden : public testing::TestWithParam<std::string> {
 protected:
  const std::string& name() const { return GetParam(); }
  Tensors Expected() const { return ReadTensors(GoldenFolder(name()) / "expected.safetensors"); }
};

TEST_P(Golden, Fp32) { ExpectClose(HearthGradients(RunOf(name(), kFp32)), Expected(), kFp32Bound); }

TEST_P(Golden, Bf16) { ExpectClose(HearthGradients(RunOf(name(), kBf16)), Expected(), kBf16Bound); }

// Micro-batches of two: the last is padded.
TEST_P(Golden, Fp32InMicroBatches) {
  GoldenRun run = RunOf(name(), kFp32);
  run.micro_batch_size = 2;
  ExpectClose(HearthGradients(run), Expected(), kFp32Bound);
}

// All micro-batches pass a layer together, its inputs wait on the host.
TEST_P(Golden, Fp32InGroups) {
  Keys keys = kFp32;
  keys.emplace_back("memory", "schedule: vertical");
  keys.emplace_back("memory", "recompute: [block]");
  keys.emplace_back("memory", "offload: {residual: host}");
  GoldenRun run = RunOf(name(), keys);
  run.micro_batch_size = 2;
  ExpectClose(HearthGradients(run), Expected(), kFp32Bound);
}

// Two ranks, which share five sequences as two and three.
TEST_P(Golden, Fp32OnTwoRanks) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  GoldenRun run = RunOf(name(), kFp32);
  run.ranks = 2;
  run.micro_batch_size = 3;
  const Tensors two = HearthGradients(run);
  ExpectClose(two, Expected(), kFp32Bound);
  ExpectClose(two, HearthGradients(RunOf(name(), kFp32)), kFp32Bound);
}

// AdamW with clipping, and decay on matrices and embeddings only.
TEST_P(Golden, TenSteps) {
  Keys keys = kFp32;
  keys.insert(keys.end(), {{"training", "max_steps: 10"},
                           {"training", "max_grad_norm: 0.7"},
                           {"optimizer", "learning_rate: 4.0e-3"},
                           {"optimizer", "m_dtype: fp32"},
                           {"optimizer", "v_dtype: fp32"},
                           {"lr_scheduler", "lr_scheduler_type: constant"},
                           {"lr_scheduler", "warmup_steps: 0"}});
  const TrainingCurve curve = HearthTraining(RunOf(name(), keys));
  const Tensors expected = Expected();
  const std::vector<float>& losses = expected.at("train.loss");
  const std::vector<float>& norms = expected.at("train.grad_norm");
  ASSERT_EQ(losses.size(), static_cast<size_t>(kGoldenSteps));
  ASSERT_EQ(curve.losses.size(), losses.size());
  for (size_t i = 0; i < losses.size(); ++i) {
    EXPECT_FALSE(!(RelativeError({curve.losses[i]}, {losses[i]}) <= 1e-4)) << "loss " << i;
    EXPECT_FALSE(!(RelativeError({curve.grad_norms[i]}, {norms[i]}) <= 1e-4)) << "norm " << i;
  }
}

std::string TestName(const testing::TestParamInfo<std::string>& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Model, Golden,
                         testing::Values("llama", "mistral-tied", "qwen2", "qwen2-tied", "qwen3",
                                         "qwen3-tied"),
                         TestName);

// The same models under the config.json that transformers 4 writes.
class GoldenOldLayout : public Golden {};

TEST_P(GoldenOldLayout, Fp32) {
  const TemporaryFolder folder;
  const std::filesystem::path golden = GoldenFolder(name());
  std::filesystem::copy_file(golden / "config-transformers-4.json", folder.path() / "config.json");
  std::filesystem::copy_file(golden / "model.safetensors", folder.path() / "model.safetensors");
  GoldenRun run = RunOf(name(), kFp32);
  run.model = folder.path();
  ExpectClose(HearthGradients(run), Expected(), kFp32Bound);
}

INSTANTIATE_TEST_SUITE_P(Model, GoldenOldLayout,
                         testing::Values("llama", "mistral-tied", "qwen2", "qwen3"), TestName);

// Documents that end inside samples, and masked targets; transformers ran each piece alone.
class GoldenPacked : public Golden {
 protected:
  Tensors Run(const Keys& keys, int64_t micro_batch_size, Tensors* expected) const {
    const TemporaryFolder folder;
    *expected = ReadTensors(GoldenFolder(name()) / "expected-packed.safetensors");
    const std::vector<float> starts = Take(*expected, "document_starts");
    const std::vector<float> mask = Take(*expected, "loss_mask");
    const std::vector<int32_t> tokens = ReadTokens(GoldenFolder(name()) / "tokens.bin");
    GoldenRun run = RunOf(name(), keys);
    run.data = folder.path() / "packed.hearth";
    run.micro_batch_size = micro_batch_size;
    HearthWriter writer({.path = run.data.string(), .has_loss_mask = true});
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (std::ranges::find(starts, static_cast<float>(i)) != starts.end()) writer.EndDocument();
      const auto counts = static_cast<uint8_t>(mask.at(i));
      writer.Append({&tokens[i], 1}, {&counts, 1});
    }
    writer.Finish();
    return HearthGradients(run);
  }

 private:
  static std::vector<float> Take(Tensors& tensors, const std::string& name) {
    return std::move(tensors.extract(name).mapped());
  }
};

TEST_P(GoldenPacked, Fp32) {
  for (int64_t micro_batch_size : {5, 2}) {
    Tensors expected;
    const Tensors ours = Run(kFp32, micro_batch_size, &expected);
    ExpectClose(ours, expected, kFp32Bound);
  }
}

TEST_P(GoldenPacked, Bf16) {
  Tensors expected;
  const Tensors ours = Run(kBf16, 5, &expected);
  ExpectClose(ours, expected, kBf16Bound);
}

INSTANTIATE_TEST_SUITE_P(Model, GoldenPacked, testing::Values("qwen2-tied", "qwen3"), TestName);

}  // namespace
}  // namespace hearth::test
