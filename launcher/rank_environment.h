// What the launcher tells its ranks, and what mpirun and srun tell theirs, through the environment.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launcher/core_binding.h"

namespace hearth {

struct RankEnvironment {
  // Set by `hearth train`; a rank started by others has none of them.
  std::filesystem::path job_folder;  // empty: nobody watches
  int launcher_pid = 0;
  std::chrono::milliseconds heartbeat{500};  // between two beats
  std::optional<std::chrono::milliseconds> init_timeout;
  std::optional<std::chrono::milliseconds> collective_timeout;
  int terminal_columns = 0;  // of the terminal the job writes to; 0: it is none
  bool bind_cores = true;
  bool relay = false;  // ranks are on several hosts: heartbeats go through standard error
  // Set by mpirun or srun.
  std::optional<int> rank;
  LocalPlace place;
  bool started_by_srun = false;  // itself, not through mpirun
  bool has_pmix = false;         // by which ranks find each other
  // Set by the user.
  std::optional<int> threads;  // OMP_NUM_THREADS
};

// This process's. Values that are no numbers count as not set.
RankEnvironment ReadRankEnvironment();

// The launcher's part as variables, to be set in the environment of mpirun.
struct LauncherVariable {
  std::string name;
  std::string value;
};
std::vector<LauncherVariable> ToVariables(const RankEnvironment& environment);

}  // namespace hearth
