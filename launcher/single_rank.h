// A command's own process as the only rank.
#pragma once

#include <memory>

#include "comm/communicators.h"
#include "kernels/backend.h"
#include "launcher/run_links.h"
#include "runtime/telemetry/heartbeat.h"
#include "runtime/train/run_setup.h"

namespace hearth {

// Under mpirun or srun it is one of theirs.
class SingleRank {
 public:
  // kAuto: a GPU where there is one.
  explicit SingleRank(DeviceKind device);
  // On the device and over the communicator that a run asks for.
  explicit SingleRank(const RunConfig& config, const RunCommunicatorOptions& options = {});

  const RunEnvironment& environment() const { return environment_; }
  KernelBackend& backend() const { return *backend_; }
  int threads() const { return environment_.host_threads; }

 private:
  std::unique_ptr<Bootstrap> bootstrap_;
  std::unique_ptr<KernelBackend> backend_;
  RunLinks links_;
  Heartbeat unwatched_;
  const RunEnvironment environment_;
};

// Processors this process may use, or what OMP_NUM_THREADS says.
int DefaultThreads();

}  // namespace hearth
