#include "launcher/rank_environment.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <cstring>

namespace hearth {

namespace {

constexpr const char* kJobFolder = "HEARTH_JOB_DIR";
constexpr const char* kLauncherPid = "HEARTH_LAUNCHER_PID";
constexpr const char* kHeartbeat = "HEARTH_HEARTBEAT_MS";
constexpr const char* kInitTimeout = "HEARTH_INIT_TIMEOUT_MS";
constexpr const char* kCollectiveTimeout = "HEARTH_COLLECTIVE_TIMEOUT_MS";
constexpr const char* kTerminalColumns = "HEARTH_TERMINAL_COLUMNS";
constexpr const char* kBindCores = "HEARTH_BIND_CORES";
constexpr const char* kRelay = "HEARTH_RELAY";

std::optional<int> ReadNumber(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const char* text = std::getenv(name);
    if (text == nullptr) continue;
    int number = 0;
    const char* end = text + std::strlen(text);
    const auto parsed = std::from_chars(text, end, number);
    if (parsed.ec == std::errc() && parsed.ptr == end && number >= 0) return number;
  }
  return std::nullopt;
}

std::optional<std::chrono::milliseconds> ReadMilliseconds(const char* name) {
  const std::optional<int> number = ReadNumber({name});
  if (!number) return std::nullopt;
  return std::chrono::milliseconds(*number);
}

// Slurm's "2(x3),1": a number for each node, some repeated. That of node `index`.
std::optional<int> SlurmTasksOnNode(const char* text, int index) {
  while (text != nullptr && *text != '\0') {
    char* end = nullptr;
    const long tasks = std::strtol(text, &end, 10);
    if (end == text || tasks < 1 || tasks > INT_MAX) return std::nullopt;
    long nodes = 1;
    if (std::strncmp(end, "(x", 2) == 0) {
      nodes = std::strtol(end + 2, &end, 10);
      if (*end++ != ')') return std::nullopt;
    }
    if (index < nodes) return static_cast<int>(tasks);
    index -= static_cast<int>(std::min<long>(nodes, INT_MAX));
    if (*end != ',') return std::nullopt;
    text = end + 1;
  }
  return std::nullopt;
}

// Where nothing but srun has started this process.
void ReadSlurm(RankEnvironment* environment) {
  // The script of a batch job has a SLURM_PROCID too, but is no task of a step.
  if (!ReadNumber({"SLURM_STEP_NUM_TASKS"}) || environment->rank) return;
  environment->started_by_srun = true;
  environment->rank = ReadNumber({"SLURM_PROCID"});
  environment->place.rank = ReadNumber({"SLURM_LOCALID"}).value_or(0);
  environment->place.ranks = SlurmTasksOnNode(std::getenv("SLURM_STEP_TASKS_PER_NODE"),
                                              ReadNumber({"SLURM_NODEID"}).value_or(0))
                                 .value_or(1);
}

}  // namespace

RankEnvironment ReadRankEnvironment() {
  RankEnvironment environment;
  if (const char* folder = std::getenv(kJobFolder)) environment.job_folder = folder;
  environment.launcher_pid = ReadNumber({kLauncherPid}).value_or(0);
  environment.heartbeat = ReadMilliseconds(kHeartbeat).value_or(environment.heartbeat);
  environment.init_timeout = ReadMilliseconds(kInitTimeout);
  environment.collective_timeout = ReadMilliseconds(kCollectiveTimeout);
  environment.terminal_columns = ReadNumber({kTerminalColumns}).value_or(0);
  environment.bind_cores = ReadNumber({kBindCores}).value_or(1) != 0;
  environment.relay = ReadNumber({kRelay}).value_or(0) != 0;
  environment.rank = ReadNumber({"OMPI_COMM_WORLD_RANK"});
  environment.has_pmix = std::getenv("PMIX_RANK") != nullptr;
  environment.place.rank = ReadNumber({"OMPI_COMM_WORLD_LOCAL_RANK"}).value_or(0);
  environment.place.ranks = ReadNumber({"OMPI_COMM_WORLD_LOCAL_SIZE"}).value_or(1);
  ReadSlurm(&environment);
  if (environment.place.rank >= environment.place.ranks) environment.place = {};
  environment.threads = ReadNumber({"OMP_NUM_THREADS"});
  return environment;
}

std::vector<LauncherVariable> ToVariables(const RankEnvironment& environment) {
  const auto count = [](std::chrono::milliseconds time) { return fmt::format("{}", time.count()); };
  std::vector<LauncherVariable> variables = {
      {kJobFolder, environment.job_folder.string()},
      {kLauncherPid, fmt::format("{}", environment.launcher_pid)},
      {kHeartbeat, count(environment.heartbeat)},
      {kTerminalColumns, fmt::format("{}", environment.terminal_columns)},
      {kBindCores, environment.bind_cores ? "1" : "0"}};
  if (environment.relay) variables.push_back({kRelay, "1"});
  if (environment.init_timeout) {
    variables.push_back({kInitTimeout, count(*environment.init_timeout)});
  }
  if (environment.collective_timeout) {
    variables.push_back({kCollectiveTimeout, count(*environment.collective_timeout)});
  }
  return variables;
}

}  // namespace hearth
