#include "runtime/train/hardware_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/config/config_paths.h"
#include "runtime/config/suggestion.h"

namespace hearth {

namespace {

constexpr std::string_view kFolder = "configs/hardware";
constexpr std::string_view kCommonGpu = "RTX 4090";
constexpr double kUnknownGib = 1 << 12;  // more than any GPU has

// In the order of their names.
std::vector<std::filesystem::path> ShippedFiles(const std::string& installed_configs) {
  std::vector<std::filesystem::path> files;
  const auto folder = FindConfigFile(std::string(kFolder), installed_configs);
  std::error_code ignored;  // what cannot be looked at is not there
  if (!folder || !std::filesystem::is_directory(*folder, ignored)) return files;
  for (const auto& entry : std::filesystem::directory_iterator(*folder, ignored)) {
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

HardwareProfile Read(const std::filesystem::path& path) {
  return ParseHardware(ReadConfigText(path, path.string()), path.string());
}

}  // namespace

HardwareProfile LoadHardware(const std::string& name, const std::string& installed_configs) {
  std::vector<std::string> known;
  for (const std::filesystem::path& file : ShippedFiles(installed_configs)) {
    if (file.stem() == name) return Read(file);
    known.push_back(file.stem());
  }
  if (const auto file = FindConfigFile(name, installed_configs)) return Read(*file);
  const std::string_view meant = ClosestWord(name, {known.begin(), known.end()});
  throw ConfigError(
      fmt::format("{}: error: no such hardware file; {}", Printable(name),
                  meant.empty() ? fmt::format("give a file, or one of {}", fmt::join(known, ", "))
                                : fmt::format("did you mean '{}'?", meant)));
}

std::optional<HardwareProfile> FindHardware(std::string_view device_name,
                                            const std::string& installed_configs) {
  for (const std::filesystem::path& file : ShippedFiles(installed_configs)) {
    HardwareProfile profile = Read(file);
    if (IsOf(profile, device_name)) return profile;
  }
  return std::nullopt;
}

std::optional<HardwareProfile> HardwareOf(const std::string& device_name, bool is_gpu,
                                          const std::string& installed_configs) {
  std::optional<HardwareProfile> profile = FindHardware(device_name, installed_configs);
  if (profile || !is_gpu) return profile;
  profile = FindHardware(kCommonGpu, installed_configs);
  if (profile) {
    profile->name = fmt::format("{} (by the figures of the {})", device_name, profile->name);
    profile->devices = {device_name};
    profile->size_gib = kUnknownGib;
  }
  return profile;
}

MachineMemory WithDevice(MachineMemory machine, const HardwareProfile& profile) {
  if (!profile.is_gpu) return machine;
  constexpr double kGibibyte = 1 << 30;
  machine.device_is_host = false;
  machine.device_bytes = static_cast<int64_t>(profile.size_gib * kGibibyte);
  machine.device_outside_bytes = static_cast<int64_t>(profile.outside_gib * kGibibyte);
  return machine;
}

}  // namespace hearth
