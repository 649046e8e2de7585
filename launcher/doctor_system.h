// What `hearth doctor` asks of the machine. Every call comes back within its time limit; what
// cannot be found out is absent, and nothing is thrown.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launcher/link_cache.h"
#include "launcher/running_command.h"

namespace hearth {

// A limit of this process (setrlimit).
enum class ProcessLimit { kLockedMemory, kOpenFiles, kProcesses, kFileSize };
inline constexpr int64_t kUnlimited = -1;

struct GpuCount {
  int count = 0;
  std::string why_none;  // for people
};

struct DiskFacts {
  int64_t free_bytes = 0;  // for this user
  int64_t total_bytes = 0;
  std::string file_system;       // "ext4", "tmpfs"; "" when unknown
  std::string problem;           // why nothing can be written; "": something was
  bool direct = false;           // measured past the page cache
  double write_megabytes_s = 0;  // 10^6 bytes per second
  double read_megabytes_s = 0;
};

class System {
 public:
  virtual ~System() = default;

  // A file of /proc or /sys, at most 64 KiB of it.
  virtual std::optional<std::string> ReadText(const std::string& path) = 0;
  // Names in a folder of these, sorted.
  virtual std::vector<std::string> ListFolder(const std::string& path) = 0;
  // Path of a program of PATH; "".
  virtual std::string FindProgram(const std::string& name) = 0;
  virtual std::string HostName() = 0;
  // Runs all at once, each at most so long; results in the same order.
  virtual std::vector<CommandEnd> RunAll(const std::vector<std::vector<std::string>>& commands,
                                         std::chrono::milliseconds timeout) = 0;
  // Two ranks of this program under mpirun that meet each other.
  virtual CommandEnd StartTwoRanks(std::chrono::milliseconds timeout) = 0;
  virtual std::optional<int64_t> Limit(ProcessLimit limit) = 0;  // the soft one
  virtual int UsableProcessors() = 0;
  virtual int64_t WallTimeSeconds() = 0;  // since 1970
  // Whether this build has CUDA code, and what that sees; nullopt: no answer in time.
  virtual bool BuiltWithCuda() = 0;
  virtual std::optional<GpuCount> CountGpus(std::chrono::milliseconds timeout) = 0;
  // What `hearth probe` has found of that many ranks on this machine's GPUs; nullopt: no answer in
  // time.
  virtual std::optional<CachedLinks> Links(int ranks) = 0;
  // Whether a shared library can be loaded; nullopt: no answer in time.
  virtual std::optional<bool> CanLoad(const std::string& library) = 0;
  // Opens a file of its own in the folder, and where `timed` writes, reads and removes it in about
  // two seconds. nullopt: no answer in time.
  virtual std::optional<DiskFacts> TryDisk(const std::string& folder, bool timed) = 0;
  // Why the kernel refuses, "" when it does not; nullopt: no answer in time.
  virtual std::optional<std::string> TryIoUring() = 0;
  virtual std::optional<std::string> TryReadingAnotherProcess() = 0;
};

// This machine. /proc and /sys are looked for under `root`.
class RealSystem : public System {
 public:
  explicit RealSystem(std::string root = "") : root_(std::move(root)) {}

  std::optional<std::string> ReadText(const std::string& path) override;
  std::vector<std::string> ListFolder(const std::string& path) override;
  std::string FindProgram(const std::string& name) override;
  std::string HostName() override;
  std::vector<CommandEnd> RunAll(const std::vector<std::vector<std::string>>& commands,
                                 std::chrono::milliseconds timeout) override;
  CommandEnd StartTwoRanks(std::chrono::milliseconds timeout) override;
  std::optional<int64_t> Limit(ProcessLimit limit) override;
  int UsableProcessors() override;
  int64_t WallTimeSeconds() override;
  bool BuiltWithCuda() override;
  std::optional<GpuCount> CountGpus(std::chrono::milliseconds timeout) override;
  std::optional<CachedLinks> Links(int ranks) override;
  std::optional<bool> CanLoad(const std::string& library) override;
  std::optional<DiskFacts> TryDisk(const std::string& folder, bool timed) override;
  std::optional<std::string> TryIoUring() override;
  std::optional<std::string> TryReadingAnotherProcess() override;

 private:
  std::string root_;
};

}  // namespace hearth
