#include "runtime/telemetry/host_memory.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace hearth {

namespace {

constexpr size_t kMostBytes = size_t{64} << 10;

}  // namespace

std::optional<std::string> ReadSystemFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string text(kMostBytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

std::optional<int64_t> MemoryLine(const std::string& text, const std::string& name) {
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(name + ":", 0) != 0) continue;
    std::istringstream value(line.substr(name.size() + 1));
    int64_t kibibytes = 0;
    if (value >> kibibytes) return kibibytes * 1024;
  }
  return std::nullopt;
}

std::optional<int64_t> HostMemoryBytes(const ReadSystemText& text_of) {
  std::optional<int64_t> bytes = MemoryLine(text_of("/proc/meminfo").value_or(""), "MemTotal");
  const auto limit = CgroupLimit(text_of, {"memory", "memory.limit_in_bytes", "memory.max"});
  if (limit) bytes = std::min(bytes.value_or(*limit), *limit);
  return bytes;
}

int64_t ProcessMemoryBytes(const ReadSystemText& text_of) {
  const std::string status = text_of("/proc/self/status").value_or("");
  return MemoryLine(status, "RssAnon").value_or(0) + MemoryLine(status, "RssShmem").value_or(0);
}

}  // namespace hearth
