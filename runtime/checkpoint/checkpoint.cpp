#include "runtime/checkpoint/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/core/check.h"
#include "kernels/core/worker_pool.h"
#include "runtime/model/hf_config.h"

namespace hearth {

namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;
constexpr int64_t kVerifiedPieceBytes = int64_t{1} << 20;
// Elements of state between two ticks, and those that a thread reads at a time.
constexpr int64_t kRoundElements = int64_t{1} << 24;
constexpr WorkerPool::PartSize kPart{.least = int64_t{1} << 14, .most = int64_t{1} << 18};

SafetensorsDType ToSafetensors(DType type) {
  return type == DType::kF32 ? SafetensorsDType::kF32 : SafetensorsDType::kBF16;
}

[[noreturn]] void Fail(const std::filesystem::path& file, std::string_view what) {
  throw IoError(fmt::format("{}: error: {}; use another checkpoint", file.string(), what));
}

// Closes with the object.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& file)
      : path_(file), descriptor_(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (descriptor_ < 0) Fail(path_, fmt::format("cannot be read ({})", std::strerror(errno)));
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile() { ::close(descriptor_); }

  // Bytes read; 0 at the end.
  size_t Read(std::span<std::byte> out) {
    while (true) {
      const ssize_t count = ::read(descriptor_, out.data(), out.size());
      if (count >= 0) return static_cast<size_t>(count);
      if (errno != EINTR) Fail(path_, fmt::format("cannot be read ({})", std::strerror(errno)));
    }
  }

  // Any thread.
  void ReadAt(int64_t offset, std::span<std::byte> out) const {
    while (!out.empty()) {
      const ssize_t count = ::pread(descriptor_, out.data(), out.size(), offset);
      if (count == 0) Fail(path_, fmt::format("ends at byte {}, while it is read", offset));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) Fail(path_, fmt::format("cannot be read ({})", std::strerror(errno)));
      out = out.subspan(static_cast<size_t>(count));
      offset += count;
    }
  }

 private:
  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace

Checkpoint::Checkpoint(const std::filesystem::path& folder)
    : folder_(folder), manifest_(ReadManifest(folder / kManifestName)) {
  for (const CheckpointFile& file : manifest_.files) {
    std::error_code error;
    const auto status = std::filesystem::symlink_status(folder_ / file.name, error);
    if (!std::filesystem::is_regular_file(status)) Fail(folder_ / file.name, "is missing");
    const auto bytes = std::filesystem::file_size(folder_ / file.name, error);
    if (error || bytes != static_cast<uintmax_t>(file.bytes)) {
      Fail(folder_ / file.name,
           fmt::format("has {} bytes, {} were written", error ? 0 : bytes, file.bytes));
    }
  }
}

// Threads read some pieces while one hashes those before them: a hash goes from front to back.
void Checkpoint::VerifyFile(size_t index, const VerifyOptions& options) const {
  const CheckpointFile& file = manifest_.files.at(index);
  const InputFile input(folder_ / file.name);
  WorkerPool pool(options.threads);
  std::array<std::vector<std::byte>, 2> buffers;
  for (auto& buffer : buffers) {
    buffer.resize(static_cast<size_t>(
        std::clamp<int64_t>(file.bytes, 1, kVerifiedPieceBytes * options.threads)));
  }
  StreamingHash128 hash;
  std::span<const std::byte> filled;
  for (int64_t begin = 0; begin < file.bytes || !filled.empty();) {
    std::swap(buffers[0], buffers[1]);
    const auto next = std::span(buffers[0])
                          .first(static_cast<size_t>(
                              std::min<int64_t>(std::ssize(buffers[0]), file.bytes - begin)));
    const int64_t pieces = DivUp(std::ssize(next), kVerifiedPieceBytes);
    pool.ForEachPart(1 + pieces, {}, [&](int64_t, int64_t task, int64_t) {
      if (task == 0) return hash.Update(filled);
      const auto first = static_cast<size_t>((task - 1) * kVerifiedPieceBytes);
      const auto count = std::min(next.size() - first, static_cast<size_t>(kVerifiedPieceBytes));
      input.ReadAt(begin + static_cast<int64_t>(first), next.subspan(first, count));
    });
    filled = next;
    begin += std::ssize(next);
    if (options.progress) options.progress();
  }
  if (hash.Digest() != file.hash) {
    Fail(folder_ / file.name, "its bytes do not have the hash they had when written");
  }
}

bool Checkpoint::Lists(std::string_view name) const {
  return std::any_of(manifest_.files.begin(), manifest_.files.end(),
                     [&](const CheckpointFile& file) { return file.name == name; });
}

std::string Checkpoint::ReadMatmulTable() const {
  std::string table;
  if (!Lists(kCheckpointMatmulsName)) return table;
  InputFile input(folder_ / kCheckpointMatmulsName);
  std::vector<std::byte> buffer(static_cast<size_t>(kPieceBytes));
  while (const size_t count = input.Read(buffer)) {
    table.append(reinterpret_cast<const char*>(buffer.data()), count);
  }
  return table;
}

ModelSpec Checkpoint::ReadModel() const {
  if (!Lists(kCheckpointModelName)) Fail(folder_, "it has no config.json");
  ModelSpec spec = BuildModelSpec(ReadHfConfig(folder_ / kCheckpointModelName));
  RequireModel(spec);
  return spec;
}

void Checkpoint::RequireModel(const ModelSpec& spec) const {
  const auto refuse = [&](const std::string& difference) {
    throw ConfigError(
        fmt::format("{}: error: this checkpoint is of another model: {}; name the model it was "
                    "trained with, or start with checkpoint.resume: none in another output_dir",
                    folder_.string(), difference));
  };
  const std::vector<CheckpointParameter>& saved = manifest_.parameters;
  if (saved.size() != spec.parameters.size()) {
    refuse(fmt::format("it has {} parameters, the model {}", saved.size(), spec.parameters.size()));
  }
  for (size_t i = 0; i < saved.size(); ++i) {
    const ParameterSpec& parameter = spec.parameters[i];
    std::vector<int64_t> shape;
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) {
      shape.push_back(parameter.shape[axis]);
    }
    if (saved[i].name == parameter.name && saved[i].shape == shape) continue;
    refuse(fmt::format("it has {} [{}] where the model has {} [{}]", OneLine(saved[i].name),
                       fmt::join(saved[i].shape, ", "), parameter.name, fmt::join(shape, ", ")));
  }
}

