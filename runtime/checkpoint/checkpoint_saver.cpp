#include "runtime/checkpoint/checkpoint_saver.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "kernels/core/check.h"
#include "kernels/core/log.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/model/hf_config.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;
// Manifest, headers and what the file system needs for itself.
constexpr int64_t kReserveBytes = int64_t{8} << 20;

SafetensorsDType ToSafetensors(DType type) {
  return type == DType::kF32 ? SafetensorsDType::kF32 : SafetensorsDType::kBF16;
}

// A safetensors file whose hash is known once it is written.
class HashedFile {
 public:
  HashedFile(const std::filesystem::path& file, const std::vector<SafetensorsEntry>& entries)
      : writer_(file, entries, {}) {
    // The header, as the writer made it.
    const std::string header = ReadTextFile(file, kMaxSafetensorsHeader);
    Count(std::as_bytes(std::span(header)));
  }

  void Append(std::span<const std::byte> bytes) {
    writer_.Append(bytes);
    Count(bytes);
  }
  void Finish() { writer_.Finish(/*sync=*/true); }
  int64_t bytes() const { return bytes_; }
  Hash128 Digest() const { return hash_.Digest(); }

 private:
  void Count(std::span<const std::byte> bytes) {
    hash_.Update(bytes);
    bytes_ += static_cast<int64_t>(bytes.size());
  }

  SafetensorsWriter writer_;
  StreamingHash128 hash_;
  int64_t bytes_ = 0;
};

}  // namespace

CheckpointPart PartOf(const Plan& plan, const ModelSpec& spec, int rank) {
  CheckpointPart part{.file = fmt::format("state-rank-{:05}.safetensors", rank)};
  if (!plan.Saves(rank)) return part;
  for (int k = 0; k < kStateKindCount; ++k) {
    const auto kind = static_cast<StateKind>(k);
    for (size_t unit = 0; unit < spec.units.size(); ++unit) {
      const ElementRange shard = plan.Shard(spec.units[unit], rank);
      for (const ParameterPiece& piece : PiecesOf(spec, static_cast<int>(unit), shard)) {
        part.tensors.push_back(
            {.unit = static_cast<int>(unit),
             .kind = kind,
             .unit_begin = shard.begin + piece.range_begin,
             .parameter = static_cast<size_t>(piece.parameter - spec.parameters.data()),
             .piece = {.file = 0,
                       .tensor = fmt::format("{}.{}", piece.parameter->name, Name(kind)),
                       .begin = piece.first_element,
                       .count = piece.count}});
        part.bytes += piece.count * SizeOf(TypeOf(plan.state_types, kind));
      }
    }
  }
  return part;
}

CheckpointSaver::CheckpointSaver(CheckpointSaverOptions options, Bootstrap& bootstrap,
                                 const RankMemory& memory, const OptimizerStore& optimizer,
                                 StateDownload download)
    : options_(std::move(options)),
      bootstrap_(bootstrap),
      memory_(memory),
      optimizer_(optimizer),
      download_(std::move(download)),
      part_(PartOf(memory.plan, memory.spec, memory.rank)) {
  if (!options_.async) return;
  const MemoryLayout& layout = memory.layout;
  CHECK(layout.save_copy_bytes >= part_.bytes, "a copy of {} bytes, planned {}", part_.bytes,
        layout.save_copy_bytes);
  const TensorView copy = memory.host.View(layout.save_copy, DType::kU8, {layout.save_copy_bytes});
  snapshot_ = {static_cast<std::byte*>(copy.data()), static_cast<size_t>(copy.bytes())};
}

CheckpointSaver::~CheckpointSaver() {
  if (writer_.joinable()) writer_.join();
}

void CheckpointSaver::WriteText(const char* name, const std::string& text) {
  WriteDurably(folder_ / name, text);
  texts_.push_back(
      {.name = name, .bytes = static_cast<int64_t>(text.size()), .hash = Xxh3Hash128(text)});
}

