// A run's `device` and the backend it gets.
#include "launcher/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/core/error.h"

namespace hearth {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(DeviceChoice, TheCpuIsOneRankOnTheCpu) {
  EXPECT_FALSE(UsesGpus(DeviceKind::kCpu));
  EXPECT_EQ(DefaultRanksPerHost(DeviceKind::kCpu), 1);
  const auto backend = MakeRankBackend({.device = DeviceKind::kCpu, .local_rank = 3, .threads = 2});
  EXPECT_EQ(backend->device().kind(), DeviceType::kCpu);
  EXPECT_EQ(backend->device().name(), "CPU (2 threads)");
}

TEST(DeviceChoice, AutoIsTheGpusWhereThereAreSome) {
  const int gpus = CudaDeviceCount();
  EXPECT_EQ(UsesGpus(DeviceKind::kAuto), gpus > 0);
  EXPECT_EQ(DefaultRanksPerHost(DeviceKind::kAuto), gpus > 0 ? gpus : 1);
  EXPECT_TRUE(UsesGpus(DeviceKind::kCuda));
  // More ranks than GPUs share them.
  const auto backend = MakeRankBackend({.device = DeviceKind::kAuto, .local_rank = gpus + 1});
  EXPECT_EQ(backend->device().kind(), gpus > 0 ? DeviceType::kCuda : DeviceType::kCpu);
}

TEST(DeviceChoice, AMissingGpuIsRefusedWithARemedy) {
  const auto run = [](std::string_view device) {
    return ParseConfig({.text = "model: {name_or_path: m}\ndata: {datasets: [{path: d}]}\n"
                                "training: {max_steps: 1}\ndevice: " +
                                std::string(device) + "\n",
                        .file_name = "run.yaml",
                        .overrides = {},
                        .features = {.cuda = true}});
  };
  EXPECT_NO_THROW(RequireDevice(run("auto")));
  EXPECT_NO_THROW(RequireDevice(run("cpu")));
  if (CudaDeviceCount() > 0) GTEST_SKIP() << "there is a GPU";
  const auto says_why = AllOf(HasSubstr(WhyNoGpu()), HasSubstr("device: cpu"));
  EXPECT_THAT([&] { RequireDevice(run("cuda")); },
              ThrowsMessage<ConfigError>(AllOf(HasSubstr("run.yaml:4:9: error: "), says_why)));
  EXPECT_THAT([] { MakeRankBackend({.device = DeviceKind::kCuda}); },
              ThrowsMessage<DeviceError>(says_why));
}

}  // namespace
}  // namespace hearth
