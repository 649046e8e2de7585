#include "comm/copy_engine/copy_engine.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

[[noreturn]] void Refuse() {
  throw ConfigError(
      "comm.backend: this build has no CUDA code, so no copy_engine; use mpi or auto");
}

}  // namespace

std::unique_ptr<Communicator> MakeCopyEngineCommunicator(Bootstrap&, KernelBackend&,
                                                         const CopyEngineOptions&) {
  Refuse();
}

std::unique_ptr<BareCopies> MakeEngineBareCopies(Bootstrap&, KernelBackend&, const TensorView&,
                                                 bool) {
  Refuse();
}

}  // namespace hearth
