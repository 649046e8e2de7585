#include "comm/communicators.h"

#include "comm/inproc/inproc_bootstrap.h"
#include "comm/inproc/inproc_transport.h"
#include "comm/mpi/mpi_bootstrap.h"
#include "comm/mpi/mpi_transport.h"
#include "comm/staged_communicator.h"
#include "kernels/core/check.h"

namespace hearth {

std::unique_ptr<Bootstrap> MakeMpiBootstrap(const BootstrapOptions& options) {
  return std::make_unique<MpiBootstrap>(options);
}

std::unique_ptr<Communicator> MakeCommunicator(std::string_view kind, Bootstrap& bootstrap,
                                               KernelBackend& backend,
                                               const CommunicatorOptions& options) {
  std::unique_ptr<Transport> transport;
  if (kind == "mpi") {
    transport = std::make_unique<MpiTransport>(options.collective_timeout);
  } else if (kind == "inproc") {
    transport = std::make_unique<InprocTransport>(dynamic_cast<InprocBootstrap&>(bootstrap),
                                                  options.collective_timeout);
  } else {
    throw ConfigError(Format("comm.backend: {} is not in this build", kind));
  }
  return std::make_unique<StagedCommunicator>(std::move(transport), backend, options);
}

}  // namespace hearth