std::string CheckpointSaver::Prepare(int64_t step, const std::string& matmuls) {
  try {
    folder_ = MakeUnfinishedFolder(options_.output_dir, step);
    int64_t bytes = kReserveBytes;
    for (int rank = 0; rank < memory_.plan.world; ++rank) {
      bytes += PartOf(memory_.plan, memory_.spec, rank).bytes;
    }
    RequireFreeSpace(folder_, bytes);
    texts_.clear();
    WriteText(kCheckpointModelName, HfConfigText(memory_.spec.config, WeightDType::kBF16));
    if (!matmuls.empty()) WriteText(kCheckpointMatmulsName, matmuls);
    return "";
  } catch (const IoError& error) {
    return error.what();
  }
}

void CheckpointSaver::Start(const CheckpointInfo& info, const std::string& matmuls) {
  CHECK(!active_, "a save of step {} began within that of step {}", info.step, info_.step);
  active_ = true;
  info_ = info;
  result_ = {};
  written_ = false;
  // "ok" or an error, then the folder's path, which only rank 0 makes.
  std::string error;
  if (memory_.rank == 0) error = Prepare(info.step, matmuls);
  error_ = ToText(bootstrap_.Broadcast(ToBytes(error), 0));
  folder_ = ToText(bootstrap_.Broadcast(ToBytes(folder_.string()), 0));
  if (!error_.empty()) {
    written_ = true;
  } else if (options_.async) {
    Snapshot();
    writer_ = std::thread([this] { WriteSnapshot(); });
  } else {
    WriteStreaming();
  }
}

TensorView CheckpointSaver::View(const CheckpointPart::Tensor& tensor, int64_t first,
                                 int64_t count) const {
  const UnitSpec& unit = memory_.spec.units[static_cast<size_t>(tensor.unit)];
  const ElementRange updated = memory_.plan.Updated(unit, memory_.rank);
  return optimizer_.Home(tensor.unit, tensor.kind)
      .Rows(tensor.unit_begin - updated.begin + first, count);
}

void CheckpointSaver::Snapshot() {
  std::byte* to = snapshot_.data();
  for (const CheckpointPart::Tensor& tensor : part_.tensors) {
    const TensorView view = View(tensor, 0, tensor.piece.count);
    download_(view, to);
    to += view.bytes();
    if (options_.progress) options_.progress();
  }
}

CheckpointSaver::Result CheckpointSaver::WritePart(
    const std::function<std::span<const std::byte>(const CheckpointPart::Tensor&, int64_t first,
                                                   int64_t count)>& read) const {
  if (part_.tensors.empty()) return {};
  std::vector<SafetensorsEntry> entries;
  for (const CheckpointPart::Tensor& tensor : part_.tensors) {
    entries.push_back({.name = tensor.piece.tensor,
                       .dtype = ToSafetensors(optimizer_.Type(tensor.kind)),
                       .shape = {tensor.piece.count}});
  }
  HashedFile file(folder_ / part_.file, entries);
  for (const CheckpointPart::Tensor& tensor : part_.tensors) {
    const int64_t step = kPieceBytes / SizeOf(optimizer_.Type(tensor.kind));
    for (int64_t first = 0; first < tensor.piece.count; first += step) {
      file.Append(read(tensor, first, std::min(step, tensor.piece.count - first)));
    }
  }
  file.Finish();
  return {.bytes = file.bytes(), .hash = file.Digest()};
}

void CheckpointSaver::WriteStreaming() {
  std::vector<std::byte> buffer(static_cast<size_t>(kPieceBytes));
  try {
    result_ = WritePart([&](const CheckpointPart::Tensor& tensor, int64_t first, int64_t count) {
      const TensorView view = View(tensor, first, count);
      download_(view, buffer.data());
      if (options_.progress) options_.progress();
      return std::span<const std::byte>(buffer).first(static_cast<size_t>(view.bytes()));
    });
  } catch (const IoError& error) {
    result_ = {.error = error.what()};
  }
  written_ = true;
}

