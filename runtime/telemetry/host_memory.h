// The memory of this host, and what this process has of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/telemetry/cgroups.h"

namespace hearth {

// The files of /proc and /sys themselves, at most 64 KiB of each.
std::optional<std::string> ReadSystemFile(const std::string& path);

// "Name:   123 kB" of a file such as /proc/meminfo, in bytes.
std::optional<int64_t> MemoryLine(const std::string& text, const std::string& name);

// What processes may use: the machine's memory, or the cgroup's limit where that is lower; nullopt
// where neither is told.
std::optional<int64_t> HostMemoryBytes(const ReadSystemText& text_of);

// What this process holds now and nobody could take from it without swapping: files mapped for
// reading do not count. 0 where that is not told.
int64_t ProcessMemoryBytes(const ReadSystemText& text_of);

}  // namespace hearth
