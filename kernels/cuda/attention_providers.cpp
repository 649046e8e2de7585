#include "kernels/cuda/attention_providers.h"

#include "kernels/core/check.h"
#include "kernels/cuda/attention_cudnn.h"
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/attention_measure.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_native.h"

namespace hearth {

namespace {

constexpr std::string_view kAnyLibrary = "none";

bool IsCapturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CheckCuda(cudaStreamIsCapturing(stream, &status), "asking a stream for its state");
  return status != cudaStreamCaptureStatusNone;
}

GpuChip ChipOf(const CudaDevice& device) {
  return {.compute_capability = device.compute_capability(),
          .multiprocessors = device.multiprocessors()};
}

int64_t Rounded(double microseconds) { return static_cast<int64_t>(microseconds + 0.5); }

}  // namespace

CudaAttention::CudaAttention(const CudaDevice& device) : device_(device) {}

CudaAttention::~CudaAttention() = default;

void CudaAttention::Forward(Stream& stream, const AttentionForwardArgs& args) {
  if (args.qkv.shape()[0] == 0) return;
  const cudaStream_t native = NativeStream(stream);
  std::lock_guard lock(mutex_);
  if (CudnnAttention* const cudnn = Choose(native, args)) {
    used_cudnn_ = true;
    return CudnnAttentionForward(native, *cudnn, args);
  }
  used_own_ = true;
  if (IsTiled(args)) {
    TiledAttentionForward(native, ChipOf(device_), args);
  } else {
    PlainAttentionForward(native, args);
  }
}

void CudaAttention::Backward(Stream& stream, const AttentionBackwardArgs& args) {
  if (args.qkv.shape()[0] == 0) return;
  const cudaStream_t native = NativeStream(stream);
  std::lock_guard lock(mutex_);
  if (CudnnAttention* const cudnn = Choose(native, args)) {
    used_cudnn_ = true;
    return CudnnAttentionBackward(native, *cudnn, args);
  }
  used_own_ = true;
  if (IsTiled(args)) {
    TiledAttentionBackward(native, ChipOf(device_), args);
  } else {
    PlainAttentionBackward(native, args);
  }
}

// Null: our own.
template <typename Args>
CudnnAttention* CudaAttention::Choose(cudaStream_t stream, const Args& args) {
  if (args.provider == AttentionProvider::kOwn) return nullptr;
  const float scale = args.shape.softmax_scale;
  const int64_t workspace_bytes = args.workspace.bytes();
  std::string why_not;
  const auto key = CudnnKey(args, why_not);
  if (args.provider == AttentionProvider::kAuto) {
    if (key) return FollowTable(stream, *key, scale, workspace_bytes);
    reason_ = std::move(why_not);
    return nullptr;
  }
  CudnnAttention* const attention = key ? Prepare(*key, scale, workspace_bytes, why_not) : nullptr;
  if (attention == nullptr) {
    throw DeviceError(Format("cuDNN was asked for and does not compute the attention {}: {}",
                             key ? Describe(*key) : "", why_not));
  }
  return attention;
}

CudnnAttention* CudaAttention::FollowTable(cudaStream_t stream, const AttentionKey& key,
                                           float softmax_scale, int64_t workspace_bytes) {
  auto found = choices_.find(key);
  if (found == choices_.end()) {
    if (!measuring_ || IsCapturing(stream)) return nullptr;
    found = choices_.emplace(key, MeasureChoice(stream, key, softmax_scale, workspace_bytes)).first;
  }
  if (found->second.provider == AttentionProvider::kOwn) return nullptr;
  std::string why_not;
  CudnnAttention* const attention = Prepare(key, softmax_scale, workspace_bytes, why_not);
  if (attention == nullptr) {
    WarnOnce(
        Format("cuDNN was chosen for the attention {} and is of no use here ({}): our own is "
               "used, so results may differ in their last bits",
               Describe(key), why_not));
    found->second = {AttentionProvider::kOwn, std::string(kAnyLibrary)};
  }
  return attention;
}

