// What this host's memory gives, measured once and kept in the user's cache folder.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "runtime/config/run_config.h"
#include "runtime/plan/host_rates.h"

namespace hearth {

// $XDG_CACHE_HOME/hearth/host-NAME.json, or below ~/.cache; empty where the environment names no
// home.
std::filesystem::path HostRatesFile();
// This host, without figures.
HostRates ThisHost();

struct CachedRates {
  std::optional<HostRates> rates;
  // One line: why there are none, or why they must not be used. Begins with the file's name.
  std::string why_not;
};
// Never throws: rates that cannot be read, are damaged or are of another machine are not used.
CachedRates ReadHostRates(const std::filesystem::path& file, const HostRates& here);
// This host's, where they are known.
std::optional<HostRates> CachedHostRates();

// Takes a second or two and 640 MB of memory, on all processors that this process may use.
HostRates MeasureHost();
// Replaces the file as a whole and makes its folder. IoError.
void WriteHostRates(const std::filesystem::path& file, const HostRates& rates);
// Before the first run on a GPU here: measures, and keeps what came of it. A failure is a warning.
void MeasureHostFor(DeviceKind device);

}  // namespace hearth
