#include "kernels/cuda/cudnn_library.h"

namespace hearth {

std::unique_ptr<CudnnLibrary> OpenCudnn(const CudaDevice& /*device*/, std::string& why_not) {
  why_not = "this build was made without the headers of cuDNN and cudnn-frontend";
  return nullptr;
}

}  // namespace hearth
