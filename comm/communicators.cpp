#include "comm/communicators.h"

#include "comm/copy_engine/copy_engine.h"
#include "comm/inproc/inproc_bootstrap.h"
#include "comm/inproc/inproc_transport.h"
#include "comm/mixed_communicator.h"
#include "comm/mpi/mpi_bootstrap.h"
#include "comm/nccl/nccl.h"
#include "comm/staged_communicator.h"
#include "comm/tcp/tcp_transport.h"
#include "kernels/core/check.h"

namespace hearth {

std::unique_ptr<Bootstrap> MakeMpiBootstrap(const BootstrapOptions& options) {
  return std::make_unique<MpiBootstrap>(options);
}

std::unique_ptr<Communicator> MakeCommunicator(std::string_view kind, Bootstrap& bootstrap,
                                               KernelBackend& backend,
                                               const CommunicatorOptions& options) {
  if (kind == "auto") kind = "mpi";  // until the links are measured
  const bool needs_gpus = kind == "copy_engine" || kind == "nccl";
  if (needs_gpus && backend.device().kind() != DeviceType::kCuda) {
    throw ConfigError(
        Format("comm.backend: {} moves the memory of GPUs, not of a {}; use mpi or "
               "auto",
               kind, backend.device().name()));
  }
  if (needs_gpus && bootstrap.world() > 1) {
    if (kind == "nccl") {
      return MakeNcclCommunicator(bootstrap, backend,
                                  {.collective_timeout = options.collective_timeout,
                                   .piece_bytes = options.piece_bytes,
                                   .deterministic = options.deterministic});
    }
    return MakeCopyEngineCommunicator(bootstrap, backend,
                                      {.collective_timeout = options.collective_timeout,
                                       .piece_bytes = options.piece_bytes,
                                       .through_host = options.stage,
                                       .peers_only = options.peers_only});
  }
  std::unique_ptr<Transport> transport;
  if (kind == "mpi" || needs_gpus) {  // a rank alone moves nothing
    transport = dynamic_cast<MpiBootstrap&>(bootstrap).MakeTransport(options.collective_timeout);
  } else if (kind == "tcp") {
    transport =
        std::make_unique<TcpTransport>(bootstrap, options.interface, options.collective_timeout);
  } else if (kind == "inproc") {
    transport = std::make_unique<InprocTransport>(dynamic_cast<InprocBootstrap&>(bootstrap),
                                                  options.collective_timeout);
  } else {
    throw ConfigError(Format("comm.backend: {} is not in this build", kind));
  }
  return std::make_unique<StagedCommunicator>(std::move(transport), backend, options);
}

NetworkCommunicator MakeNetworkCommunicator(Bootstrap& bootstrap, KernelBackend& backend,
                                            const CommunicatorOptions& options) {
  NetworkCommunicator result;
  std::unique_ptr<Transport> transport;
  try {
    auto tcp =
        std::make_unique<TcpTransport>(bootstrap, options.interface, options.collective_timeout);
    result.description = "TCP on " + tcp->network();
    transport = std::move(tcp);
  } catch (const UnreachableError& error) {  // by all ranks alike
    result.description = "mpi";
    result.warning = Format(
        "between hosts gradients go by MPI, which is slower: {}; name the network device that all "
        "hosts have with comm.interface",
        error.what());
    transport = dynamic_cast<MpiBootstrap&>(bootstrap).MakeTransport(options.collective_timeout);
  }
  result.communicator =
      std::make_unique<StagedCommunicator>(std::move(transport), backend, options);
  return result;
}

std::unique_ptr<Communicator> MakeMixedCommunicator(
    std::vector<std::unique_ptr<Communicator>> parts, std::vector<MixRule> rules) {
  return std::make_unique<MixedCommunicator>(std::move(parts), std::move(rules));
}

std::unique_ptr<BareCopies> MakeBareCopies(Bootstrap& bootstrap, KernelBackend& backend,
                                           const TensorView& slab, bool through_host) {
  return MakeEngineBareCopies(bootstrap, backend, slab, through_host);
}

}  // namespace hearth
