// One NCCL communicator with the stream that its work runs on.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>

#include "comm/api/bootstrap.h"
#include "comm/nccl/nccl_library.h"
#include "kernels/core/device.h"

namespace hearth {

class NcclChannel {
 public:
  // Collective over the ranks of `bootstrap`; CommError when NCCL does not start within the
  // time-out.
  NcclChannel(const NcclLibrary& nccl, Bootstrap& bootstrap, Device& device,
              std::chrono::milliseconds timeout);
  // Ends NCCL's work, if any, and waits for it.
  ~NcclChannel();

  Stream& stream() { return *stream_; }
  // Enqueues what `calls` calls as one group, and waits until it is enqueued. CommError, naming the
  // operation, when NCCL refuses or takes longer than the time-out.
  void Enqueue(std::string_view operation, const std::function<void(ncclComm_t)>& calls);
  // CommError of a call inside a group.
  void Check(ncclResult_t result, std::string_view call) const;

  // CommError when NCCL has met an error meanwhile. Any thread.
  void CheckAsync();
  // Makes the kernels end, from a thread of its own, since NCCL waits for them. Any thread.
  void Abort() noexcept;

 private:
  // What NCCL says of the communicator; nothing is wrong with one that was aborted.
  ncclResult_t State();
  void AwaitState(std::string_view operation);

  const NcclLibrary& nccl_;
  const std::chrono::milliseconds timeout_;
  std::unique_ptr<Stream> stream_;
  std::mutex mutex_;  // guards what follows
  ncclComm_t comm_ = nullptr;
  bool aborted_ = false;
  std::thread aborter_;
};

}  // namespace hearth
