// Where the weights of blocks live must not change a bit: whole on the device, in host memory, or
// shared out among the ranks.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "runtime/config/resolved_config.h"
#include "tests/property/training/five_layers.h"
#include "tests/support/backend_under_test.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

// What happens to the weights in a step: who updates them when, how often layers want them.
const std::vector<MemoryWay> kWays = {
    {"device optimizer, horizontal", {"offload: {weights: host}"}},
    {"host optimizer, vertical, recompute",
     {"offload: {optimizer: host, weights: host, residual: host}", "schedule: vertical",
      "recompute: [block]"}},
    {"streamed state, groups",
     {"offload: {optimizer: host, weights: host}", "optimizer_device: gpu",
      "micro_batches_per_group: 2", "recompute: [swiglu, norm]"}}};

class Weights : public testing::TestWithParam<std::string> {};

TEST_P(Weights, OnTheHostTheyAreTheSame) {
  const TrainingRunOptions options = FiveLayerRun(GetParam(), 1);
  const TrainingRunResult device = TrainInProcess(options);
  for (const MemoryWay& way : kWays) {
    SCOPED_TRACE(way.name);
    ExpectSameBits(device, TrainInProcess(options, way));
  }
}

TEST_P(Weights, OnTheHostsOfTwoRanksTheyAreTheSame) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  TrainingRunOptions options = FiveLayerRun(GetParam(), 2);
  const TrainingRunResult device = TrainInProcess(options);
  for (const MemoryWay& way : kWays) {
    SCOPED_TRACE(way.name);
    ExpectSameBits(device, TrainInProcess(options, way));
  }
  options.keys.emplace_back("parallel", "zero_stage: 0");  // every rank has all of them
  ExpectSameBits(device, TrainInProcess(options, kWays[1]));
}

// Each rank keeps its shard of them, on the device or on its host: ZeRO 3 has the bits of ZeRO 2,
// and where the order of sums is that of ZeRO 1, its bits.
TEST_P(Weights, SharedOutAmongRanksTheyAreTheSame) {
  for (const int ranks : {2, 3, 4}) {
    if (RanksUnderTest(ranks) != ranks || (ranks == 4 && GetParam() != "fp8_verified")) continue;
    SCOPED_TRACE(fmt::format("{} ranks", ranks));
    const auto train = [&](int stage, std::vector<const char*> memory) {
      TrainingRunOptions options = FiveLayerRun(GetParam(), ranks);
      options.keys.emplace_back("parallel", fmt::format("zero_stage: {}", stage));
      for (const char* key : memory) options.keys.emplace_back("memory", key);
      return TrainInProcess(options);
    };
    const TrainingRunResult horizontal = train(2, {});
    ExpectSameBits(horizontal, train(3, {}));
    ExpectSameBits(horizontal,
                   train(3, {"offload: {optimizer: host, weights: host, gradients: host}",
                             "optimizer_device: gpu"}));
    const TrainingRunResult vertical = train(1, {"schedule: vertical"});
    ExpectSameBits(vertical, train(3, {"schedule: vertical", "offload: {optimizer: host}"}));
  }
}

// Updates that wait for no norm run under the backward.
TEST_P(Weights, UpdatedUnderTheBackwardTheyAreTheSame) {
  for (const int ranks : {1, 2}) {
    if (RanksUnderTest(ranks) != ranks) continue;
    TrainingRunOptions options = FiveLayerRun(GetParam(), ranks);
    options.keys.emplace_back("training", "max_grad_norm: 0");
    const TrainingRunResult device = TrainInProcess(options);
    ExpectSameBits(device, TrainInProcess(options, kWays[static_cast<size_t>(ranks)]));
  }
}

// A run that stopped goes on with its weights elsewhere, and ends as one that never stopped.
TEST_P(Weights, ARunGoesOnWithThemElsewhere) {
  TrainingRunOptions options = FiveLayerRun(GetParam(), 1);
  const TrainingRunResult device = TrainInProcess(options);
  const TemporaryFolder folder;
  options.folder = folder.path();
  options.stop_after = 1;
  EXPECT_EQ(TrainInProcess(options, kWays[2]).steps, 1);
  options.stop_after = 2;
  TrainInProcess(options);
  options.stop_after = -1;
  const TrainingRunResult rest = TrainInProcess(options, kWays[1]);
  EXPECT_EQ(rest.weights, device.weights);
  EXPECT_EQ(rest.losses, device.losses);
}

// Gradients and logits of two ranks, of which one has a micro-batch less: it takes part all the
// same.
TEST_P(Weights, GradientsAndLogitsAreTheSame) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  TrainingRunOptions options = FiveLayerRun(GetParam(), 2);
  options.steps = 1;
  options.folder = folder.path();
  TrainInProcess(options);  // for its inputs
  std::string precision;
  for (const auto& [section, line] : PrecisionKeys(GetParam())) precision += "  " + line + "\n";
  const auto gradients = [&](std::string_view weights) {
    const std::filesystem::path out = folder.path() / fmt::format("{}.safetensors", weights);
    const ResolvedConfig resolved = ParseConfig(
        {.text = fmt::format("output_dir: {0}/none\nmodel:\n  name_or_path: {0}/model.yaml\n"
                             "data:\n  datasets: [{{path: {0}/train.hearth}}]\n"
                             "  sequence_len: 24\n"
                             "training:\n  max_steps: 1\n  global_batch_size: 5\n"
                             "  micro_batch_size: 1\n"
                             "memory:\n  offload: {{weights: {1}}}\nprecision:\n{2}",
                             folder.path().string(), weights, precision),
         .file_name = "test.yaml",
         .features = {.cuda = BackendUnderTest() == "cuda"}});
    WriteGradients(resolved, 2, out, /*with_logits=*/true);
    std::ifstream in(out, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string device = gradients("none");
  EXPECT_GT(device.size(), 100'000u);
  EXPECT_TRUE(device == gradients("host"));
}

INSTANTIATE_TEST_SUITE_P(Precision, Weights, testing::Values("fp32", "bf16", "fp8", "fp8_verified"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace hearth::test
