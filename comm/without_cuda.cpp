#include "comm/copy_engine/copy_engine.h"
#include "kernels/core/error.h"

namespace hearth {

std::unique_ptr<Communicator> MakeCopyEngineCommunicator(Bootstrap&, KernelBackend&,
                                                         const CopyEngineOptions&) {
  throw ConfigError(
      "comm.backend: this build has no CUDA code, so no copy_engine; use mpi or auto");
}

}  // namespace hearth
