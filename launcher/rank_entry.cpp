#include "launcher/rank_entry.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>

#include "kernels/core/error.h"
#include "launcher/core_binding.h"
#include "launcher/device_choice.h"
#include "launcher/heartbeat_relay.h"
#include "launcher/job_folder.h"
#include "launcher/program_info.h"
#include "launcher/rank_environment.h"
#include "launcher/run_check.h"
#include "launcher/stop_flag.h"
#include "launcher/supervisor.h"
#include "runtime/config/config_paths.h"
#include "runtime/plan/plan_file.h"

namespace hearth {

namespace {

// A failed rank waits so long for the launcher to end the job before it does so itself.
constexpr std::chrono::seconds kLauncherGrace{10};
// An error that all ranks meet is told by rank 0: the others wait so long before they speak.
constexpr std::chrono::milliseconds kRankZeroFirst{500};

// The kernel kills this process when its parent ends, SIGKILL of the parent included.
void DieWithParent(int launcher_pid) {
  const pid_t parent = getppid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // mpirun may have ended before that, and left this process to the launcher or its heirs.
  const bool orphaned = getppid() != parent || parent == launcher_pid ||
                        (launcher_pid > 0 && kill(launcher_pid, 0) != 0 && errno == ESRCH);
  if (orphaned) _exit(kExitFailed);
}

// Where ranks report, on whatever host: into the job's folder there, and by a relay home.
std::unique_ptr<HeartbeatRelay> StartRelay(const RankEnvironment& environment) {
  if (!environment.relay || environment.job_folder.empty() || !environment.rank) return nullptr;
  ShareJobFolder(environment.job_folder, getppid());
  return std::make_unique<HeartbeatRelay>(environment.job_folder, *environment.rank,
                                          environment.heartbeat);
}

std::unique_ptr<Heartbeat> AttachHeartbeat(const RankEnvironment& environment,
                                           const HeartbeatRelay* relay) {
  if (relay != nullptr) {
    return std::make_unique<Heartbeat>(relay->page(), 0, environment.heartbeat);
  }
  const std::filesystem::path page = environment.job_folder / kHeartbeatFile;
  std::error_code error;
  if (environment.job_folder.empty() || !environment.rank ||
      !std::filesystem::exists(page, error)) {
    return std::make_unique<Heartbeat>();
  }
  return std::make_unique<Heartbeat>(page, *environment.rank, environment.heartbeat);
}

void RequireCompany(const RankEnvironment& environment) {
  if (!environment.started_by_srun || environment.has_pmix) return;
  throw ConfigError(
      "command line: error: srun has started the ranks so that they cannot find each other; "
      "start them with `srun --mpi=pmix` (`srun --mpi=list` shows whether this Slurm has it), or "
      "run `hearth train` in the allocation");
}

int BindAndCountThreads(const RankEnvironment& environment) {
  const std::vector<int> all = UsableProcessors();
  const std::vector<int> mine = ProcessorsOfRank(all, environment.place);
  const bool fits = std::ssize(all) >= environment.place.ranks;
  if (environment.bind_cores && fits && environment.place.ranks > 1) BindTo(mine);
  if (environment.threads && *environment.threads > 0) return *environment.threads;
  return fits ? std::max(1, static_cast<int>(mine.size())) : 1;
}

ResolvedConfig ReadAndShareConfig(const RankArguments& arguments, Bootstrap& bootstrap) {
  Bytes bytes;
  if (bootstrap.rank() == 0) {
    const auto path = FindConfigFile(arguments.file, InstalledConfigs());
    bytes = ToBytes(ReadConfigText(path.value_or(arguments.file), arguments.file));
  }
  bytes = bootstrap.Broadcast(bytes, 0);
  ResolvedConfig resolved = ParseConfig({.text = ToText(bytes),
                                         .file_name = arguments.file,
                                         .overrides = arguments.overrides,
                                         .features = BuiltFeatures()});
  if (resolved.config.memory.plan.mode == PlanMode::kFile) {
    bytes = ToBytes(bootstrap.rank() == 0 ? ReadPlanFile(resolved) : "");
    ApplyPlanFile(ToText(bootstrap.Broadcast(bytes, 0)), resolved.config.memory.plan.path,
                  BuiltFeatures(), &resolved);
  }
  return resolved;
}

BootstrapOptions MakeBootstrapOptions(const RankEnvironment& environment) {
  BootstrapOptions options;
  if (environment.init_timeout) options.init_timeout = *environment.init_timeout;
  if (environment.collective_timeout) options.collective_timeout = *environment.collective_timeout;
  return options;
}

// Ends the job for the exception that this rank is handling; never returns.
[[noreturn]] void EndJob(Heartbeat& heartbeat, Bootstrap* bootstrap, int rank) {
  const Failure failure = DescribeCurrentException();
  // A refused file is named by a line that begins with its name, as everywhere else.
  const bool refused = failure.exit_code == kExitUsage || failure.exit_code == kExitBudget;
  heartbeat.Fail(
      failure.exit_code,
      refused ? failure.message : fmt::format("hearth: rank {}: {}", rank, failure.message));
  if (heartbeat.watched()) std::this_thread::sleep_for(kLauncherGrace);
  if (rank > 0) std::this_thread::sleep_for(kRankZeroFirst);
  if (refused) fmt::print(stderr, "{}\n", failure.message);
  if (bootstrap == nullptr) {
    if (!refused) fmt::print(stderr, "hearth: rank {}: {}\n", rank, failure.message);
    std::fflush(nullptr);
    _exit(failure.exit_code);
  }
  bootstrap->Abort(failure.exit_code, refused ? "the run is refused" : failure.message);
  _exit(failure.exit_code);
}

}  // namespace

Failure DescribeCurrentException() {
  try {
    throw;
  } catch (const BudgetError& error) {
    return {kExitBudget, error.what()};
  } catch (const ConfigError& error) {
    return {kExitUsage, error.what()};
  } catch (const CommError& error) {
    return {kExitRankLost, error.what()};
  } catch (const std::bad_alloc&) {
    return {kExitFailed, "out of memory"};
  } catch (const std::exception& error) {
    return {kExitFailed, error.what()};
  }
}

int RunRankProcess(const RankArguments& arguments, const RankBody& body) {
  StopFlag::Install();
  PrepareForGpus();
  const RankEnvironment environment = ReadRankEnvironment();
  // Slurm waits (KillWait, half a minute) before it kills; mpirun does not even for a second.
  if (environment.started_by_srun) StopFlag::InstallForTermination();
  DieWithParent(environment.launcher_pid);
  signal(SIGPIPE, SIG_IGN);  // a closed terminal is an error of the logger, not the end of the run
  const int threads = BindAndCountThreads(environment);

  std::unique_ptr<HeartbeatRelay> relay;
  std::unique_ptr<Heartbeat> heartbeat = std::make_unique<Heartbeat>();
  std::unique_ptr<Bootstrap> bootstrap;
  int rank = environment.rank.value_or(0);
  try {
    RequireCompany(environment);
    relay = StartRelay(environment);
    heartbeat = AttachHeartbeat(environment, relay.get());
    bootstrap = MakeMpiBootstrap(MakeBootstrapOptions(environment));
    rank = bootstrap->rank();
    const ResolvedConfig config = ReadAndShareConfig(arguments, *bootstrap);
    const int columns = environment.terminal_columns;
    const int exit_code = body({.config = config,
                                .bootstrap = *bootstrap,
                                .heartbeat = *heartbeat,
                                .stop_requested = StopFlag::IsRequested,
                                .progress = {.enabled = rank == 0,
                                             .interactive = columns > 0,
                                             .columns = columns,
                                             .total_steps = 0},
                                .threads = threads,
                                .local_rank = environment.place.rank,
                                .installed_configs = InstalledConfigs(),
                                .end_job = [&] { EndJob(*heartbeat, bootstrap.get(), rank); }});
    bootstrap.reset();
    heartbeat->Finish();
    return exit_code;
  } catch (...) {
    EndJob(*heartbeat, bootstrap.get(), rank);
  }
}

}  // namespace hearth
