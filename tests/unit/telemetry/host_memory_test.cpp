#include "runtime/telemetry/host_memory.h"

#include <gtest/gtest.h>

#include <map>

namespace hearth {
namespace {

ReadSystemText Files(std::map<std::string, std::string> files) {
  return [files = std::move(files)](const std::string& path) -> std::optional<std::string> {
    const auto found = files.find(path);
    if (found == files.end()) return std::nullopt;
    return found->second;
  };
}

TEST(HostMemory, TheLowerOfTheMachinesAndTheCgroupsCounts) {
  const std::string info = "MemTotal:       1000 kB\nMemFree: 10 kB\n";
  EXPECT_EQ(HostMemoryBytes(Files({{"/proc/meminfo", info}})), 1000 * 1024);
  const auto with_limit = [&](const std::string& limit) {
    return HostMemoryBytes(Files({{"/proc/meminfo", info},
                                  {"/proc/self/cgroup", "0::/job\n"},
                                  {"/sys/fs/cgroup/job/memory.max", limit}}));
  };
  EXPECT_EQ(with_limit("4096\n"), 4096);
  EXPECT_EQ(with_limit("max\n"), 1000 * 1024);
  EXPECT_EQ(with_limit("99999999\n"), 1000 * 1024);
  EXPECT_FALSE(HostMemoryBytes(Files({})).has_value());
}

TEST(HostMemory, FilesMappedForReadingAreNotTheProcesss) {
  EXPECT_EQ(ProcessMemoryBytes(Files({{"/proc/self/status",
                                       "VmRSS: 900 kB\nRssAnon:\t  100 kB\nRssFile: 700 kB\n"
                                       "RssShmem: 30 kB\n"}})),
            130 * 1024);
  EXPECT_EQ(ProcessMemoryBytes(Files({})), 0);
  EXPECT_GT(ProcessMemoryBytes(ReadSystemFile), 0);
}

}  // namespace
}  // namespace hearth
