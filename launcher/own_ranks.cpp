#include "launcher/own_ranks.h"

#include <unistd.h>

#include "launcher/job_folder.h"
#include "launcher/mpirun.h"
#include "launcher/process.h"

namespace hearth {

CommandEnd RunOwnRanks(const OwnRanks& job) {
  AdoptOrphans();
  const JobFolder folder;
  MpirunOptions options{.mpirun = FindProgram("mpirun"),
                        .ranks = job.ranks,
                        .rank_command = {OwnProgram()},
                        .job_folder = folder.path(),
                        .hostfile = "",
                        .interface = "",
                        .as_root = geteuid() == 0,
                        .rank_environment = RankEnvironment{},
                        .environment = Environment()};
  if (options.mpirun.empty()) {
    return {.output = "mpirun is not in PATH; install Open MPI (Debian: openmpi-bin)"};
  }
  options.rank_command.insert(options.rank_command.end(), job.arguments.begin(),
                              job.arguments.end());
  options.rank_environment.init_timeout = job.init_timeout;
  options.rank_environment.launcher_pid = getpid();
  const CommandEnd end = RunWhileItSpeaks(MpirunProcess(options), job.silence);
  KillChildren({folder.guard()}, -1, 2'000);
  return end;
}

}  // namespace hearth
