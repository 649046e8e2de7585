#include "launcher/mpirun.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/error.h"

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

// mpirun's options for where the ranks run.
std::vector<std::string> HostArguments(const MpirunOptions& options) {
  if (options.hostfile.empty()) {
    // Its words about a rank that ended are ours to find; the ranks' own pass through. One host,
    // in a Slurm allocation or without ssh too: shared memory alone, and control over the loopback
    // device.
    return {"--quiet",  "--mca", "ras", "^slurm",     "--mca", "plm",
            "isolated", "--mca", "btl", "self,vader", "--mca", "oob_tcp_if_include",
            "lo"};
  }
  // As containers without ssh have it; mpirun would only say that all hosts are filled.
  const auto& environment = options.environment;
  if (std::find(environment.begin(), environment.end(), "OMPI_MCA_plm=isolated") !=
      environment.end()) {
    throw ConfigError(
        "launch.hostfile: the environment's OMPI_MCA_plm=isolated keeps mpirun on this host; unset "
        "it, or leave the hostfile out");
  }
  // Host by host, whatever the sockets. Without a given folder a rank for whom it is missing would
  // start in its home.
  std::vector<std::string> arguments = {"--hostfile", options.hostfile, "--map-by",
                                        "slot",       "--wdir",         options.folder};
  const auto set_parameter = [&](const char* name, const std::string& value) {
    arguments.insert(arguments.end(), {"--mca", name, value});
  };
  // Else "box-1.example.org" would be asked for as "box-1".
  set_parameter("orte_keep_fqdn_hostnames", "1");
  // It kills the others three times this long (seconds, one by default) before it says who died,
  // though none of them heeds the SIGTERM that comes first.
  set_parameter("odls_base_sigkill_timeout", "0");
  // Nobody can answer a question of ssh: it fails instead.
  if (!HasVariable(options.environment, "OMPI_MCA_plm_rsh_agent") &&
      !HasVariable(options.environment, "OMPI_MCA_plm_rsh_args")) {
    set_parameter("plm_rsh_args", "-o BatchMode=yes -o ConnectTimeout=20");
  }
  if (!options.interface.empty()) {
    set_parameter("btl_tcp_if_include", options.interface);
    set_parameter("oob_tcp_if_include", options.interface);
    // The sign: this device, not all whose names begin so.
    arguments.insert(arguments.end(), {"-x", "NCCL_SOCKET_IFNAME=" + ("=" + options.interface)});
  }
  // What this host's environment says of libraries and networks holds on all. Open MPI passes its
  // own OMPI_MCA_ variables on.
  for (const std::string& variable : options.environment) {
    const std::string name = variable.substr(0, variable.find('='));
    if (name == "NCCL_SOCKET_IFNAME" && !options.interface.empty()) continue;
    if (name == "LD_LIBRARY_PATH" || name.rfind("NCCL_", 0) == 0) {
      arguments.insert(arguments.end(), {"-x", name});
    }
  }
  return arguments;
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
  if (options.as_root) add({"--allow-run-as-root"});
  set_parameter("orte_tmpdir_base", folder);
  set_parameter("btl_vader_backing_directory", folder);
  const std::vector<std::string> hosts = HostArguments(options);
  process.arguments.insert(process.arguments.end(), hosts.begin(), hosts.end());

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
  // mpirun looks at the machine through hwloc, whose GL part asks ten X servers of "localhost":
  // with no /etc/hosts that is a question to a name server each, and one lost answer costs 5 s.
  if (!HasVariable(process.environment, "HWLOC_COMPONENTS")) {
    SetVariable(&process.environment, "HWLOC_COMPONENTS", "-gl,-opencl");
  }
  if (HasVariable(process.environment, "OMP_NUM_THREADS")) add({"-x", "OMP_NUM_THREADS"});
  process.arguments.insert(process.arguments.end(), options.rank_command.begin(),
                           options.rank_command.end());
  return process;
}

}  // namespace hearth
