// Which of several algorithms is fastest on this GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "kernels/cuda/gemm_library.h"

namespace hearth {

// Runs each of the candidates several times on random operands in memory of its own, which is given
// back on return, and returns the one that ChooseCandidate prefers. Where the GPU refuses that
// memory it works on `matmul`'s own operands, `out` included. Blocks until everything before on the
// stream, and its own work, is done. DeviceError when no candidate runs, or the GPU does not
// answer.
GemmAlgorithm MeasureCandidates(const GemmLibrary& library, cudaStream_t stream,
                                const Matmul& matmul, const MatmulWorkspace& workspace,
                                const std::vector<GemmAlgorithm>& candidates);

}  // namespace hearth
