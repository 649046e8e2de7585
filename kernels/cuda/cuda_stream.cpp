#include "kernels/cuda/cuda_stream.h"

#include <cuda.h>

#include <atomic>
#include <thread>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_native.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

bool Reached(uint32_t word, uint32_t value) { return static_cast<int32_t>(word - value) >= 0; }

// A word that the other side of the bus changes.
uint32_t ReadWord(const uint32_t* word) {
  return std::atomic_ref<uint32_t>(*const_cast<uint32_t*>(word)).load(std::memory_order_acquire);
}

void WriteWord(uint32_t* word, uint32_t value) {
  std::atomic_ref<uint32_t>(*word).store(value, std::memory_order_release);
}

// Polls `done` until it holds: at first without a pause, as most waits are short, then at pauses
// that leave the core to others.
template <typename Predicate>
bool PollUntil(std::chrono::milliseconds timeout, const Predicate& done) {
  constexpr auto kSpin = std::chrono::microseconds(100);
  constexpr auto kPause = std::chrono::microseconds(50);
  const auto start = Clock::now();
  while (!done()) {
    const auto waited = Clock::now() - start;
    if (waited >= timeout) return done();
    if (waited > kSpin) std::this_thread::sleep_for(kPause);
  }
  return true;
}

// Functions of the driver's library, found at run time: the binary must start where there is none.
struct DriverFunctions {
  decltype(&cuStreamWaitValue32) wait_value = nullptr;
  decltype(&cuStreamWriteValue32) write_value = nullptr;
  decltype(&cuMemGetAddressRange) address_range = nullptr;
};

template <typename Function>
void FindDriverFunction(const char* name, Function& function) {
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  void* address = nullptr;
  constexpr unsigned kCuda12 = 12000;
  CheckCuda(cudaGetDriverEntryPointByVersion(name, &address, kCuda12, cudaEnableDefault, &found),
            name);
  if (found != cudaDriverEntryPointSuccess || address == nullptr) {
    throw DeviceError(Format("the GPU's driver has no {}; update the driver", name));
  }
  function = reinterpret_cast<Function>(address);
}

const DriverFunctions& Driver() {
  static const DriverFunctions functions = [] {
    DriverFunctions found;
    FindDriverFunction("cuStreamWaitValue32", found.wait_value);
    FindDriverFunction("cuStreamWriteValue32", found.write_value);
    FindDriverFunction("cuMemGetAddressRange", found.address_range);
    return found;
  }();
  return functions;
}

void CheckDriver(CUresult status, std::string_view what, const std::string& stream) {
  if (status == CUDA_SUCCESS) return;
  throw DeviceError(
      Format("stream {}: {} failed with driver error {}", stream, what, static_cast<int>(status)));
}

CudaStream& AsCuda(Stream& stream) {
  auto* cuda = dynamic_cast<CudaStream*>(&stream);
  CHECK(cuda != nullptr, "stream {} is not one of a CUDA device", stream.name());
  return *cuda;
}

}  // namespace

cudaStream_t NativeStream(Stream& stream) {
  const CudaStream& cuda = AsCuda(stream);
  cuda.device().MakeCurrent();
  return cuda.native();
}

void EnqueueWordWait(Stream& stream, const uint32_t* word, uint32_t value) {
  CheckDriver(Driver().wait_value(NativeStream(stream), reinterpret_cast<CUdeviceptr>(word), value,
                                  CU_STREAM_WAIT_VALUE_GEQ),
              "a wait on a word", stream.name());
}

void EnqueueWordWrite(Stream& stream, uint32_t* word, uint32_t value) {
  CheckDriver(Driver().write_value(NativeStream(stream), reinterpret_cast<CUdeviceptr>(word), value,
                                   CU_STREAM_WRITE_VALUE_DEFAULT),
              "writing a word", stream.name());
}

DeviceAllocation AllocationOf(const void* address) {
  CUdeviceptr base = 0;
  size_t bytes = 0;
  const CUresult status =
      Driver().address_range(&base, &bytes, reinterpret_cast<CUdeviceptr>(address));
  if (status != CUDA_SUCCESS) {
    throw DeviceError(Format("finding an allocation of device memory failed with driver error {}",
                             static_cast<int>(status)));
  }
  return {reinterpret_cast<void*>(base), static_cast<int64_t>(bytes)};
}

void CheckCuda(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  throw DeviceError(
      Format("{}: {}: {}", what, cudaGetErrorName(status), cudaGetErrorString(status)));
}

void CheckLaunch(std::string_view kernel) { CheckCuda(cudaGetLastError(), kernel); }

CudaEvent::CudaEvent(const CudaDevice& device, bool timed) : device_(device) {
  device_.MakeCurrent();
  CheckCuda(cudaEventCreateWithFlags(&event_, timed ? cudaEventDefault : cudaEventDisableTiming),
            "creating an event");
}

CudaEvent::~CudaEvent() { cudaEventDestroy(event_); }

bool CudaEvent::Done() const {
  const cudaError_t status = cudaEventQuery(event_);
  if (status == cudaErrorNotReady) return false;
  CheckCuda(status, "asking for an event");
  return true;
}

