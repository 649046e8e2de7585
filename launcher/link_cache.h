// The user's cache folder, and in it the tables of `hearth probe`, one per machine and number of
// ranks.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicators.h"
#include "runtime/plan/link_table.h"

namespace hearth {

// $XDG_CACHE_HOME/hearth, or ~/.cache/hearth; empty where the environment names no home.
std::filesystem::path CacheFolder();
// KIND-HOST<end>.json in it. Empty without a folder.
std::filesystem::path CacheFile(const std::string& kind, const std::string& end = "");
// Why nothing was taken from a file there: "", or one line that begins with the file's name. `take`
// gets its text, and says why it must not be used; what it throws is told too.
std::string WhyNotCached(const std::filesystem::path& file,
                         const std::function<std::string(const std::string& text)>& take);
// Replaces a file as a whole and makes its folder. IoError.
void WriteCacheFile(const std::filesystem::path& file, const std::string& text);
// Of this host. Empty without a folder.
std::filesystem::path LinkCacheFile(bool gpus, int ranks);

// This machine with ranks on these devices.
LinkMachine ThisMachine(std::vector<std::string> devices, bool gpus);
// The model of this host's processors; "CPU" where it is not told.
std::string ProcessorName();
// What tells the backend's device from others.
std::string DeviceIdentity(KernelBackend& backend);
// Of every rank's; collective.
std::vector<std::string> GatherIdentities(Bootstrap& bootstrap, KernelBackend& backend);
// Of each rank of this host, which take its GPUs in turn; empty where there is none.
std::vector<std::string> GpuIdentities(int ranks);

struct CachedLinks {
  std::optional<LinkTable> table;
  // One line: why there is none, or why it must not be used. Begins with the file's name.
  std::string why_not;
};
// Never throws: a table that cannot be read, is damaged or is of another machine is not used.
CachedLinks ReadLinks(const std::filesystem::path& file, const LinkMachine& here);

// Replaces the file as a whole and makes its folder. IoError.
void WriteLinks(const std::filesystem::path& file, const LinkTable& table);

}  // namespace hearth
