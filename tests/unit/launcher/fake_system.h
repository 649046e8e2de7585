// A machine made of answers.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launcher/doctor_system.h"

namespace hearth::test {

// As it stands: a healthy machine without GPUs; tests spoil one thing each.
class FakeSystem : public System {
 public:
  std::optional<std::string> ReadText(const std::string& path) override {
    const auto found = files.find(path);
    return found == files.end() ? std::nullopt : std::optional(found->second);
  }
  std::vector<std::string> ListFolder(const std::string& path) override { return folders[path]; }
  std::string FindProgram(const std::string& name) override { return programs[name]; }
  std::string HostName() override { return "here"; }
  std::vector<CommandEnd> RunAll(const std::vector<std::vector<std::string>>& commands,
                                 std::chrono::milliseconds) override {
    std::vector<CommandEnd> ends;
    for (const std::vector<std::string>& command : commands) {
      ran.push_back(command);
      std::string key = command[0];
      for (const std::string& argument : command) {
        if (outputs.count(command[0] + " " + argument) > 0) key = command[0] + " " + argument;
      }
      ends.push_back(outputs.count(key) > 0 ? outputs[key] : CommandEnd{});
    }
    return ends;
  }
  CommandEnd StartTwoRanks(std::chrono::milliseconds) override { return two_ranks; }
  std::optional<int64_t> Limit(ProcessLimit limit) override { return limits[limit]; }
  int UsableProcessors() override { return 8; }
  int64_t WallTimeSeconds() override { return wall_time; }
  bool BuiltWithCuda() override { return cuda; }
  std::optional<GpuCount> CountGpus(std::chrono::milliseconds) override { return gpus; }
  std::optional<CachedLinks> Links(int ranks) override {
    asked_links = ranks;
    return links;
  }
  std::optional<bool> CanLoad(const std::string& library) override { return libraries[library]; }
  std::optional<DiskFacts> TryDisk(const std::string& folder, bool timed) override {
    tried_disks.push_back(folder + (timed ? " timed" : ""));
    return disks[folder];
  }
  std::optional<std::string> TryIoUring() override { return io_uring; }
  std::optional<std::string> TryReadingAnotherProcess() override { return reading; }

  static CommandEnd Said(const std::string& output, int exit_code = 0) {
    return {.started = true, .timed_out = false, .exit_code = exit_code, .output = output};
  }
  static CommandEnd Hung() { return {.started = true, .timed_out = true}; }

  // One line of nvidia-smi's answer.
  void AddGpu(const std::string& index, const std::string& name, const std::string& capability,
              const std::string& rest = "570.86, 81559, 4, Default, Disabled") {
    programs["nvidia-smi"] = "/bin/nvidia-smi";
    CommandEnd& smi = outputs["/bin/nvidia-smi"];
    smi = Said(smi.output + index + ", " + name + ", " + capability + ", " + rest + "\n");
    cuda = true;
    gpus = GpuCount{.count = gpus->count + 1, .why_none = ""};
  }

  std::map<std::string, std::string> files = {
      {"/proc/meminfo", "MemTotal:       65536000 kB\nMemAvailable:   60000000 kB\n"},
      {"/proc/self/cgroup", "0::/\n"},
      {"/proc/sys/vm/overcommit_memory", "0\n"},
      {"/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"},
      {"/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"}};
  std::map<std::string, std::vector<std::string>> folders = {
      {"/sys/devices/system/node", {"has_cpu", "node0", "node1", "online"}}};
  std::map<std::string, std::string> programs = {{"mpirun", "/bin/mpirun"}, {"ssh", "/bin/ssh"}};
  std::map<std::string, CommandEnd> outputs = {
      {"/bin/mpirun", Said("mpirun (Open MPI) 4.1.4\n\nReport bugs\n")}};
  std::map<ProcessLimit, std::optional<int64_t>> limits = {
      {ProcessLimit::kLockedMemory, kUnlimited},
      {ProcessLimit::kOpenFiles, 1024},
      {ProcessLimit::kProcesses, kUnlimited},
      {ProcessLimit::kFileSize, kUnlimited}};
  std::map<std::string, std::optional<DiskFacts>> disks = {
      {"/dev/shm", DiskFacts{.free_bytes = int64_t{8} << 30, .total_bytes = int64_t{8} << 30}},
      {".", DiskFacts{.free_bytes = int64_t{500} << 30,
                      .total_bytes = int64_t{900} << 30,
                      .file_system = "ext4",
                      .problem = "",
                      .direct = true,
                      .write_megabytes_s = 1234.4,
                      .read_megabytes_s = 2345.6}}};
  std::map<std::string, std::optional<bool>> libraries = {{"libcuda.so.1", true},
                                                          {"libnvidia-ml.so.1", true},
                                                          {"libcudnn.so.9", true},
                                                          {"libnccl.so.2", true}};
  CommandEnd two_ranks = Said("");
  int64_t wall_time = 1'800'000'000;
  bool cuda = false;
  std::optional<GpuCount> gpus = GpuCount{};
  std::optional<CachedLinks> links = CachedLinks{.why_not = "links.json: there is none yet"};
  int asked_links = 0;
  std::optional<std::string> io_uring = "";
  std::optional<std::string> reading = "";

  std::vector<std::vector<std::string>> ran;
  std::vector<std::string> tried_disks;
};

}  // namespace hearth::test
