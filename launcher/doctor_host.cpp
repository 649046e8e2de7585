#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "launcher/doctor_checks.h"
#include "runtime/telemetry/cgroups.h"
#include "runtime/telemetry/host_memory.h"
#include "runtime/telemetry/units.h"

namespace hearth {

namespace {

constexpr int64_t kGibibyte = int64_t{1} << 30;
constexpr int64_t kMebibyte = int64_t{1} << 20;
constexpr int64_t kLeastMemory = 2 * kGibibyte;
constexpr int64_t kLeastShm = 16 * kMebibyte;  // Open MPI takes 4 MiB a rank
constexpr int64_t kGoodShm = 256 * kMebibyte;
constexpr int64_t kGoodLocked = 8 * kMebibyte;  // what Debian 12 gives everybody
constexpr int64_t kLeastFiles = 256;
constexpr int64_t kGoodFiles = 1024;
constexpr int64_t kGoodProcesses = 1024;  // threads count
constexpr int64_t kLeastDisk = kGibibyte;
constexpr int64_t kGoodDisk = 20 * kGibibyte;
constexpr double kGoodWrite = 100;  // 10^6 bytes per second
constexpr int64_t kYear2024 = 1'704'067'200;

ReadSystemText TextOf(System& system) {
  return [&system](const std::string& path) { return system.ReadText(path); };
}

// The word in brackets of "always [madvise] never", or the text's first word.
std::string ChosenWord(const std::string& text) {
  const size_t begin = text.find('[');
  const size_t end = text.find(']');
  if (begin != std::string::npos && end != std::string::npos && begin < end) {
    return text.substr(begin + 1, end - begin - 1);
  }
  std::string word;
  std::istringstream(text) >> word;
  return word;
}

std::string LimitText(std::optional<int64_t> limit, bool bytes) {
  if (!limit) return "unknown";
  if (*limit == kUnlimited) return "unlimited";
  return bytes ? FormatBytes(*limit) : fmt::format("{}", *limit);
}

// How a limit is raised that a shell hands on.
std::string RaiseLimit(const char* option, const char* value, const char* item) {
  return fmt::format(
      "ulimit -{} {} (for good: '* - {} {}' in /etc/security/limits.conf; docker run "
      "--ulimit {}={})",
      option, value, item, value, item, std::string_view(value) == "unlimited" ? "-1" : value);
}

struct LimitRule {
  ProcessLimit limit;
  const char* name;
  bool bytes;
  int64_t least;  // less is a problem
  int64_t good;   // less is a warning
  const char* effect;
  const char* option;  // of ulimit
  const char* value;
  const char* item;  // of limits.conf
};

constexpr LimitRule kLimits[] = {
    {ProcessLimit::kLockedMemory, "memlock", true, 0, kGoodLocked,
     "io_uring buffers and fast networks lock memory", "l", "unlimited", "memlock"},
    {ProcessLimit::kOpenFiles, "open files", false, kLeastFiles, kGoodFiles,
     "data of many files and MPI need more", "n", "65536", "nofile"},
    {ProcessLimit::kProcesses, "processes", false, 64, kGoodProcesses,
     "threads count, and each rank has several", "u", "65536", "nproc"},
    {ProcessLimit::kFileSize, "file size", true, kGibibyte, 64 * kGibibyte,
     "a checkpoint's files may be larger", "f", "unlimited", "fsize"},
};

Finding LimitFinding(const LimitRule& rule, std::optional<int64_t> limit) {
  Finding finding{.name = rule.name, .text = LimitText(limit, rule.bytes), .remedy = ""};
  if (!limit || *limit == kUnlimited || *limit >= rule.good) return finding;
  finding.health = *limit < rule.least ? Health::kProblem : Health::kWarning;
  finding.text += fmt::format("; {}", rule.effect);
  finding.remedy = RaiseLimit(rule.option, rule.value, rule.item);
  return finding;
}

void CheckSharedMemory(System& system, Findings* findings) {
  Finding finding{.name = "shared memory", .text = "", .remedy = ""};
  const auto facts = system.TryDisk("/dev/shm", false);
  if (!facts || facts->total_bytes == 0 || !facts->problem.empty()) {
    finding.health = Health::kWarning;
    finding.text = fmt::format("/dev/shm cannot be used: {}; ranks use the temporary folder",
                               facts ? facts->problem : "no answer");
    finding.remedy = "sudo mount -t tmpfs -o size=1G,mode=1777 tmpfs /dev/shm";
  } else {
    finding.text = fmt::format("{} free of {} in /dev/shm", FormatBytes(facts->free_bytes),
                               FormatBytes(facts->total_bytes));
    if (facts->free_bytes < kGoodShm) {
      finding.health = facts->free_bytes < kLeastShm ? Health::kProblem : Health::kWarning;
      finding.text += "; each rank needs 4 MiB, more of them more";
      finding.remedy =
          "ls /dev/shm shows what fills it; sudo mount -o remount,size=1G /dev/shm; in a "
          "container: docker run --shm-size=1g";
    }
  }
  findings->push_back(finding);
}

}  // namespace

void CheckCores(System& system, Findings* findings) {
  const int usable = system.UsableProcessors();
  int64_t nodes = 0;
  for (const std::string& name : system.ListFolder("/sys/devices/system/node")) {
    nodes += name.rfind("node", 0) == 0 && name.find_first_not_of("0123456789", 4) == name.npos;
  }
  Finding finding{.name = "cores",
                  .text = fmt::format("{} usable, {} NUMA node{}", usable,
                                      std::max<int64_t>(nodes, 1), nodes > 1 ? "s" : ""),
                  .remedy = ""};
  const auto quota = CgroupProcessors(TextOf(system));
  if (quota && *quota < usable) {
    finding.health = Health::kWarning;
    finding.text +=
        fmt::format("; but their cgroup gets the time of {:.1f}: threads will be halted", *quota);
    finding.remedy = fmt::format(
        "raise the limit (docker --cpus, Kubernetes limits.cpu, systemd CPUQuota), or "
        "taskset -c 0-{} hearth ...",
        std::max(0, static_cast<int>(std::floor(*quota)) - 1));
  }
  findings->push_back(finding);
}

void CheckMemory(System& system, Findings* findings) {
  const std::string info = system.ReadText("/proc/meminfo").value_or("");
  const auto total = MemoryLine(info, "MemTotal");
  const auto available = MemoryLine(info, "MemAvailable");
  Finding finding{.name = "host memory", .text = "unknown", .remedy = ""};
  if (total && available) {
    finding.text = fmt::format("{} free of {}", FormatBytes(*available), FormatBytes(*total));
    int64_t room = *available;
    const auto limit =
        CgroupLimit(TextOf(system), {"memory", "memory.limit_in_bytes", "memory.max"});
    if (limit && *limit < *total) {
      finding.text += fmt::format("; the cgroup allows {}", FormatBytes(*limit));
      room = std::min(room, *limit);
    }
    if (room < kLeastMemory) {
      finding.health = Health::kWarning;
      finding.text += "; that is room for small models only";
      finding.remedy =
          "end other programs, or raise the limit (docker --memory, systemd MemoryMax)";
    }
  }
  findings->push_back(finding);
  if (ChosenWord(system.ReadText("/proc/sys/vm/overcommit_memory").value_or("")) == "2") {
    findings->push_back({.health = Health::kWarning,
                         .name = "overcommit",
                         .text = "the kernel refuses memory beyond its commit limit; CUDA reserves "
                                 "far more than it uses",
                         .remedy = "sudo sysctl vm.overcommit_memory=0"});
  }
  CheckSharedMemory(system, findings);
}

void CheckLimits(System& system, Findings* findings) {
  for (const LimitRule& rule : kLimits) {
    findings->push_back(LimitFinding(rule, system.Limit(rule.limit)));
  }
  const auto processes = CgroupLimit(TextOf(system), {"pids", "pids.max", "pids.max"});
  if (processes && *processes < kGoodProcesses) {
    findings->push_back({.health = Health::kWarning,
                         .name = "cgroup processes",
                         .text = fmt::format("{} processes and threads in all", *processes),
                         .remedy = "raise the limit (docker --pids-limit, systemd TasksMax)"});
  }
}

void CheckKernel(System& system, Findings* findings) {
  const std::string pages =
      ChosenWord(system.ReadText("/sys/kernel/mm/transparent_hugepage/enabled").value_or(""));
  const bool never = pages == "never";
  findings->push_back(
      {.health = never ? Health::kWarning : Health::kOk,
       .name = "huge pages",
       .text = never           ? "never; large host buffers are made of small pages"
               : pages.empty() ? "not in this kernel"
                               : pages,
       .remedy =
           never ? "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled" : ""});

  const auto ring = system.TryIoUring();
  const bool fine = ring && ring->empty();
  const std::string disabled =
      ChosenWord(system.ReadText("/proc/sys/kernel/io_uring_disabled").value_or("0"));
  findings->push_back(
      {.health = fine ? Health::kOk : Health::kWarning,
       .name = "io_uring",
       .text = fine ? "works"
                    : fmt::format("refused ({}); offloading to an SSD, not built yet, will use it",
                                  ring ? *ring : "no answer"),
       .remedy = fine              ? ""
                 : disabled != "0" ? "sudo sysctl kernel.io_uring_disabled=0"
                                   : "kernel 5.6 or later; in a container a seccomp profile that "
                                     "allows it"});

  const std::string clock =
      ChosenWord(system.ReadText("/sys/devices/system/clocksource/clocksource0/current_clocksource")
                     .value_or(""));
  Finding finding{.name = "clock", .text = clock.empty() ? "unknown source" : clock, .remedy = ""};
  if (system.WallTimeSeconds() < kYear2024) {
    finding.health = Health::kWarning;
    finding.text += "; it shows a year before 2024";
    finding.remedy = "sudo timedatectl set-ntp true";
  } else if (clock == "hpet" || clock == "acpi_pm" || clock == "jiffies") {
    finding.health = Health::kWarning;
    finding.text += ", slow to read: each timestamp costs a microsecond or more";
    finding.remedy = "boot with clocksource=tsc, if dmesg has no reason against it";
  }
  findings->push_back(finding);
}

void CheckDisk(System& system, const std::string& folder, Findings* findings) {
  Finding finding{.name = "disk", .text = "", .remedy = ""};
  const auto facts = system.TryDisk(folder, true);
  if (!facts) {
    finding.health = Health::kProblem;
    finding.text = fmt::format("{} does not answer", folder);
    finding.remedy = "is it a network disk that has gone? mount shows; use another with --dir";
  } else if (!facts->problem.empty()) {
    finding.health = Health::kProblem;
    finding.text = fmt::format("{}: nothing can be written: {}", folder, facts->problem);
    finding.remedy = "make the folder, its rights or some space, or use another with --dir";
  } else {
    finding.text = fmt::format(
        "{}: {} free of {}{}, writes {:.0f} MB/s, reads {:.0f} MB/s{}", folder,
        FormatBytes(facts->free_bytes), FormatBytes(facts->total_bytes),
        facts->file_system.empty() ? "" : " (" + facts->file_system + ")", facts->write_megabytes_s,
        facts->read_megabytes_s, facts->direct ? "" : " (through the page cache)");
    if (facts->free_bytes < kGoodDisk) {
      finding.health = facts->free_bytes < kLeastDisk ? Health::kProblem : Health::kWarning;
      finding.text += "; a checkpoint takes up to 12 bytes a parameter";
      finding.remedy = "free some, lower checkpoint.save_total_limit, or put output_dir elsewhere";
    } else if (facts->write_megabytes_s < kGoodWrite) {
      finding.health = Health::kWarning;
      finding.text += "; saving will take long";
      finding.remedy = "put output_dir on a faster disk, or raise checkpoint.save_interval_minutes";
    }
  }
  findings->push_back(finding);
}

}  // namespace hearth
