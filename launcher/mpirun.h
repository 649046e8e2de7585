// How ranks are started: mpirun's command line and environment. Nothing is run here.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "launcher/process.h"
#include "launcher/rank_environment.h"

namespace hearth {

struct MpirunOptions {
  std::string mpirun;  // path of the program
  int ranks = 1;
  std::vector<std::string> rank_command;  // program and arguments of a rank
  std::filesystem::path job_folder;       // for session files and shared memory
  std::string hostfile;                   // in mpirun's form; "": this host alone
  std::string folder = {};                // the ranks' working folder; "": this process's
  std::string interface;                  // network interface between hosts; "": mpirun's choice
  bool as_root = false;
  RankEnvironment rank_environment;      // the launcher's part of it
  std::vector<std::string> environment;  // what the job inherits
};

// ConfigError where the environment forbids what a hostfile asks for.
ProcessOptions MpirunProcess(const MpirunOptions& options);

}  // namespace hearth
