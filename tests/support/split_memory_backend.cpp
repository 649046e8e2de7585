#include "tests/support/split_memory_backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <sstream>
#include <utility>

#include "kernels/backend.h"
#include "kernels/core/check.h"

namespace hearth::test {

namespace {

constexpr int64_t kPageBytes = 4096;
constexpr int kUnset = 0xff;

size_t MappedBytes(int64_t bytes) {
  return static_cast<size_t>(RoundUp(bytes == 0 ? 1 : bytes, kPageBytes));
}

// The two mappings of one piece of anonymous memory: {not accessible, usable}.
std::pair<std::byte*, std::byte*> MapTwice(size_t bytes) {
  const int file = memfd_create("device memory", MFD_CLOEXEC);
  void* closed = MAP_FAILED;
  void* usable = MAP_FAILED;
  if (file >= 0 && ftruncate(file, static_cast<off_t>(bytes)) == 0) {
    closed = mmap(nullptr, bytes, PROT_NONE, MAP_SHARED, file, 0);
    usable = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  if (file >= 0) close(file);
  if (closed == MAP_FAILED || usable == MAP_FAILED) {
    throw DeviceError(Format("{} bytes could not be mapped twice", bytes));
  }
  return {static_cast<std::byte*>(closed), static_cast<std::byte*>(usable)};
}

}  // namespace

// ---- The device ----

Buffer SplitMemoryDevice::AllocateDevice(int64_t bytes) {
  const auto [closed, usable] = MapTwice(MappedBytes(bytes));
  std::memset(usable, kUnset, static_cast<size_t>(bytes));
  device_bytes_ += bytes;
  std::lock_guard lock(mutex_);
  regions_[closed] = {.bytes = bytes, .usable = usable, .pinned = {}};
  return {closed, bytes, &Free, this};
}

Buffer SplitMemoryDevice::Allocate(int64_t bytes, MemoryKind kind) {
  CHECK(bytes >= 0, "allocation of {} bytes", bytes);
  if (sealed_) throw DeviceError(Format("allocation of {} bytes after the warm-up", bytes));
  if (kind == MemoryKind::kDevice) return AllocateDevice(bytes);
  Buffer pinned = inner_.Allocate(bytes, kind);
  std::byte* data = pinned.data();
  std::lock_guard lock(mutex_);
  regions_[data] = {.bytes = bytes, .usable = data, .pinned = std::move(pinned)};
  return {data, bytes, &Free, this};
}

void SplitMemoryDevice::Free(void* data, int64_t bytes, void* context) noexcept {
  auto* device = static_cast<SplitMemoryDevice*>(context);
  std::lock_guard lock(device->mutex_);
  const auto found = device->regions_.find(static_cast<std::byte*>(data));
  if (found == device->regions_.end()) return;
  if (found->second.pinned.data() == nullptr) {
    munmap(data, MappedBytes(bytes));
    munmap(found->second.usable, MappedBytes(bytes));
    device->device_bytes_ -= bytes;
  }
  device->regions_.erase(found);
}

void SplitMemoryDevice::Seal() {
  sealed_ = true;
  inner_.Seal();
}

int64_t SplitMemoryDevice::allocated_bytes(MemoryKind kind) const {
  return kind == MemoryKind::kDevice ? device_bytes_.load() : inner_.allocated_bytes(kind);
}

std::unique_ptr<Stream> SplitMemoryDevice::CreateStream(std::string_view name) {
  return inner_.CreateStream(name);
}

std::unique_ptr<Event> SplitMemoryDevice::CreateEvent() { return inner_.CreateEvent(); }

std::unique_ptr<Event> SplitMemoryDevice::CreateTimedEvent() { return inner_.CreateTimedEvent(); }

std::unique_ptr<HostSignal> SplitMemoryDevice::CreateHostSignal() {
  return inner_.CreateHostSignal();
}

std::unique_ptr<Graph> SplitMemoryDevice::Capture(Stream& stream,
                                                  const std::function<void()>& enqueue) {
  return inner_.Capture(stream, enqueue);
}

TensorView SplitMemoryDevice::Usable(const TensorView& view, bool may_be_pinned) const {
  // What is empty is never touched, and may lie behind the end of a buffer.
  if (!view || view.bytes() == 0) return view;
  const auto* begin = static_cast<const std::byte*>(view.data());
  std::lock_guard lock(mutex_);
  auto region = regions_.upper_bound(begin);
  CHECK(region != regions_.begin(), "a tensor of {} bytes in memory that no device gave",
        view.bytes());
  --region;
  const int64_t offset = begin - region->first;
  CHECK(offset + view.bytes() <= region->second.bytes,
        "a tensor of {} bytes in memory that no device gave", view.bytes());
  const bool pinned = region->second.pinned.data() != nullptr;
  CHECK(!pinned || may_be_pinned, "an op on {} bytes of the host's memory", view.bytes());
  return {region->second.usable + offset, view.dtype(), view.shape()};
}

// ---- The ops ----

SplitMemoryBackend::SplitMemoryBackend(int threads)
    : inner_(MakeBackend("cpu", {.threads = threads})), device_(inner_->device()) {}

SplitMemoryBackend::~SplitMemoryBackend() = default;

void SplitMemoryBackend::Translate(QuantizedOutput& output) const {
  Translate(output.values, output.transposed, output.scale);
}

void SplitMemoryBackend::Translate(QkNormWeights& norm) const { Translate(norm.q, norm.k); }

std::string SplitMemoryBackend::MatmulTable() const {
  std::string text;
  for (const std::string& matmul : matmuls_) text += matmul + "\n";
  return text;
}

void SplitMemoryBackend::LoadMatmulTable(std::string_view text) {
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) matmuls_.insert(line);
}

void SplitMemoryBackend::DoGemm(Stream& stream, const GemmArgs& args) {
  const GemmShape shape = ShapeOf(args);
  const bool is_new = matmuls_.insert(Format("{} {} {}", shape.m, shape.n, shape.k)).second;
  CHECK(!is_new || !device_.sealed(), "a matmul of {} x {} x {} after the warm-up", shape.m,
        shape.n, shape.k);
  GemmArgs a = args;
  Translate(a.a, a.b, a.a_scale, a.b_scale, a.bias, a.addend, a.out, a.workspace);
  inner_->Gemm(stream, a);
}

void SplitMemoryBackend::DoAttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  AttentionForwardArgs a = args;
  Translate(a.qkv, a.sequence_offsets, a.out, a.log_sum_exp);
  inner_->AttentionForward(stream, a);
}

