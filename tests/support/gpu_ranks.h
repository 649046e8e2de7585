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

}  // namespace hearth::test
