#include "runtime/telemetry/device_peaks.h"

#include <algorithm>
#include <string>

namespace hearth {

namespace {

// Found in a name as whole words.
struct KnownDevice {
  std::string_view words;
  DevicePeaks peaks;
};

constexpr KnownDevice kDevices[] = {
    {"H200", {989.4, 1978.9}},         {"H100", {989.4, 1978.9}},  {"A100", {312, 0}},
    {"RTX 4090", {165.2, 330.3}},      {"RTX 5090", {209.5, 419}}, {"RTX 5060 Ti", {47.4, 94.8}},
    {"RTX PRO 6000", {503.8, 1007.6}}, {"L40S", {362, 733}},       {"L4", {121, 242}},
};

// Forms of the same chips that are slower than the table says.
constexpr std::string_view kSlowerForms[] = {"PCIe", "NVL", "Laptop"};

bool HasWords(const std::string& name, std::string_view words) {
  return name.find(' ' + std::string(words) + ' ') != std::string::npos;
}

}  // namespace

std::optional<DevicePeaks> FindDevicePeaks(std::string_view device_name) {
  std::string name = ' ' + std::string(device_name) + ' ';
  std::replace(name.begin(), name.end(), '-', ' ');
  for (std::string_view form : kSlowerForms) {
    if (HasWords(name, form)) return std::nullopt;
  }
  for (const KnownDevice& device : kDevices) {
    if (HasWords(name, device.words)) return device.peaks;
  }
  return std::nullopt;
}

}  // namespace hearth
