#include "runtime/plan/hardware_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "runtime/config/yaml_document.h"

namespace hearth {

namespace {

constexpr double kLargest = 1e6;
constexpr NumberRange kRate{.min = 0, .max = kLargest, .open_min = true};
constexpr NumberRange kPeak{.min = 0, .max = kLargest};  // 0: has none
constexpr NumberRange kShare{.min = 0, .max = 1.5, .open_min = true};
constexpr NumberRange kCost{.min = 0, .max = kLargest};

struct Figure {
  std::string_view section;
  std::string_view key;
  double HardwareProfile::*member;
  NumberRange range;
};

// In the order of the file.
constexpr std::array kFigures = {
    Figure{"device_memory", "size_gib", &HardwareProfile::size_gib, kCost},
    Figure{"device_memory", "outside_gib", &HardwareProfile::outside_gib, kCost},
    Figure{"device_memory", "dram_gbps", &HardwareProfile::dram_gbps, kRate},
    Figure{"device_memory", "copy_gbps", &HardwareProfile::copy_gbps, kRate},
    Figure{"device_memory", "elementwise_gbps", &HardwareProfile::elementwise_gbps, kRate},
    Figure{"compute", "fp8_tflops", &HardwareProfile::fp8_tflops, kPeak},
    Figure{"compute", "bf16_tflops", &HardwareProfile::bf16_tflops, kRate},
    Figure{"compute", "fp32_tflops", &HardwareProfile::fp32_tflops, kRate},
    Figure{"compute", "fp8_share", &HardwareProfile::fp8_share, kShare},
    Figure{"compute", "bf16_share", &HardwareProfile::bf16_share, kShare},
    Figure{"compute", "fp32_share", &HardwareProfile::fp32_share, kShare},
    Figure{"compute", "half_rate_gflop", &HardwareProfile::half_rate_gflop, kCost},
    Figure{"compute", "attention_share", &HardwareProfile::attention_share, kShare},
    Figure{"compute", "attention_backward_share", &HardwareProfile::attention_backward_share,
           kShare},
    Figure{"compute", "attention_token_ns", &HardwareProfile::attention_token_ns, kCost},
    Figure{"compute", "kernel_us", &HardwareProfile::kernel_us, kCost},
    Figure{"host", "to_device_gbps", &HardwareProfile::to_device_gbps, kRate},
    Figure{"host", "to_host_gbps", &HardwareProfile::to_host_gbps, kRate},
    Figure{"host", "both_ways_gbps", &HardwareProfile::both_ways_gbps, kRate},
    Figure{"host", "memory_gbps", &HardwareProfile::memory_gbps, kRate},
    Figure{"host", "adamw_gbps", &HardwareProfile::adamw_gbps, kRate},
    Figure{"host", "adamw_stochastic_gbps", &HardwareProfile::adamw_stochastic_gbps, kRate},
    Figure{"peers", "gather_gbps", &HardwareProfile::gather_gbps, kRate},
    Figure{"peers", "reduce_gbps", &HardwareProfile::reduce_gbps, kRate},
    Figure{"peers", "latency_us", &HardwareProfile::latency_us, kCost},
    Figure{"boxes", "box_gbps", &HardwareProfile::box_gbps, kRate},
    Figure{"boxes", "box_latency_us", &HardwareProfile::box_latency_us, kCost},
};

constexpr std::array<std::string_view, 5> kSections = {"device_memory", "compute", "host", "peers",
                                                       "boxes"};

std::vector<std::string_view> KeysOf(std::string_view section) {
  std::vector<std::string_view> keys;
  for (const Figure& figure : kFigures) {
    if (figure.section == section) keys.push_back(figure.key);
  }
  return keys;
}

void ReadHead(const YamlDocument& document, HardwareProfile* profile) {
  const YamlNode& root = document.root();
  std::vector<std::string_view> keys = {"hardware_version", "name", "devices", "kind"};
  keys.insert(keys.end(), kSections.begin(), kSections.end());
  document.CheckKeys(root, "a hardware file", keys, keys);
  document.Integer(*root.Find("hardware_version"), "hardware_version", {.min = 1, .max = 1});
  profile->name = document.Text(*root.Find("name"), "name");
  const YamlNode& devices = *root.Find("devices");
  if (!devices.IsSequence()) {
    document.Fail(devices.mark, "devices: not a list; write [H200], words of the device's name");
  }
  for (const YamlNode& device : devices.items) {
    profile->devices.push_back(document.Text(device, "devices"));
  }
  const YamlNode& kind = *root.Find("kind");
  const std::string word = document.Text(kind, "kind");
  if (word != "gpu" && word != "cpu") document.Fail(kind.mark, "kind: write gpu or cpu");
  profile->is_gpu = word == "gpu";
}

// What no single figure shows.
void CheckTogether(const YamlDocument& document, const HardwareProfile& profile) {
  const auto mark = [&](std::string_view section, std::string_view key) {
    return document.root().Find(section)->Find(key)->mark;
  };
  if (profile.is_gpu && !(profile.size_gib > profile.outside_gib)) {
    document.Fail(mark("device_memory", "size_gib"),
                  "device_memory.size_gib: no more than outside_gib; give the memory of the GPU");
  }
  const double slower = std::min(profile.to_device_gbps, profile.to_host_gbps);
  if (profile.both_ways_gbps < slower) {
    document.Fail(mark("host", "both_ways_gbps"),
                  fmt::format("host.both_ways_gbps: less than one direction alone ({}); give the "
                              "sum of both directions",
                              NumberText(slower)));
  }
}

}  // namespace

HardwareProfile ParseHardware(std::string_view text, const std::string& file_name) {
  const YamlDocument document = YamlDocument::Parse(text, file_name);
  HardwareProfile profile;
  ReadHead(document, &profile);
  for (std::string_view section : kSections) {
    const std::vector<std::string_view> keys = KeysOf(section);
    document.CheckKeys(*document.root().Find(section), section, keys, keys);
  }
  for (const Figure& figure : kFigures) {
    const YamlNode& value = *document.root().Find(figure.section)->Find(figure.key);
    profile.*figure.member =
        document.Number(value, fmt::format("{}.{}", figure.section, figure.key), figure.range);
  }
  CheckTogether(document, profile);
  return profile;
}

std::string HardwareYaml(const HardwareProfile& profile) {
  std::vector<std::string> devices;
  for (const std::string& device : profile.devices) devices.push_back(QuoteYaml(device));
  std::string text = fmt::format("hardware_version: 1\nname: {}\ndevices: [{}]\nkind: {}\n",
                                 QuoteYaml(profile.name), fmt::join(devices, ", "),
                                 profile.is_gpu ? "gpu" : "cpu");
  for (std::string_view section : kSections) {
    text += fmt::format("{}:\n", section);
    for (const Figure& figure : kFigures) {
      if (figure.section != section) continue;
      text += fmt::format("  {}: {}\n", figure.key, NumberText(profile.*figure.member));
    }
  }
  return text;
}

bool IsOf(const HardwareProfile& profile, std::string_view device_name) {
  std::string name = fmt::format(" {} ", device_name);
  std::replace(name.begin(), name.end(), '-', ' ');
  const auto has = [&](std::string_view words) {
    return name.find(fmt::format(" {} ", words)) != std::string::npos;
  };
  for (std::string_view slower : {"PCIe", "NVL", "Laptop"}) {
    if (has(slower)) return false;
  }
  return std::any_of(profile.devices.begin(), profile.devices.end(), has);
}

}  // namespace hearth
