#include "comm/nccl/nccl_channel.h"

#include <cstring>
#include <exception>
#include <string>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/cuda/cuda_native.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::microseconds kPause{20};

Bytes ToBytes(const ncclUniqueId& id) {
  const auto* data = reinterpret_cast<const std::byte*>(&id);
  return {data, data + sizeof(id)};
}

}  // namespace

NcclChannel::NcclChannel(const NcclLibrary& nccl, Bootstrap& bootstrap, Device& device,
                         std::chrono::milliseconds timeout)
    : nccl_(nccl), timeout_(timeout), stream_(device.CreateStream("nccl")) {
  NativeStream(*stream_);  // makes the GPU this thread's
  ncclUniqueId id{};
  Bytes bytes;
  if (bootstrap.rank() == 0) {
    Check(nccl_.get_unique_id(&id), "ncclGetUniqueId");
    bytes = ToBytes(id);
  }
  bytes = bootstrap.Broadcast(bytes, 0);
  CHECK(bytes.size() == sizeof(id), "an identifier of {} bytes", bytes.size());
  std::memcpy(&id, bytes.data(), sizeof(id));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const ncclResult_t result =
      nccl_.comm_init(&comm_, bootstrap.world(), id, bootstrap.rank(), &config);
  try {
    if (result != ncclInProgress) Check(result, "ncclCommInitRankConfig");
    AwaitState("starting");
  } catch (...) {
    Abort();
    if (aborter_.joinable()) aborter_.join();
    throw;
  }
}

NcclChannel::~NcclChannel() {
  Abort();
  if (aborter_.joinable()) aborter_.join();
}

void NcclChannel::Check(ncclResult_t result, std::string_view call) const {
  if (result == ncclSuccess || result == ncclInProgress) return;
  throw CommError(Format("{}: {}", call, nccl_.get_error_string(result)));
}

ncclResult_t NcclChannel::State() {
  std::lock_guard lock(mutex_);
  if (aborted_) return ncclSuccess;  // the streams have the error
  ncclResult_t state = ncclInProgress;
  const ncclResult_t result = nccl_.get_async_error(comm_, &state);
  return result == ncclSuccess ? state : result;
}

void NcclChannel::AwaitState(std::string_view operation) {
  const auto deadline = Clock::now() + timeout_;
  while (true) {
    const ncclResult_t state = State();
    if (state == ncclSuccess) return;
    Check(state, Format("NCCL, {}", operation));
    if (Clock::now() > deadline) {
      throw CommError(
          Format("NCCL, {}: not all ranks came within {} ms", operation, timeout_.count()));
    }
    std::this_thread::sleep_for(kPause);
  }
}

void NcclChannel::Enqueue(std::string_view operation,
                          const std::function<void(ncclComm_t)>& calls) {
  NativeStream(*stream_);
  {
    // NCCL blocks nobody here; an abort that came between would take the communicator away.
    std::lock_guard lock(mutex_);
    if (aborted_) return;  // the streams have the error
    Check(nccl_.group_start(), "ncclGroupStart");
    try {
      calls(comm_);
    } catch (...) {
      nccl_.group_end();
      throw;
    }
    Check(nccl_.group_end(), Format("NCCL, {}", operation));
  }
  AwaitState(operation);
}

void NcclChannel::CheckAsync() {
  const ncclResult_t state = State();
  Check(state, "NCCL");
}

void NcclChannel::Abort() noexcept {
  std::lock_guard lock(mutex_);
  if (aborted_ || comm_ == nullptr) return;
  aborted_ = true;
  try {
    aborter_ = std::thread([this] {
      try {
        NativeStream(*stream_);
        nccl_.comm_abort(comm_);
      } catch (const std::exception& error) {
        LogWarning(error.what());
      }
    });
  } catch (const std::exception& error) {
    LogWarning(error.what());
  }
}

}  // namespace hearth
