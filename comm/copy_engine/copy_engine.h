// Collectives among the GPUs of one box by their copy engines. In a build without CUDA
// comm/without_cuda.cpp defines the same functions.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "comm/api/bare_copies.h"
#include "comm/api/bootstrap.h"
#include "comm/api/communicator.h"
#include "kernels/api/kernel_backend.h"

namespace hearth {

struct CopyEngineOptions {
  std::chrono::milliseconds collective_timeout{100'000};
  // A multiple of 64, of which what the communicator takes is made; see MemoryOf.
  int64_t piece_bytes = int64_t{1} << 20;
  // Copy through host memory that the ranks share. Done anyway where a GPU cannot map another's
  // memory, unless that is an error (CommError).
  bool through_host = false;
  bool peers_only = false;
};

// Each rank, of at least two, is a process with a GPU, which several may share. ConfigError when
// not all ranks are on this host, or in a build without CUDA. Collective over the ranks of
// `bootstrap`, which must outlive the communicator, as must the backend, which is a CUDA one.
std::unique_ptr<Communicator> MakeCopyEngineCommunicator(Bootstrap& bootstrap,
                                                         KernelBackend& backend,
                                                         const CopyEngineOptions& options);

// What such a communicator's copies would reach alone; see MakeBareCopies.
std::unique_ptr<BareCopies> MakeEngineBareCopies(Bootstrap& bootstrap, KernelBackend& backend,
                                                 const TensorView& slab, bool through_host);

}  // namespace hearth
