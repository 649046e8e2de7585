#include "runtime/plan/hardware_profile.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "kernels/core/error.h"

namespace hearth::test {
namespace {

const std::filesystem::path kFolder = std::string(HEARTH_SOURCE_DIR) + "/configs/hardware";

std::string TextOf(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

const std::string& Good() {
  static const std::string text = TextOf(kFolder / "h200.yaml");
  return text;
}

std::string With(const std::string& from, const std::string& to) {
  std::string text = Good();
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string ErrorOf(const std::string& text) {
  try {
    ParseHardware(text, "h.yaml");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

void ExpectStart(const std::string& text, const std::string& start) {
  EXPECT_EQ(text.substr(0, start.size()), start);
}

TEST(HardwareProfile, EveryShippedFileReadsBackAsItIsWritten) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    if (entry.path().extension() != ".yaml") continue;
    const HardwareProfile profile = ParseHardware(TextOf(entry.path()), entry.path().string());
    EXPECT_EQ(ParseHardware(HardwareYaml(profile), "again.yaml"), profile) << entry.path();
    EXPECT_FALSE(profile.devices.empty()) << entry.path();
    EXPECT_LE(profile.copy_gbps, profile.dram_gbps) << entry.path();
    EXPECT_LE(profile.elementwise_gbps, profile.copy_gbps) << entry.path();
    EXPECT_LE(profile.both_ways_gbps, profile.to_device_gbps + profile.to_host_gbps)
        << entry.path();
    names.insert(entry.path().stem());
  }
  EXPECT_EQ(names, (std::set<std::string>{"a100", "cpu", "h100", "h200", "l40s", "rtx-3090",
                                          "rtx-4090", "rtx-5060-ti", "rtx-5090", "rtx-pro-6000"}));
}

TEST(HardwareProfile, FiguresComeFromTheirKeys) {
  const HardwareProfile profile = ParseHardware(Good(), "h200.yaml");
  EXPECT_EQ(profile.name, "NVIDIA H200 SXM");
  EXPECT_EQ(profile.devices, std::vector<std::string>{"H200"});
  EXPECT_TRUE(profile.is_gpu);
  EXPECT_EQ(profile.size_gib, 139.8);
  EXPECT_EQ(profile.fp8_tflops, 1978.9);
  EXPECT_EQ(profile.to_device_gbps, 55);
  EXPECT_EQ(profile.both_ways_gbps, 99);
  EXPECT_EQ(profile.latency_us, 32);
}

TEST(HardwareProfile, WhatIsWrongIsNamedWithItsPlace) {
  ExpectStart(ErrorOf(With("  copy_gbps: 2770", "  copy_gpbs: 2770")),
              "h.yaml:11:3: error: unknown key 'copy_gpbs' in device_memory; did you mean");
  ExpectStart(ErrorOf(With("  dram_gbps: 4800", "  dram_gbps: 0")),
              "h.yaml:10:14: error: device_memory.dram_gbps");
  ExpectStart(ErrorOf(With("kind: gpu", "kind: tpu")), "h.yaml:5:7: error: kind");
  ExpectStart(ErrorOf(With("hardware_version: 1", "hardware_version: 2")),
              "h.yaml:2:19: error: hardware_version");
  ExpectStart(ErrorOf(With("devices: [H200]", "devices: H200")),
              "h.yaml:4:10: error: devices: not a list");
  ExpectStart(ErrorOf(With("outside_gib: 1.1", "outside_gib: 200")),
              "h.yaml:8:13: error: device_memory.size_gib");
  ExpectStart(ErrorOf(With("both_ways_gbps: 99", "both_ways_gbps: 30")),
              "h.yaml:30:19: error: host.both_ways_gbps");
  ExpectStart(ErrorOf(With("  latency_us: 32", "  extra_us: 32")), "h.yaml:38:3: error:");
  ExpectStart(ErrorOf(With("fp8_share: 0.6", "fp8_share: .nan")), "h.yaml:18:14: error:");
  ExpectStart(ErrorOf("[1, 2]"), "h.yaml:1:1: error: a hardware file must be a map");
  ExpectStart(ErrorOf("hardware_version: 1\n"), "h.yaml:1:1: error: a hardware file has no");
}

TEST(HardwareProfile, WholeWordsOfTheNameDecide) {
  const HardwareProfile h200 = ParseHardware(Good(), "h200.yaml");
  EXPECT_TRUE(IsOf(h200, "NVIDIA H200"));
  EXPECT_TRUE(IsOf(h200, "NVIDIA-H200-141GB"));
  EXPECT_FALSE(IsOf(h200, "NVIDIA H200 NVL"));
  EXPECT_FALSE(IsOf(h200, "NVIDIA H2000"));
  EXPECT_FALSE(IsOf(h200, "NVIDIA H100"));
}

}  // namespace
}  // namespace hearth::test
