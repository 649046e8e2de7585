// What the control groups of this process allow it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace hearth {

// Gives the text of a file of /proc or /sys; nullopt where there is none.
using ReadSystemText = std::function<std::optional<std::string>(const std::string& path)>;

// `controller` and `file_v1` for v1, such as "memory" and "memory.limit_in_bytes"; `file_v2` such
// as "memory.max".
struct CgroupFile {
  std::string controller;
  std::string file_v1;
  std::string file_v2;
};

// Lowest of the limits of this process's cgroup and those above it, v1 and v2, in the unit of the
// file; nullopt: none.
std::optional<int64_t> CgroupLimit(const ReadSystemText& text_of, const CgroupFile& file);
// Processors' worth of time that the cgroups allow; nullopt: no limit.
std::optional<double> CgroupProcessors(const ReadSystemText& text_of);

}  // namespace hearth
