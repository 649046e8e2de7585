#include "comm/nccl/nccl.h"
#include "kernels/core/error.h"

namespace hearth {

std::unique_ptr<Communicator> MakeNcclCommunicator(Bootstrap&, KernelBackend&, const NcclOptions&) {
  throw ConfigError(
      "comm.backend: this build has no NCCL, whose header was not found; use another one or auto");
}

}  // namespace hearth