void SplitMemoryBackend::DoAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  AttentionBackwardArgs a = args;
  Translate(a.qkv, a.sequence_offsets, a.out, a.log_sum_exp, a.d_out, a.d_qkv, a.workspace);
  inner_->AttentionBackward(stream, a);
}

void SplitMemoryBackend::DoRmsNormForward(Stream& stream, const RmsNormForwardArgs& args) {
  RmsNormForwardArgs a = args;
  Translate(a.x, a.weight, a.out, a.rstd);
  Translate(a.quantized);
  inner_->RmsNormForward(stream, a);
}

void SplitMemoryBackend::DoRmsNormBackward(Stream& stream, const RmsNormBackwardArgs& args) {
  RmsNormBackwardArgs a = args;
  Translate(a.d_out, a.x, a.weight, a.rstd, a.d_residual, a.d_x, a.d_weight, a.workspace);
  inner_->RmsNormBackward(stream, a);
}

void SplitMemoryBackend::DoRopeForward(Stream& stream, const RopeForwardArgs& args) {
  RopeForwardArgs a = args;
  Translate(a.qkv, a.positions, a.cos_sin, a.rstd, a.out);
  Translate(a.norm);
  inner_->RopeForward(stream, a);
}

void SplitMemoryBackend::DoRopeBackward(Stream& stream, const RopeBackwardArgs& args) {
  RopeBackwardArgs a = args;
  Translate(a.d_out, a.positions, a.cos_sin, a.qkv, a.rstd, a.d_norm_q, a.d_norm_k, a.d_qkv,
            a.workspace);
  Translate(a.norm);
  inner_->RopeBackward(stream, a);
}

void SplitMemoryBackend::DoSwigluForward(Stream& stream, const SwigluForwardArgs& args) {
  SwigluForwardArgs a = args;
  Translate(a.gate_up, a.out);
  Translate(a.quantized);
  inner_->SwigluForward(stream, a);
}

