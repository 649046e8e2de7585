// NCCL, loaded at run time: the program must start where it is absent.
#pragma once

#include <nccl.h>

#include <memory>
#include <string_view>

namespace hearth {

// The functions used here; the library stays loaded for the life of the process.
struct NcclLibrary {
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRankConfig) comm_init = nullptr;
  decltype(&ncclCommAbort) comm_abort = nullptr;
  decltype(&ncclCommGetAsyncError) get_async_error = nullptr;
  decltype(&ncclGetErrorString) get_error_string = nullptr;
  decltype(&ncclGroupStart) group_start = nullptr;
  decltype(&ncclGroupEnd) group_end = nullptr;
  decltype(&ncclSend) send = nullptr;
  decltype(&ncclRecv) receive = nullptr;
  decltype(&ncclAllGather) all_gather = nullptr;
  decltype(&ncclReduceScatter) reduce_scatter = nullptr;
  decltype(&ncclBroadcast) broadcast = nullptr;
};

// CommError when it cannot be loaded or is too old.
NcclLibrary LoadNccl(const char* file = "libnccl.so.2");

}  // namespace hearth
