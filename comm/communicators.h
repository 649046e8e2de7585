// The one place that knows which communicators are in this build.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comm/api/bare_copies.h"
#include "comm/api/bootstrap.h"
#include "comm/api/communicator.h"
#include "comm/api/gather_texts.h"
#include "comm/api/topology.h"
#include "kernels/api/kernel_backend.h"

namespace hearth {

// Starts MPI, once per process, and ends it in the destructor; a process that has started MPI
// itself keeps it. When init_timeout passes before all ranks have started, or a rank does not come
// to the end, the process ends with a line that says so (MPI offers no other way out).
std::unique_ptr<Bootstrap> MakeMpiBootstrap(const BootstrapOptions& options);

struct CommunicatorOptions {
  std::chrono::milliseconds collective_timeout{100'000};
  // The most that a message holds which waits in the communicator's own memory, a multiple of 64.
  // How much memory that is says MemoryOf.
  int64_t piece_bytes = int64_t{1} << 20;
  // Copy everything through pinned host memory, as "mpi" and "inproc" always do where device memory
  // is not host memory. Nothing to "nccl".
  bool stage = false;
  // "copy_engine": CommError where a rank cannot map another's memory, instead of going through the
  // host with a warning.
  bool peers_only = false;
  // False: "nccl" may add in an order of its own.
  bool deterministic = true;
  // "tcp": the network device to go by; "": the first network that all ranks have in common.
  std::string interface = {};
};

// kind: "auto"; "mpi"; "tcp", CommError on all ranks where they do not reach each other by it;
// "inproc" for a bootstrap of MakeInprocBootstraps; "copy_engine" and "nccl"
// where each rank has a GPU; ConfigError otherwise, and for what is not in this build. Collective
// over the ranks of `bootstrap`, which must outlive the communicator, as must the backend. Every
// call makes an independent communicator. "auto" is "mpi" until links are measured.
std::unique_ptr<Communicator> MakeCommunicator(std::string_view kind, Bootstrap& bootstrap,
                                               KernelBackend& backend,
                                               const CommunicatorOptions& options);

// Between boxes, and in words how: by "tcp", or by "mpi" where the ranks do not reach each other
// so, with a warning. Any other failure is an error.
struct NetworkCommunicator {
  std::unique_ptr<Communicator> communicator;
  std::string description;  // "TCP on eth0 (10.77.0.1)"
  std::string warning;      // for rank 0 to say; "" mostly
};
NetworkCommunicator MakeNetworkCommunicator(Bootstrap& bootstrap, KernelBackend& backend,
                                            const CommunicatorOptions& options);

// Collectives of an operation, and of up to so many bytes of all ranks' ranges together, go by a
// part; what no rule takes goes by the first part.
enum class MixedOperation : uint8_t { kAllGather, kReduceScatter, kAllReduce };
struct MixRule {
  MixedOperation operation = MixedOperation::kAllGather;
  int64_t up_to_bytes = INT64_MAX;
  int part = 0;
};
// Of parts of the same ranks, which it owns. The same rules on every rank, rising within an
// operation. All parts have the same sums, so a mixture changes no bit.
std::unique_ptr<Communicator> MakeMixedCommunicator(
    std::vector<std::unique_ptr<Communicator>> parts, std::vector<MixRule> rules);

// From the peers' slabs, or through host memory that the ranks share. Collective; all ranks on this
// host, each with a GPU. ConfigError in a build without CUDA, CommError when a rank cannot map
// another's slab.
std::unique_ptr<BareCopies> MakeBareCopies(Bootstrap& bootstrap, KernelBackend& backend,
                                           const TensorView& slab, bool through_host);

}  // namespace hearth
