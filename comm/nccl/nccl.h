// Collectives by NVIDIA's NCCL. In a build without its header comm/without_nccl.cpp defines the
// same function.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "comm/api/bootstrap.h"
#include "comm/api/communicator.h"
#include "kernels/api/kernel_backend.h"

namespace hearth {

struct NcclOptions {
  std::chrono::milliseconds collective_timeout{100'000};
  // A multiple of 64, of which what the communicator takes is made; see MemoryOf. NCCL's own memory
  // comes on top.
  int64_t piece_bytes = int64_t{1} << 20;
  // False: NCCL's own reduce-scatter where it can stand in for ours. It adds in another order and
  // rounds at every hop.
  bool deterministic = true;
};

// Each rank, of at least two, is a process with a GPU of its own. CommError when the library cannot
// be loaded or does not start, ConfigError in a build without it. Collective over the ranks of
// `bootstrap`, which must outlive the communicator, as must the backend, which is a CUDA one.
std::unique_ptr<Communicator> MakeNcclCommunicator(Bootstrap& bootstrap, KernelBackend& backend,
                                                   const NcclOptions& options);

}  // namespace hearth
