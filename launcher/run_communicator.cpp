#include "launcher/run_communicator.h"

#include <chrono>
#include <string>

namespace hearth {

std::unique_ptr<Communicator> MakeRunCommunicator(const RunConfig& config, Bootstrap& bootstrap,
                                                  KernelBackend& backend) {
  const auto timeout =
      std::chrono::milliseconds(static_cast<int64_t>(config.comm.collective_timeout_s * 1000));
  return MakeCommunicator(EnumName(config.comm.backend), bootstrap, backend,
                          {.collective_timeout = timeout, .deterministic = config.deterministic});
}

CommunicatorMemory ExpectedMemory(const RunConfig& config, int ranks, bool uses_gpus,
                                  bool one_host) {
  const CommBackend backend = config.comm.backend;
  return MemoryOf({.kind = std::string(backend == CommBackend::kAuto ? "mpi" : EnumName(backend)),
                   .world = ranks,
                   .one_host = one_host,
                   .stage = uses_gpus});
}

}  // namespace hearth
