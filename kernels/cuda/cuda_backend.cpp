#include "kernels/cuda/cuda_backend.h"

#include "kernels/cuda/attention_providers.h"
#include "kernels/cuda/gemm.h"

namespace hearth {

CudaBackend::CudaBackend(int ordinal)
    : device_(ordinal),
      gemm_(std::make_unique<CudaGemm>(device_)),
      attention_(std::make_unique<CudaAttention>(device_)) {}

CudaBackend::~CudaBackend() = default;

void CudaBackend::MeasureMatmuls(bool on) {
  gemm_->Measure(on);
  attention_->Measure(on);
}

std::string CudaBackend::MatmulTable() const { return gemm_->Table() + attention_->Table(); }

void CudaBackend::LoadMatmulTable(std::string_view text) {
  gemm_->Load(text);
  attention_->Load(text);
}

std::vector<std::string> CudaBackend::TakeMatmulWarnings() {
  std::vector<std::string> warnings = gemm_->TakeWarnings();
  for (std::string& warning : attention_->TakeWarnings()) warnings.push_back(std::move(warning));
  return warnings;
}

}  // namespace hearth
