#include "launcher/link_cache.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <system_error>
#include <utility>

#include "build_info.h"
#include "kernels/backend.h"
#include "kernels/core/error.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

constexpr int64_t kMostBytes = int64_t{1} << 20;
constexpr const char* kDriverFile = "/proc/driver/nvidia/version";
constexpr const char* kProcessorFile = "/proc/cpuinfo";

std::string HostName() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::string FirstLine(const char* path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// A part of a file's name.
std::string FileWord(std::string text) {
  std::replace_if(
      text.begin(), text.end(),
      [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '.' && c != '_';
      },
      '_');
  return text;
}

}  // namespace

std::filesystem::path CacheFolder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return std::filesystem::path(cache) / "hearth";
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home == '/') return std::filesystem::path(home) / ".cache" / "hearth";
  return {};
}

std::string ProcessorName() {
  std::ifstream in(kProcessorFile);
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "CPU";
}

std::filesystem::path CacheFile(const std::string& kind, const std::string& end) {
  const std::filesystem::path folder = CacheFolder();
  if (folder.empty()) return {};
  return folder / fmt::format("{}-{}{}.json", kind, FileWord(HostName()), end);
}

std::filesystem::path LinkCacheFile(bool gpus, int ranks) {
  return CacheFile("links", fmt::format("-{}-{}", gpus ? "cuda" : "cpu", ranks));
}

LinkMachine ThisMachine(std::vector<std::string> devices, bool gpus) {
  return {.host = HostName(),
          .driver = gpus ? OneLine(FirstLine(kDriverFile)) : "",
          .program = kBuildVersion,
          .devices = std::move(devices)};
}

std::string DeviceIdentity(KernelBackend& backend) {
  const std::optional<GpuInfo> gpu = backend.device().gpu();
  return OneLine(gpu ? gpu->identity : ProcessorName());
}

std::vector<std::string> GatherIdentities(Bootstrap& bootstrap, KernelBackend& backend) {
  return GatherTexts(bootstrap, DeviceIdentity(backend));
}

std::vector<std::string> GpuIdentities(int ranks) {
  const std::vector<GpuInfo> gpus = UsableGpus();
  std::vector<std::string> identities;
  for (int rank = 0; rank < ranks && !gpus.empty(); ++rank) {
    identities.push_back(OneLine(gpus[static_cast<size_t>(rank) % gpus.size()].identity));
  }
  return identities;
}

std::string WhyNotCached(const std::filesystem::path& file,
                         const std::function<std::string(const std::string&)>& take) {
  if (file.empty()) return "the environment names no folder for a cache (HOME)";
  std::error_code error;
  if (!std::filesystem::exists(file, error)) {
    return fmt::format("{}: there is none yet", file.string());
  }
  try {
    const std::string stale = take(ReadTextFile(file, kMostBytes));
    return stale.empty() ? "" : fmt::format("{}: {}", file.string(), stale);
  } catch (const std::exception& failure) {
    return OneLine(failure.what());
  }
}

CachedLinks ReadLinks(const std::filesystem::path& file, const LinkMachine& here) {
  CachedLinks links;
  links.why_not = WhyNotCached(file, [&](const std::string& text) {
    LinkTable table = ParseLinkTable(text, file.string());
    const std::string stale = WhyStale(table.machine, here);
    if (stale.empty()) links.table = std::move(table);
    return stale;
  });
  return links;
}

void WriteLinks(const std::filesystem::path& file, const LinkTable& table) {
  WriteCacheFile(file, LinkTableText(table));
}

void WriteCacheFile(const std::filesystem::path& file, const std::string& text) {
  std::error_code error;
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), error);
  const std::filesystem::path partial = fmt::format("{}.{}", file.string(), getpid());
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (out) std::filesystem::rename(partial, file, error);
  if (out && !error) return;
  std::error_code ignored;
  std::filesystem::remove(partial, ignored);
  throw IoError(
      fmt::format("{}: error: cannot be written; make its folder writable", file.string()));
}

}  // namespace hearth
