// Tests whose ranks are processes with GPUs: `mpirun -n N hearth-gpu-tests --ranks`.
#pragma once

#include "comm/api/bootstrap.h"
#include "kernels/api/kernel_backend.h"

namespace hearth::test {

// Suites of such tests begin with this.
inline constexpr const char* kGpuRanksPrefix = "*GpuRanks";

// This process's GPU, made at the first call and kept: the ranks of a host take the visible GPUs in
// turn, so that several may share one.
KernelBackend& RankBackend(const Bootstrap& bootstrap);

// NCCL wants a GPU for each rank of a host. Where ranks share one it goes by sockets all the same
// if each has a value of NCCL_HOSTID, and so is a host of its own to it.
bool HasNccl(const Bootstrap& bootstrap);

}  // namespace hearth::test
