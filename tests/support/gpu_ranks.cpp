#include "tests/support/gpu_ranks.h"

#include <cstdlib>

#include "kernels/backend.h"

namespace hearth::test {

KernelBackend& RankBackend(const Bootstrap& bootstrap) {
  // Never destroyed: at the end of a process the driver may be gone before it.
  static KernelBackend* const backend =
      MakeBackend("cuda", {.device_ordinal = bootstrap.local_rank() % CudaDeviceCount()}).release();
  return *backend;
}

bool HasNccl(const Bootstrap& bootstrap) {
  return bootstrap.local_world() <= CudaDeviceCount() || std::getenv("NCCL_HOSTID") != nullptr;
}

}  // namespace hearth::test
