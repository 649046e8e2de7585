#include "runtime/telemetry/cgroups.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>
#include <string>
#include <vector>

namespace hearth {

namespace {

// v1 writes "no limit" as the largest number of pages.
constexpr int64_t kNoLimitV1 = int64_t{1} << 60;

std::optional<int64_t> FirstNumber(const std::string& text) {
  int64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || number < 0) return std::nullopt;
  return number;
}

// The process's folder in a hierarchy: of the lines "ID:CONTROLLERS:PATH" that of the controller,
// or of v2 ("0::PATH") where `controller` is empty. "" when there is none.
std::string CgroupPath(const std::string& lines, const std::string& controller) {
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const bool match = controller.empty()
                           ? names == ",," && line.substr(0, first) == "0"
                           : names.find(fmt::format(",{},", controller)) != names.npos;
    if (match) return line.substr(second + 1);
  }
  return "";
}

// The folder of `path` under `mount`, then each above it. In a container the path may be one of the
// host's: then the mount itself is the container's own.
std::vector<std::string> FoldersUpwards(const std::string& mount, std::string path) {
  std::vector<std::string> folders;
  while (path.size() > 1) {
    folders.push_back(mount + path);
    path = path.substr(0, path.rfind('/'));
  }
  folders.push_back(mount);
  return folders;
}

// Calls `read` for the process's folder of v1 and of v2 and for those above.
template <typename Read>
void ForEachFolder(const ReadSystemText& text_of, const std::string& controller, Read read) {
  const std::string lines = text_of("/proc/self/cgroup").value_or("");
  for (const bool v2 : {false, true}) {
    const std::string path = CgroupPath(lines, v2 ? "" : controller);
    if (path.empty()) continue;
    const std::string mount = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controller;
    for (const std::string& folder : FoldersUpwards(mount, path)) read(folder, v2);
  }
}

}  // namespace

std::optional<int64_t> CgroupLimit(const ReadSystemText& text_of, const CgroupFile& file) {
  std::optional<int64_t> lowest;
  ForEachFolder(text_of, file.controller, [&](const std::string& folder, bool v2) {
    const auto text = text_of(folder + "/" + (v2 ? file.file_v2 : file.file_v1));
    const auto limit = text ? FirstNumber(*text) : std::nullopt;  // "max" is no number
    if (limit && *limit < kNoLimitV1) lowest = std::min(lowest.value_or(*limit), *limit);
  });
  return lowest;
}

std::optional<double> CgroupProcessors(const ReadSystemText& text_of) {
  std::optional<double> lowest;
  ForEachFolder(text_of, "cpu", [&](const std::string& folder, bool v2) {
    std::optional<int64_t> quota, period;
    if (v2) {
      const std::string text = text_of(folder + "/cpu.max").value_or("");
      quota = FirstNumber(text);
      const size_t blank = text.find(' ');
      if (blank != std::string::npos) period = FirstNumber(text.substr(blank + 1));
    } else {
      quota = FirstNumber(text_of(folder + "/cpu.cfs_quota_us").value_or(""));  // -1: none
      period = FirstNumber(text_of(folder + "/cpu.cfs_period_us").value_or(""));
    }
    if (!quota || period.value_or(0) <= 0) return;
    const double processors = static_cast<double>(*quota) / static_cast<double>(*period);
    lowest = std::min(lowest.value_or(processors), processors);
  });
  return lowest;
}

}  // namespace hearth
