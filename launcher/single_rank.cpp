#include "launcher/single_rank.h"

#include <algorithm>
#include <cstdlib>

#include "kernels/core/log.h"
#include "launcher/core_binding.h"
#include "launcher/device_choice.h"
#include "launcher/host_rates_cache.h"
#include "launcher/program_info.h"
#include "launcher/rank_environment.h"

namespace hearth {

namespace {

// Keeps a lone MPI process from starting a daemon and leaving files: it will never have company.
void IsolateLoneProcess() {
  if (ReadRankEnvironment().rank) return;
  setenv("OMPI_MCA_ess_singleton_isolated", "1", 1);
  setenv("OMPI_MCA_btl", "self", 1);
}

std::unique_ptr<Bootstrap> MakeBootstrap() {
  IsolateLoneProcess();
  PrepareForGpus();
  return MakeMpiBootstrap({});
}

RunConfig OnDevice(DeviceKind device) {
  RunConfig config;
  config.device = device;
  return config;
}

}  // namespace

int DefaultThreads() {
  const int chosen = ReadRankEnvironment().threads.value_or(0);
  return chosen > 0 ? chosen : std::max(1, static_cast<int>(UsableProcessors().size()));
}

SingleRank::SingleRank(DeviceKind device) : SingleRank(OnDevice(device)) {}

SingleRank::SingleRank(const RunConfig& config, const RunCommunicatorOptions& options)
    : bootstrap_(MakeBootstrap()),
      backend_(MakeRankBackend({.device = config.device,
                                .local_rank = ReadRankEnvironment().place.rank,
                                .threads = DefaultThreads()})),
      links_(config, *bootstrap_, *backend_, options),
      environment_{.bootstrap = *bootstrap_,
                   .backend = *backend_,
                   .communicator = links_.communicator(),
                   .heartbeat = unwatched_,
                   .installed_configs = InstalledConfigs(),
                   .stop_requested = {},
                   .host_threads = DefaultThreads(),
                   .exchange = links_.description(),
                   .links = links_.links(),
                   .host_rates = CachedHostRates()} {
  if (bootstrap_->rank() == 0 && !links_.warning().empty()) LogWarning(links_.warning());
}

}  // namespace hearth
