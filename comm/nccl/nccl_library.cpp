#include "comm/nccl/nccl_library.h"

#include <dlfcn.h>

#include "kernels/core/check.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

template <typename Function>
void Find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr)
    throw CommError(Format("libnccl has no {}; 2.14 or later is needed", name));
}

}  // namespace

NcclLibrary LoadNccl(const char* file) {
  void* const library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw CommError(
        Format("NCCL cannot be loaded: {}; put its folder into LD_LIBRARY_PATH, or use "
               "another comm.backend",
               dlerror()));
  }
  NcclLibrary nccl;
  Find(library, "ncclGetUniqueId", nccl.get_unique_id);
  Find(library, "ncclCommInitRankConfig", nccl.comm_init);
  Find(library, "ncclCommAbort", nccl.comm_abort);
  Find(library, "ncclCommGetAsyncError", nccl.get_async_error);
  Find(library, "ncclGetErrorString", nccl.get_error_string);
  Find(library, "ncclGroupStart", nccl.group_start);
  Find(library, "ncclGroupEnd", nccl.group_end);
  Find(library, "ncclSend", nccl.send);
  Find(library, "ncclRecv", nccl.receive);
  Find(library, "ncclAllGather", nccl.all_gather);
  Find(library, "ncclReduceScatter", nccl.reduce_scatter);
  Find(library, "ncclBroadcast", nccl.broadcast);
  return nccl;
}

}  // namespace hearth
