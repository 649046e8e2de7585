#include <fmt/format.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "build_info.h"
#include "comm/communicators.h"
#include "kernels/core/log.h"
#include "launcher/command.h"
#include "launcher/device_choice.h"
#include "launcher/host_rates_cache.h"
#include "launcher/rank_entry.h"
#include "launcher/run_links.h"
#include "launcher/run_lock.h"
#include "launcher/shared_folder.h"
#include "launcher/supervisor.h"
#include "runtime/train/trainer.h"

namespace hearth {

namespace {

// MPI has started when a rank reads the configuration: who starts ranks has to tell it the network.
void RequireToldInterface(const RankContext& context) {
  const std::optional<std::string>& interface = context.config.config.comm.interface;
  if (!interface || context.bootstrap.local_world() == context.bootstrap.world()) return;
  const char* told = std::getenv("OMPI_MCA_btl_tcp_if_include");
  if (told != nullptr && told == *interface) return;
  context.config.Fail(
      "comm.interface",
      fmt::format("mpirun was not told of it; start with `hearth train`, or give mpirun `--mca "
                  "btl_tcp_if_include {0} --mca oob_tcp_if_include {0} -x NCCL_SOCKET_IFNAME=={0}`",
                  *interface));
}

// One stage of the run (runtime/plan/run_stage.h), on a device and with exchanges of its own.
RunSummary TrainStage(const RankContext& context, std::optional<int64_t> goes_on_from) {
  const RunConfig& config = context.config.config;
  const auto backend = MakeRankBackend(
      {.device = config.device, .local_rank = context.local_rank, .threads = context.threads});
  const RunLinks links(config, context.bootstrap, *backend);
  if (links.links()) RequireSameProgram(*links.links());
  RequireSharedFolder(config.output_dir, links.box());
  if (context.bootstrap.rank() == 0 && !links.warning().empty()) LogWarning(links.warning());
  const RunEnvironment environment{.bootstrap = context.bootstrap,
                                   .backend = *backend,
                                   .communicator = links.communicator(),
                                   .heartbeat = context.heartbeat,
                                   .installed_configs = context.installed_configs,
                                   .stop_requested = context.stop_requested,
                                   .host_threads = context.threads,
                                   .progress = context.progress,
                                   .exchange = links.description(),
                                   .version = kBuildVersion,
                                   .links = links.links(),
                                   .host_rates = CachedHostRates(),
                                   .goes_on_from = goes_on_from};
  std::unique_ptr<Trainer> trainer;  // outlives the catch block: nothing is unwound there
  try {
    trainer = std::make_unique<Trainer>(context.config, environment);
    return trainer->Run();
  } catch (...) {
    context.end_job();
  }
  return {.end = RunEnd::kStopped};
}

int TrainOnRank(const RankContext& context) {
  RequireToldInterface(context);
  std::unique_ptr<RunLock> lock;
  if (context.bootstrap.rank() == 0) {
    lock = std::make_unique<RunLock>(context.config.config.output_dir);
  }
  context.bootstrap.Barrier();  // nobody writes before the folder is ours
  const RunSummary first = TrainStage(context, std::nullopt);
  if (first.end == RunEnd::kTurnsToBf16) TrainStage(context, first.steps);
  return kExitDone;
}

int Run(const Invocation& invocation) {
  return RunRankProcess({.file = invocation.file, .overrides = invocation.overrides}, TrainOnRank);
}

}  // namespace

Command MakeRankCommand() {
  return {
      .name = "rank",
      .file = "RUN.yaml",
      .summary = "one rank of a run, to be started by mpirun or srun",
      .details = "Rank 0 reads the file and broadcasts it. SIGUSR1: finish the step, save, end.",
      .takes_run_keys = true,
      .add_options = nullptr,
      .run = Run};
}

}  // namespace hearth