CudaAttention::Choice CudaAttention::MeasureChoice(cudaStream_t stream, const AttentionKey& key,
                                                   float softmax_scale, int64_t workspace_bytes) {
  const Choice own{AttentionProvider::kOwn, std::string(kAnyLibrary)};
  CudnnAttention* const attention = Prepare(key, softmax_scale, workspace_bytes, reason_);
  if (attention == nullptr) return own;
  const auto times = MeasureAttention(stream, ChipOf(device_), key, softmax_scale, *attention);
  if (!times) {
    reason_ = "there was no memory to measure cuDNN's";
    return own;
  }
  reason_ = Format("forward and backward take {} us by our own code, {} us by {}",
                   Rounded(times->own_microseconds), Rounded(times->cudnn_microseconds),
                   library_->name());
  if (!PrefersCudnn(times->own_microseconds, times->cudnn_microseconds)) return own;
  return {AttentionProvider::kCudnn, library_->identity()};
}

CudnnAttention* CudaAttention::Prepare(const AttentionKey& key, float softmax_scale,
                                       int64_t workspace_bytes, std::string& why_not) {
  CudnnLibrary* const library = Library();
  if (library == nullptr) {
    why_not = library_error_;
    return nullptr;
  }
  const auto [found, is_new] = plans_.try_emplace({key, softmax_scale});
  Plan& plan = found->second;
  if (is_new) plan.attention = library->Prepare(key, softmax_scale, plan.why_not);
  if (plan.attention == nullptr) {
    why_not = plan.why_not;
    return nullptr;
  }
  const int64_t wanted = CudnnWorkspaceBytes(key, *plan.attention);
  if (wanted > workspace_bytes) {
    why_not = Format("it wants {} bytes of workspace, there are {}", wanted, workspace_bytes);
    return nullptr;
  }
  return plan.attention.get();
}

CudnnLibrary* CudaAttention::Library() {
  if (!library_sought_) library_ = OpenCudnn(device_, library_error_);
  library_sought_ = true;
  return library_.get();
}

void CudaAttention::WarnOnce(std::string message) {
  if (!has_warned_) warnings_.push_back(std::move(message));
  has_warned_ = true;
}

void CudaAttention::Measure(bool on) {
  std::lock_guard lock(mutex_);
  measuring_ = on;
}

std::string CudaAttention::Table() const {
  std::lock_guard lock(mutex_);
  std::vector<AttentionTableEntry> entries;
  for (const auto& [key, choice] : choices_) {
    entries.push_back({.key = key, .provider = choice.provider, .library = choice.library});
  }
  return PrintAttentionTable(entries);
}

void CudaAttention::Load(std::string_view text) {
  const std::vector<AttentionTableEntry> entries = ParseAttentionTable(text);
  std::lock_guard lock(mutex_);
  for (const AttentionTableEntry& entry : entries) {
    const bool is_cudnn = entry.provider == AttentionProvider::kCudnn;
    CudnnLibrary* const library = is_cudnn ? Library() : nullptr;
    if (!is_cudnn || (library != nullptr && library->identity() == entry.library)) {
      choices_.insert_or_assign(entry.key, Choice{entry.provider, entry.library});
      reason_ = "a table of earlier measurements says so";
    } else {
      WarnOnce(Format(
          "attention was computed by {}, here is {}: it is chosen anew, so results may differ in "
          "their last bits",
          entry.library, library == nullptr ? "no cuDNN: " + library_error_ : library->identity()));
    }
  }
}

std::vector<std::string> CudaAttention::TakeWarnings() {
  std::lock_guard lock(mutex_);
  return std::exchange(warnings_, {});
}

std::string CudaAttention::WhyNot(AttentionProvider provider) {
  if (provider != AttentionProvider::kCudnn) return {};
  std::lock_guard lock(mutex_);
  return Library() == nullptr ? library_error_ : std::string();
}

AttentionReport CudaAttention::Report() const {
  std::lock_guard lock(mutex_);
  AttentionReport report{.provider = used_own_ || !used_cudnn_ ? "own" : "", .reason = reason_};
  if (used_cudnn_) report.provider += (used_own_ ? "+" : "") + library_->name();
  return report;
}

void CudaBackend::DoAttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  attention_->Forward(stream, args);
}

void CudaBackend::DoAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  attention_->Backward(stream, args);
}

std::string CudaBackend::WhyNoAttention(AttentionProvider provider) {
  return attention_->WhyNot(provider);
}

AttentionReport CudaBackend::Attention() const { return attention_->Report(); }

}  // namespace hearth
