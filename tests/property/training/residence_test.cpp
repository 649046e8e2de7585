// Where each block's optimizer state lives, and who updates it, must not change a bit: on the
// device beside others' in host memory, by the host beside others by the device.

#include <gtest/gtest.h>

#include "tests/property/training/five_layers.h"
#include "tests/support/backend_under_test.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace hearth::test {
namespace {

constexpr const char* kAllOnHost =
    "offload: {optimizer: host, weights: host, gradients: host, residual: host}";

const std::vector<MemoryWay> kWays = {
    {"some stay", {"offload: {optimizer: host}", "optimizer_device: gpu", "resident_layers: 2"}},
    {"some stay, some by the host, vertical",
     {kAllOnHost, "optimizer_device: gpu", "resident_layers: 2", "host_updated_layers: 2",
      "schedule: vertical", "recompute: [block]"}},
    {"half by the host, groups",
     {kAllOnHost, "optimizer_device: gpu", "host_updated_layers: 3", "micro_batches_per_group: 2"}},
    {"some stay beside the host's optimizer",
     {"offload: {optimizer: host, weights: host}", "optimizer_device: cpu", "resident_layers: 3"}},
    {"all blocks stay",
     {kAllOnHost, "optimizer_device: gpu", "resident_layers: 5", "schedule: vertical"}}};

class Residence : public testing::TestWithParam<std::string> {};

TEST_P(Residence, OfSomeBlocksStateChangesNothing) {
  const TrainingRunOptions options = FiveLayerRun(GetParam(), 1);
  const TrainingRunResult device = TrainInProcess(options);
  for (const MemoryWay& way : kWays) {
    SCOPED_TRACE(way.name);
    const TrainingRunResult run = TrainInProcess(options, way);
    ExpectSameBits(device, run);
    EXPECT_EQ(run.used_bytes, run.planned_bytes);
  }
}

TEST_P(Residence, WithTwoRanksItChangesNothing) {
  if (const std::string why = WhyNotSeveralRanks(); !why.empty()) GTEST_SKIP() << why;
  const TrainingRunOptions options = FiveLayerRun(GetParam(), 2);
  const TrainingRunResult device = TrainInProcess(options);
  for (size_t way : {1, 3}) {
    SCOPED_TRACE(kWays[way].name);
    ExpectSameBits(device, TrainInProcess(options, kWays[way]));
  }
}

TEST_P(Residence, UnderTheBackwardItChangesNothing) {
  TrainingRunOptions options = FiveLayerRun(GetParam(), 1);
  options.keys.emplace_back("training", "max_grad_norm: 0");
  const TrainingRunResult device = TrainInProcess(options);
  for (const MemoryWay& way : kWays) {
    SCOPED_TRACE(way.name);
    ExpectSameBits(device, TrainInProcess(options, way));
  }
}

TEST_P(Residence, ARunGoesOnWithAnother) {
  TrainingRunOptions options = FiveLayerRun(GetParam(), 1);
  const TrainingRunResult device = TrainInProcess(options);
  const TemporaryFolder folder;
  options.folder = folder.path();
  options.stop_after = 1;
  EXPECT_EQ(TrainInProcess(options, kWays[1]).steps, 1);
  EXPECT_EQ(TrainInProcess(options, kWays[3]).steps, 2);
  options.stop_after = -1;
  const TrainingRunResult rest = TrainInProcess(options, kWays[4]);
  EXPECT_EQ(rest.weights, device.weights);
  EXPECT_EQ(rest.losses, device.losses);
}

INSTANTIATE_TEST_SUITE_P(Precision, Residence, testing::Values("bf16", "fp8_verified"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace hearth::test
