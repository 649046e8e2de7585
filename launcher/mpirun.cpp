#include "launcher/mpirun.h"

#include <fmt/format.h>

#include <algorithm>

namespace hearth {

namespace {

bool HasVariable(const std::vector<std::string>& environment, const std::string& name) {
  return std::any_of(environment.begin(), environment.end(),
                     [&](const std::string& v) { return v.rfind(name + "=", 0) == 0; });
}

// Variables that mark this process as a rank of another job. mpirun would take itself for a part of
// that job.
bool BelongsToOtherJob(const std::string& variable) {
  for (const char* prefix : {"OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "OMPI_MCA_ess", "OMPI_MCA_orte_",
                             "PMIX_", "HEARTH_"}) {
    if (variable.rfind(prefix, 0) == 0) return true;
  }
  return false;
}

}  // namespace

ProcessOptions MpirunProcess(const MpirunOptions& options) {
  ProcessOptions process;
  process.environment = options.environment;
  std::erase_if(process.environment, BelongsToOtherJob);

  const std::string folder = options.job_folder.string();
  // More ranks than processors is slow but no error. Ranks bind themselves to processors: mpirun
  // refuses where its own arithmetic finds too few.
  process.arguments = {options.mpirun,    "-n",        fmt::format("{}", options.ranks),
                       "--oversubscribe", "--bind-to", "none"};
  const auto add = [&](std::initializer_list<std::string> more) {
    process.arguments.insert(process.arguments.end(), more);
  };
  const auto set_parameter = [&](const std::string& name, const std::string& value) {
    add({"--mca", name, value});
  };
  // Its words about a rank that ended are ours to find; the ranks' own pass through.
  add({"--quiet"});
  if (options.as_root) add({"--allow-run-as-root"});
  set_parameter("orte_tmpdir_base", folder);
  set_parameter("btl_vader_backing_directory", folder);
  if (options.hostfile.empty()) {
    // One host: shared memory alone, and control over the loopback device.
    set_parameter("btl", "self,vader");
    set_parameter("oob_tcp_if_include", "lo");
  } else {
    add({"--hostfile", options.hostfile});
    if (!options.interface.empty()) {
      set_parameter("btl_tcp_if_include", options.interface);
      set_parameter("oob_tcp_if_include", options.interface);
    }
  }

  // All that a rank shall have is named, so that ranks on other hosts have it too.
  for (const LauncherVariable& variable : ToVariables(options.rank_environment)) {
    SetVariable(&process.environment, variable.name, variable.value);
    add({"-x", variable.name});
  }
  // Threads that spin while they wait would take the processors of other ranks.
  if (!HasVariable(process.environment, "OMP_WAIT_POLICY")) {
    SetVariable(&process.environment, "OMP_WAIT_POLICY", "passive");
  }
  add({"-x", "OMP_WAIT_POLICY"});
  if (HasVariable(process.environment, "OMP_NUM_THREADS")) add({"-x", "OMP_NUM_THREADS"});
  process.arguments.insert(process.arguments.end(), options.rank_command.begin(),
                           options.rank_command.end());
  return process;
}

}  // namespace hearth
