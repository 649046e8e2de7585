#include "kernels/cuda/cuda_backend.h"

#include "kernels/cuda/gemm.h"

namespace hearth {

CudaBackend::CudaBackend(int ordinal)
    : device_(ordinal), gemm_(std::make_unique<CudaGemm>(device_)) {}

CudaBackend::~CudaBackend() = default;

}  // namespace hearth
