// The life of one rank, from its process's first line to its exit code.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comm/communicators.h"
#include "runtime/config/resolved_config.h"
#include "runtime/telemetry/heartbeat.h"
#include "runtime/telemetry/progress.h"

namespace hearth {

// What a rank's work is given.
struct RankContext {
  const ResolvedConfig& config;  // the same on every rank
  Bootstrap& bootstrap;
  Heartbeat& heartbeat;
  std::function<bool()> stop_requested;  // finish the step, save, return 0
  ProgressOptions progress;              // for rank 0's terminal; total_steps is left open
  int threads = 1;                       // this rank may keep busy
  int local_rank = 0;                    // among those of its host
  std::string installed_configs;         // for FindConfigFile
  // Ends all ranks for the exception being handled, as RunRankProcess does for one that leaves the
  // body, and does not return. For a catch block beside objects whose destructors would wait for
  // ranks that may be gone.
  std::function<void()> end_job;
};

// Returns the process's exit code. May throw any of Hearth's errors.
using RankBody = std::function<int(const RankContext&)>;

struct RankArguments {
  std::string file;  // run.yaml; read by rank 0 alone
  std::vector<Override> overrides;
};

// Binds the process to its parent's life and its processors, starts MPI, reads the configuration on
// rank 0 and broadcasts it, runs `body`. Whatever is thrown is caught here, once: it ends all ranks
// with the exit code of its kind, and one line on standard error names the rank (under `hearth
// train` the launcher prints it).
int RunRankProcess(const RankArguments& arguments, const RankBody& body);

// Exit code and line for the exception being handled.
struct Failure {
  int exit_code = 1;
  std::string message;
};
Failure DescribeCurrentException();

}  // namespace hearth