void SplitMemoryBackend::DoSwigluBackward(Stream& stream, const SwigluBackwardArgs& args) {
  SwigluBackwardArgs a = args;
  Translate(a.d_out, a.gate_up, a.d_gate_up);
  Translate(a.quantized);
  inner_->SwigluBackward(stream, a);
}

void SplitMemoryBackend::DoEmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args) {
  EmbeddingForwardArgs a = args;
  Translate(a.tokens, a.table, a.out);
  inner_->EmbeddingForward(stream, a);
}

void SplitMemoryBackend::DoEmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args) {
  EmbeddingBackwardArgs a = args;
  Translate(a.tokens, a.d_out, a.d_table, a.workspace);
  inner_->EmbeddingBackward(stream, a);
}

void SplitMemoryBackend::DoCrossEntropy(Stream& stream, const CrossEntropyArgs& args) {
  CrossEntropyArgs a = args;
  Translate(a.logits, a.targets, a.losses, a.gradient_scale, a.d_logits, a.d_logits_scale);
  inner_->CrossEntropy(stream, a);
}

void SplitMemoryBackend::DoQuantize(Stream& stream, const QuantizeArgs& args) {
  QuantizeArgs a = args;
  Translate(a.input);
  Translate(a.output);
  inner_->Quantize(stream, a);
}

void SplitMemoryBackend::DoTranspose(Stream& stream, const TransposeArgs& args) {
  TransposeArgs a = args;
  Translate(a.input, a.output);
  inner_->Transpose(stream, a);
}

void SplitMemoryBackend::DoAmax(Stream& stream, const AmaxArgs& args) {
  AmaxArgs a = args;
  Translate(a.input, a.amax);
  inner_->Amax(stream, a);
}

void SplitMemoryBackend::DoScaleFromAmax(Stream& stream, const ScaleFromAmaxArgs& args) {
  ScaleFromAmaxArgs a = args;
  Translate(a.amax, a.scales);
  inner_->ScaleFromAmax(stream, a);
}

void SplitMemoryBackend::DoCollectAmax(Stream& stream, const CollectAmaxArgs& args) {
  CollectAmaxArgs a = args;
  Translate(a.records, a.amax, a.repairs);
  inner_->CollectAmax(stream, a);
}

void SplitMemoryBackend::DoUpdateScales(Stream& stream, const UpdateScalesArgs& args) {
  UpdateScalesArgs a = args;
  Translate(a.amax, a.control, a.history, a.scales);
  inner_->UpdateScales(stream, a);
}

void SplitMemoryBackend::DoAdamw(Stream& stream, const AdamwArgs& args) {
  AdamwArgs a = args;
  Translate(a.master, a.m, a.v, a.gradient, a.control, a.weight);
  inner_->Adamw(stream, a);
}

void SplitMemoryBackend::DoOrderedSum(Stream& stream, const OrderedSumArgs& args) {
  OrderedSumArgs a = args;
  for (TensorView& input : a.inputs) Translate(input);
  Translate(a.out);
  inner_->OrderedSum(stream, a);
}

void SplitMemoryBackend::DoColumnSum(Stream& stream, const ColumnSumArgs& args) {
  ColumnSumArgs a = args;
  Translate(a.input, a.out, a.workspace);
  inner_->ColumnSum(stream, a);
}

void SplitMemoryBackend::DoAddFixedPoint(Stream& stream, const FixedPointSumArgs& args) {
  FixedPointSumArgs a = args;
  Translate(a.input, a.sum);
  inner_->AddFixedPoint(stream, a);
}

void SplitMemoryBackend::DoClip(Stream& stream, const ClipArgs& args) {
  ClipArgs a = args;
  Translate(a.sum, a.losses, a.norm, a.control);
  inner_->Clip(stream, a);
}

void SplitMemoryBackend::DoCopy(Stream& stream, const CopyArgs& args) {
  inner_->Copy(stream, {.source = device_.Usable(args.source, true),
                        .destination = device_.Usable(args.destination, true)});
}

void SplitMemoryBackend::DoZero(Stream& stream, const ZeroArgs& args) {
  ZeroArgs a = args;
  Translate(a.destination);
  inner_->Zero(stream, a);
}

void SplitMemoryBackend::DoCast(Stream& stream, const CastArgs& args) {
  CastArgs a = args;
  Translate(a.source, a.destination);
  inner_->Cast(stream, a);
}

}  // namespace hearth::test