double CudaEvent::SecondsSince(const Event& earlier) const {
  float milliseconds = 0;
  CheckCuda(
      cudaEventElapsedTime(&milliseconds, dynamic_cast<const CudaEvent&>(earlier).event_, event_),
      "the time between two events");
  return milliseconds * 1e-3;
}

CudaSignalWord::CudaSignalWord() {
  void* memory = nullptr;
  CheckCuda(cudaHostAlloc(&memory, sizeof(uint32_t), cudaHostAllocPortable | cudaHostAllocMapped),
            "allocating a signal");
  word = static_cast<uint32_t*>(memory);
  WriteWord(word, 0);
}

CudaSignalWord::~CudaSignalWord() { cudaFreeHost(word); }

CudaHostSignal::CudaHostSignal(const CudaDevice& device) {
  device.MakeCurrent();
  word_ = std::make_shared<CudaSignalWord>();
}

void CudaHostSignal::Set(uint32_t value) {
  std::lock_guard lock(word_->mutex);
  // A failed signal stays beyond whatever a stream may still wait for.
  if (!word_->error) WriteWord(word_->word, value);
}

uint32_t CudaHostSignal::value() const { return ReadWord(word_->word); }

void CudaHostSignal::Fail(std::exception_ptr error) {
  std::lock_guard lock(word_->mutex);
  if (word_->error) return;
  word_->error = std::move(error);
  if (word_->is_awaited && !Reached(ReadWord(word_->word), word_->awaited)) {
    WriteWord(word_->word, word_->awaited);
  }
}

bool CudaHostSignal::WaitFor(uint32_t value, std::chrono::milliseconds timeout) const {
  std::exception_ptr error;
  const bool reached = PollUntil(timeout, [&] {
    std::lock_guard lock(word_->mutex);
    error = word_->error;
    return error || Reached(ReadWord(word_->word), value);
  });
  if (error) std::rethrow_exception(error);
  return reached;
}

CudaStream::CudaStream(const CudaDevice& device, std::string_view name)
    : device_(device), name_(name) {
  device_.MakeCurrent();
  CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
}

CudaStream::~CudaStream() {
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

void CudaStream::Record(Event& event) {
  CHECK(!capturing_, "stream {}: an event may not be captured", name_);
  device_.MakeCurrent();
  CheckCuda(cudaEventRecord(dynamic_cast<CudaEvent&>(event).native(), stream_), name_);
}

void CudaStream::Wait(const Event& event) {
  CHECK(!capturing_, "stream {}: a wait may not be captured", name_);
  device_.MakeCurrent();
  CheckCuda(cudaStreamWaitEvent(stream_, dynamic_cast<const CudaEvent&>(event).native(), 0), name_);
}

void CudaStream::Wait(const HostSignal& signal, uint32_t value) {
  CHECK(!capturing_, "stream {}: a wait may not be captured", name_);
  const auto& word = dynamic_cast<const CudaHostSignal&>(signal).word_;
  device_.MakeCurrent();
  // Under the lock, so that a failure either sees this wait or is seen by it.
  std::lock_guard lock(word->mutex);
  awaited_.push_back(word);
  if (word->error) return;
  if (!word->is_awaited || Reached(value, word->awaited)) word->awaited = value;
  word->is_awaited = true;
  CheckDriver(Driver().wait_value(stream_, reinterpret_cast<CUdeviceptr>(word->word), value,
                                  CU_STREAM_WAIT_VALUE_GEQ),
              "a wait on a signal", name_);
}

void CudaStream::Signal(HostSignal& signal, uint32_t value) {
  CHECK(!capturing_, "stream {}: a signal may not be captured", name_);
  const auto& word = dynamic_cast<CudaHostSignal&>(signal).word_;
  device_.MakeCurrent();
  written_.push_back(word);
  CheckDriver(Driver().write_value(stream_, reinterpret_cast<CUdeviceptr>(word->word), value,
                                   CU_STREAM_WRITE_VALUE_DEFAULT),
              "setting a signal", name_);
}

std::exception_ptr CudaStream::TakeSignalError() {
  std::exception_ptr first;
  for (const auto& word : awaited_) {
    std::lock_guard lock(word->mutex);
    if (word->error && !first) first = word->error;
  }
  awaited_.clear();
  return first;
}

void CudaStream::Synchronize(std::chrono::milliseconds timeout) {
  device_.MakeCurrent();
  cudaError_t status = cudaErrorNotReady;
  const bool done = PollUntil(timeout, [&] {
    status = cudaStreamQuery(stream_);
    return status != cudaErrorNotReady;
  });
  if (!done) {
    throw DeviceError(Format("stream {} did not finish within {} ms", name_, timeout.count()));
  }
  const std::exception_ptr error = TakeSignalError();
  written_.clear();
  CheckCuda(status, Format("stream {}", name_));
  if (error) std::rethrow_exception(error);
}

CudaGraph::~CudaGraph() { cudaGraphExecDestroy(graph_); }

void CudaGraph::Launch(Stream& stream) {
  CheckCuda(cudaGraphLaunch(graph_, NativeStream(stream)), "launching a graph");
}

}  // namespace hearth
