// Starts the ranks of a job, watches them, and starts them again when one is lost.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>

#include "launcher/hang_watch.h"
#include "launcher/process.h"

namespace hearth {

// Exit codes of every command.
enum ExitCode {
  kExitDone = 0,
  kExitFailed = 1,
  kExitUsage = 2,
  kExitBudget = 3,
  kExitRankLost = 4,
};

struct SupervisorOptions {
  int ranks = 1;
  HangLimits limits;
  int64_t max_restarts = 0;
  // How long a restart waits for a host that cannot be reached, which counts as one restart.
  std::chrono::milliseconds reach_timeout{0};
  std::chrono::milliseconds reach_pause{0};  // between two looks for it
  // Ranks are on other hosts, where neither their pids nor their pages are seen: they report
  // through the starting process's standard error, and a request to stop goes through it too.
  bool remote_ranks = false;
  // The process that starts the ranks. `job_folder` is theirs alone and holds the heartbeat page,
  // in the file kHeartbeatFile; start: 0 for the first, then one more for each restart.
  std::function<ProcessOptions(const std::filesystem::path& job_folder, int64_t start)> make_start;
  std::filesystem::path job_base;  // where job folders are made; empty: the default
  // The run's folder, which need not exist yet: what is said is kept there (message_log.h). Empty:
  // nowhere.
  std::filesystem::path run_folder = {};
};

inline constexpr const char* kHeartbeatFile = "heartbeat";

// Runs the job to its end and returns the exit code. What happens to it is said on standard error.
//
// SIGTERM, SIGINT, SIGHUP and SIGUSR1 ask the ranks by SIGUSR1 to finish their step, save and end
// well; a second one kills everything at once (exit code 1). A rank that fails ends the job with
// its own exit code; one that dies, hangs or loses its peers (exit code 4) is named, all are killed
// and started again, max_restarts times at most, also when a host is out of reach for a while. No
// process and no job folder is left when this returns.
int Supervise(const SupervisorOptions& options);

}  // namespace hearth