void CheckpointSaver::WriteSnapshot() {
  size_t at = 0;
  try {
    result_ = WritePart([&](const CheckpointPart::Tensor& tensor, int64_t, int64_t count) {
      const auto bytes = static_cast<size_t>(count * SizeOf(optimizer_.Type(tensor.kind)));
      at += bytes;
      return std::span<const std::byte>(snapshot_.subspan(at - bytes, bytes));
    });
  } catch (const std::exception& error) {
    result_ = {.error = error.what()};
  }
  written_.store(true, std::memory_order_release);
}

std::vector<CheckpointSaver::Result> CheckpointSaver::ExchangeResults() {
  Bytes mine(sizeof(int64_t) + sizeof(Hash128));
  std::memcpy(mine.data(), &result_.bytes, sizeof(int64_t));
  std::memcpy(mine.data() + sizeof(int64_t), &result_.hash, sizeof(Hash128));
  const Bytes error = ToBytes(result_.error);
  mine.insert(mine.end(), error.begin(), error.end());
  std::vector<Result> results;
  for (const Bytes& theirs : bootstrap_.AllGather(mine)) {
    constexpr size_t kFixed = sizeof(int64_t) + sizeof(Hash128);
    CHECK(theirs.size() >= kFixed, "a result of {} bytes", theirs.size());
    Result result;
    std::memcpy(&result.bytes, theirs.data(), sizeof(int64_t));
    std::memcpy(&result.hash, theirs.data() + sizeof(int64_t), sizeof(Hash128));
    result.error = ToText(std::span(theirs).subspan(kFixed));
    results.push_back(std::move(result));
  }
  return results;
}

CheckpointManifest CheckpointSaver::MakeManifest(const std::vector<Result>& results) const {
  CheckpointManifest manifest{.info = info_, .files = texts_};
  for (const ParameterSpec& parameter : memory_.spec.parameters) {
    CheckpointParameter entry{.name = parameter.name};
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) {
      entry.shape.push_back(parameter.shape[axis]);
    }
    manifest.parameters.push_back(std::move(entry));
  }
  for (int rank = 0; rank < memory_.plan.world; ++rank) {
    CheckpointPart part = PartOf(memory_.plan, memory_.spec, rank);
    if (part.tensors.empty()) continue;
    const Result& result = results[static_cast<size_t>(rank)];
    const auto file = static_cast<int>(manifest.files.size());
    manifest.files.push_back({.name = part.file, .bytes = result.bytes, .hash = result.hash});
    for (CheckpointPart::Tensor& tensor : part.tensors) {
      tensor.piece.file = file;
      manifest.parameters[tensor.parameter].pieces[static_cast<size_t>(tensor.kind)].push_back(
          std::move(tensor.piece));
    }
  }
  return manifest;
}

std::string CheckpointSaver::Publish(const std::vector<Result>& results) {
  try {
    WriteDurably(folder_ / kManifestName, ManifestText(MakeManifest(results)));
    PublishCheckpoint(folder_, options_.output_dir, info_.step);
  } catch (const IoError& error) {
    return error.what();
  }
  try {
    if (options_.total_limit) {
      RemoveOldCheckpoints(options_.output_dir, info_.step, *options_.total_limit);
    }
  } catch (const IoError& error) {
    LogWarning(error.what());
  }
  return "";
}

std::string CheckpointSaver::Finish() {
  CHECK(active_, "no save to finish after that of step {}", info_.step);
  if (writer_.joinable()) writer_.join();
  const std::vector<Result> results = ExchangeResults();
  std::string error = error_;
  for (size_t rank = 0; rank < results.size() && error.empty(); ++rank) {
    error = results[rank].error;
  }
  if (memory_.rank == 0 && error.empty()) error = Publish(results);
  if (memory_.rank == 0 && !error.empty()) {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  active_ = false;
  return ToText(bootstrap_.Broadcast(ToBytes(error), 0));
}

}  // namespace hearth
