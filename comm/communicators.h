// The one place that knows which communicators are in this build.
#pragma once

#include <chrono>
#include <memory>
#include <string_view>

#include "comm/api/bootstrap.h"
#include "comm/api/communicator.h"
#include "kernels/api/kernel_backend.h"

namespace hearth {

struct CommunicatorOptions {
  std::chrono::milliseconds collective_timeout{100'000};
};

// kind: "mpi". Collective over the ranks of `bootstrap`, which must outlive the communicator, as
// must the backend. Every call makes an independent communicator.
std::unique_ptr<Communicator> MakeCommunicator(std::string_view kind, Bootstrap& bootstrap,
                                               KernelBackend& backend,
                                               const CommunicatorOptions& options);

}  // namespace hearth