const SafetensorsFile& Checkpoint::Open(int file) const {
  std::lock_guard lock(mutex_);
  const auto found = open_.find(file);
  if (found != open_.end()) return found->second;
  const std::string& name = manifest_.files.at(static_cast<size_t>(file)).name;
  return open_.try_emplace(file, folder_ / name).first->second;
}

void Checkpoint::Read(size_t parameter, StateKind kind, int64_t begin,
                      std::span<std::byte> out) const {
  const DType type = TypeOf(manifest_.info.types, kind);
  const int64_t size = SizeOf(type);
  const int64_t end = begin + DivExact(static_cast<int64_t>(out.size()), size);
  int64_t filled = begin;
  for (const CheckpointPiece& piece :
       manifest_.parameters.at(parameter).pieces[static_cast<size_t>(kind)]) {
    const int64_t stop = std::min(end, piece.begin + piece.count);
    if (piece.begin > filled || stop <= filled) continue;
    const SafetensorsFile& file = Open(piece.file);
    const SafetensorsTensor* tensor = file.Find(piece.tensor);
    if (tensor == nullptr || tensor->dtype != ToSafetensors(type) ||
        tensor->elements() != piece.count) {
      Fail(file.path(), fmt::format("it lacks {} [{}] {} that its manifest names",
                                    OneLine(piece.tensor), piece.count, Name(type)));
    }
    file.ReadBytes(*tensor, (filled - piece.begin) * size,
                   out.subspan(static_cast<size_t>((filled - begin) * size),
                               static_cast<size_t>((stop - filled) * size)));
    filled = stop;
  }
  CHECK(filled == end, "elements {}..{} of parameter {}: read up to {}", begin, end, parameter,
        filled);
}

void Checkpoint::ReadMaster(size_t parameter, int64_t begin, std::span<float> out) const {
  if (manifest_.info.types.master == DType::kF32) {
    Read(parameter, StateKind::kMaster, begin, std::as_writable_bytes(out));
    return;
  }
  std::vector<BFloat16> stored(out.size());
  Read(parameter, StateKind::kMaster, begin, std::as_writable_bytes(std::span(stored)));
  std::transform(stored.begin(), stored.end(), out.begin(),
                 [](BFloat16 value) { return ToFloat(value); });
}

void LoadOptimizerState(const Checkpoint& checkpoint, const StateDestination& to) {
  const ModelSpec& spec = to.memory.spec;
  WorkerPool pool(to.threads);
  const auto load = [&](size_t parameter, StateKind kind, int64_t first, const TensorView& home) {
    const int64_t size = SizeOf(home.dtype());
    const auto read = [&](int64_t offset_bytes, std::span<std::byte> out) {
      pool.ForEachPart(DivExact(static_cast<int64_t>(out.size()), size), kPart,
                       [&](int64_t, int64_t begin, int64_t end) {
                         checkpoint.Read(parameter, kind, first + offset_bytes / size + begin,
                                         out.subspan(static_cast<size_t>(begin * size),
                                                     static_cast<size_t>((end - begin) * size)));
                       });
      to.tick();
    };
    to.transfer.Fill(home, read);
  };
  for (size_t unit = 0; unit < spec.units.size(); ++unit) {
    const int unit_index = static_cast<int>(unit);
    const ElementRange range = to.memory.plan.Updated(spec.units[unit], to.memory.rank);
    for (const ParameterPiece& piece : PiecesOf(spec, unit_index, range)) {
      const auto parameter = static_cast<size_t>(piece.parameter - spec.parameters.data());
      for (int k = 0; k < kStateKindCount; ++k) {
        const auto kind = static_cast<StateKind>(k);
        const TensorView home = to.optimizer.Home(unit_index, kind);
        for (int64_t done = 0; done < piece.count; done += kRoundElements) {
          load(parameter, kind, piece.first_element + done,
               home.Rows(piece.range_begin + done, std::min(kRoundElements, piece.count - done)));
        }
      }
    }
  }
}

}  // namespace hearth
