#include <fmt/format.h>
#include <net/if.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/device_choice.h"
#include "launcher/host_rates_cache.h"
#include "launcher/hostfile.h"
#include "launcher/message_log.h"
#include "launcher/mpirun.h"
#include "launcher/placement.h"
#include "launcher/program_info.h"
#include "launcher/run_check.h"
#include "launcher/run_communicator.h"
#include "launcher/run_lock.h"
#include "launcher/supervisor.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/train/hardware_choice.h"

namespace hearth {

namespace {

using std::chrono::milliseconds;

// Beyond its own time-out a collective has this long to report it.
constexpr milliseconds kReportTime{5'000};
constexpr milliseconds kLeastSilence{2'000};
constexpr milliseconds kReachPause{2'000};

milliseconds ToMilliseconds(double seconds) {
  return milliseconds(static_cast<int64_t>(seconds * 1000.0));
}

int TerminalColumns() {
  winsize size{};
  if (isatty(STDOUT_FILENO) == 0 || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col > 0 ? size.ws_col : 80;
}

HangLimits MakeLimits(const RunConfig& config) {
  HangLimits limits;
  limits.silence = std::max(ToMilliseconds(3 * config.resilience.heartbeat_s), kLeastSilence);
  limits.progress = ToMilliseconds(config.comm.collective_timeout_s) + kReportTime;
  limits.start = ToMilliseconds(config.comm.init_timeout_s) + kReportTime;
  limits.long_phase = std::max(limits.long_phase, limits.start);
  return limits;
}

// A rank's command line: the run and its overrides, and after a restart the order to go on from the
// run's own last checkpoint, as soon as it has one.
std::vector<std::string> RankCommand(const Invocation& invocation, const RunConfig& config,
                                     int64_t start) {
  std::vector<std::string> command = {OwnProgram(), "rank", invocation.file};
  const auto set = [&](const std::string& path, const std::string& value) {
    command.insert(command.end(), {"--set", fmt::format("{}={}", path, value)});
  };
  for (const Override& override : invocation.overrides) set(override.path, override.value);
  if (start > 0 && !CheckpointSteps(config.output_dir).empty()) set("checkpoint.resume", "auto");
  return command;
}

ProcessOptions MakeStart(const Invocation& invocation, const RunConfig& config,
                         const Placement& placement, const std::filesystem::path& job_folder,
                         int64_t start) {
  MpirunOptions options{.mpirun = FindProgram("mpirun"),
                        .ranks = placement.ranks,
                        .rank_command = RankCommand(invocation, config, start),
                        .job_folder = job_folder,
                        .hostfile = "",
                        .folder = std::filesystem::current_path(),
                        .interface = config.comm.interface.value_or(""),
                        .as_root = geteuid() == 0,
                        .rank_environment = RankEnvironment{},
                        .environment = Environment()};
  if (options.mpirun.empty()) {
    throw IoError("mpirun is not in PATH; install Open MPI (Debian: openmpi-bin)");
  }
  const bool remote = !AreLocal(placement.hosts);
  if (remote) {
    const std::filesystem::path hostfile = job_folder / "hosts";
    std::ofstream(hostfile) << FormatHostfile(placement.hosts);
    options.hostfile = hostfile.string();
  }
  RankEnvironment& environment = options.rank_environment;
  environment.job_folder = job_folder;
  environment.launcher_pid = remote ? 0 : getpid();  // nobody's elsewhere
  environment.relay = remote;
  environment.heartbeat = ToMilliseconds(config.resilience.heartbeat_s / 4);
  environment.init_timeout = ToMilliseconds(config.comm.init_timeout_s);
  environment.collective_timeout = ToMilliseconds(config.comm.collective_timeout_s);
  environment.terminal_columns = TerminalColumns();
  environment.bind_cores = config.launch.bind_cores.value_or(true);
  return MpirunProcess(options);
}

// On this host; the others' mpirun speaks for itself.
void RequireInterface(const ResolvedConfig& resolved) {
  const std::string& name = *resolved.config.comm.interface;
  if (if_nametoindex(name.c_str()) != 0) return;
  std::vector<std::string> there;
  const std::unique_ptr<struct if_nameindex[], decltype(&if_freenameindex)> devices(
      if_nameindex(), &if_freenameindex);
  for (size_t i = 0; devices && devices[i].if_name != nullptr; ++i) {
    there.emplace_back(devices[i].if_name);
  }
  std::sort(there.begin(), there.end());
  resolved.Fail("comm.interface",
                fmt::format("this host has no network device {}, but {}; name one that all hosts "
                            "have",
                            name, fmt::join(there, ", ")));
}

// A run that has nothing to go on from begins anew, and so do its messages. Not while somebody else
// runs in the folder, who is waited for later.
void ForgetOtherMessages(const std::filesystem::path& run_folder) {
  if (!CheckpointSteps(run_folder).empty() || IsLocked(run_folder)) return;
  std::error_code error;
  std::filesystem::remove(run_folder / kMessagesFile, error);
}

int Run(const Invocation& invocation) {
  const ResolvedConfig resolved = LoadRun(invocation.file, invocation.overrides);
  const RunConfig& config = resolved.config;
  const Placement placement = PlaceRanks(invocation, config);
  if (AreLocal(placement.hosts)) {
    RequireDevice(resolved);
  } else if (config.comm.interface) {
    RequireInterface(resolved);
  }
  if (AreLocal(placement.hosts)) MeasureHostFor(config.device);
  const CheckedRun run = CheckRun(resolved, placement.Grid(), !AreLocal(placement.hosts));
  if (run.plan.boxes > 1) {
    const auto hardware = FindHardware(DeviceName(config.device), InstalledConfigs());
    if (hardware) fmt::print(stderr, "{}", BoxesWarning(run, *hardware));
  }
  if (AreLocal(placement.hosts)) MeasureLinksFor(config, placement.ranks);
  ForgetOtherMessages(config.output_dir);
  signal(SIGPIPE, SIG_IGN);  // a closed terminal does not end the run
  return Supervise({.ranks = placement.ranks,
                    .limits = MakeLimits(config),
                    .max_restarts = config.resilience.max_restarts,
                    .reach_timeout = ToMilliseconds(config.comm.init_timeout_s),
                    .reach_pause = kReachPause,
                    .remote_ranks = !AreLocal(placement.hosts),
                    .make_start =
                        [&](const std::filesystem::path& job_folder, int64_t start) {
                          return MakeStart(invocation, config, placement, job_folder, start);
                        },
                    .job_base = {},
                    .run_folder = config.output_dir});
}

}  // namespace

Command MakeTrainCommand() {
  return {
      .name = "train",
      .file = "RUN.yaml",
      .summary = "train or fine-tune a model",
      .details =
          "Starts the ranks, watches them, and starts them again from the last checkpoint when\n"
          "one is lost. Ctrl-C (or SIGTERM): finish the step, save, end; twice: end at once.",
      .takes_run_keys = true,
      .add_options = AddRankCountOption,
      .run = Run};
}

}  // namespace hearth
