#include "runtime/train/hardware_choice.h"

#include <gtest/gtest.h>

#include <map>

#include "kernels/core/error.h"
#include "runtime/telemetry/device_peaks.h"

namespace hearth::test {
namespace {

const std::string kConfigs = std::string(HEARTH_SOURCE_DIR) + "/configs";

TEST(HardwareChoice, DriversNamesFindTheirFiles) {
  const std::map<std::string, std::string> names = {
      {"NVIDIA H200", "NVIDIA H200 SXM"},
      {"NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB SXM"},
      {"NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB SXM"},
      {"NVIDIA L40S", "NVIDIA L40S"},
      {"NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3090"},
      {"NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090"},
      {"NVIDIA GeForce RTX 5090", "NVIDIA GeForce RTX 5090"},
      {"NVIDIA GeForce RTX 5060 Ti", "NVIDIA GeForce RTX 5060 Ti, 16 GB"},
      {"NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "NVIDIA RTX PRO 6000 Blackwell"},
      {"CPU (2 threads)", "CPU"},
  };
  for (const auto& [device, name] : names) {
    const auto profile = FindHardware(device, kConfigs);
    ASSERT_TRUE(profile) << device;
    EXPECT_EQ(profile->name, name);
  }
  EXPECT_FALSE(FindHardware("NVIDIA L4", kConfigs));
  EXPECT_FALSE(FindHardware("NVIDIA GeForce RTX 4090 Laptop GPU", kConfigs));
  EXPECT_FALSE(FindHardware("NVIDIA GeForce RTX 5060", kConfigs));
}

// The speed of light and the predictions are of the same peaks.
TEST(HardwareChoice, PeaksAreThoseOfTelemetry) {
  for (const char* device : {"NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB",
                             "NVIDIA L40S", "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 5090",
                             "NVIDIA GeForce RTX 5060 Ti", "NVIDIA RTX PRO 6000"}) {
    const auto profile = FindHardware(device, kConfigs);
    const auto peaks = FindDevicePeaks(device);
    ASSERT_TRUE(profile && peaks) << device;
    EXPECT_EQ(profile->bf16_tflops, peaks->bf16_tflops) << device;
    EXPECT_EQ(profile->fp8_tflops, peaks->fp8_tflops) << device;
  }
}

TEST(HardwareChoice, NamesAndFilesAreTaken) {
  EXPECT_EQ(LoadHardware("rtx-4090", kConfigs).name, "NVIDIA GeForce RTX 4090");
  EXPECT_EQ(LoadHardware(kConfigs + "/hardware/l40s.yaml", kConfigs).name, "NVIDIA L40S");
  const auto error_of = [](const std::string& name) -> std::string {
    try {
      LoadHardware(name, kConfigs);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(error_of("rtx-4009"),
            "rtx-4009: error: no such hardware file; did you mean 'rtx-4090'?");
  EXPECT_EQ(error_of("abacus").substr(0, 66),
            "abacus: error: no such hardware file; give a file, or one of a100,");
}

}  // namespace
}  // namespace hearth::test
