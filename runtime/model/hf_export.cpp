#include "runtime/model/hf_export.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels/core/bfloat16.h"
#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/model/hf_config.h"
#include "runtime/model/json_reader.h"
#include "runtime/model/safetensors.h"

namespace hearth {

namespace {

constexpr std::array<std::string_view, 11> kCopiedFiles = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "vocab.txt",
    "generation_config.json",
};
constexpr int64_t kMaxCopiedBytes = int64_t{1} << 30;
// Marks our own files, so that only they are ever replaced; "format" is what transformers asks for.
const std::map<std::string, std::string> kMetadata = {{"format", "pt"}, {"producer", "hearth"}};

[[noreturn]] void FailDisk(const std::filesystem::path& path, std::string_view what, int error) {
  throw IoError(fmt::format("{}: error: {} ({}); free space or choose another place", path.string(),
                            what, std::strerror(error)));
}

void Sync(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) FailDisk(path, "cannot be opened", errno);
  const bool synced = ::fsync(descriptor) == 0;
  const int error = errno;
  ::close(descriptor);
  if (!synced) FailDisk(path, "cannot be written to disk", error);
}

void WriteTextFile(const std::filesystem::path& path, std::string_view text, bool sync) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  out.close();
  if (!out) FailDisk(path, "writing failed", errno);
  if (sync) Sync(path);
}

struct Shard {
  std::vector<SafetensorsEntry> entries;
  int64_t bytes = 0;
};

// Tensors in the order of the spec, a new file whenever the next one would exceed the limit.
std::vector<Shard> PlanShards(const ModelSpec& spec, const HfExportOptions& options) {
  const SafetensorsDType dtype =
      options.weight_dtype == WeightDType::kF32 ? SafetensorsDType::kF32 : SafetensorsDType::kBF16;
  std::vector<Shard> shards(1);
  for (const ParameterSpec& parameter : spec.parameters) {
    for (const HfSource& source : parameter.sources) {
      SafetensorsEntry entry{.name = source.name, .dtype = dtype, .shape = {}};
      for (int axis = 0; axis < source.shape.rank(); ++axis) {
        entry.shape.push_back(source.shape[axis]);
      }
      const int64_t bytes = entry.bytes();
      if (shards.back().bytes > 0 && shards.back().bytes + bytes > options.max_shard_bytes) {
        shards.emplace_back();
      }
      shards.back().bytes += bytes;
      shards.back().entries.push_back(std::move(entry));
    }
  }
  return shards;
}

std::string ShardName(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

std::string IndexText(const std::vector<Shard>& shards) {
  nlohmann::json weight_map;  // sorted by name
  int64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const SafetensorsEntry& entry : shards[i].entries) {
      weight_map[entry.name] = ShardName(i, shards.size());
    }
    total += shards[i].bytes;
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  return index.dump(2) + "\n";
}

void AppendFloats(SafetensorsWriter& writer, std::span<const float> values, WeightDType dtype,
                  std::vector<BFloat16>& rounded) {
  if (dtype == WeightDType::kF32) {
    writer.Append(std::as_bytes(values));
    return;
  }
  rounded.resize(values.size());
  std::ranges::transform(values, rounded.begin(), [](float value) { return ToBFloat16(value); });
  writer.Append(std::as_bytes(std::span(rounded)));
}

void WriteWeights(const ModelSpec& spec, const HfExportOptions& options,
                  const std::filesystem::path& folder, const ExportReader& read) {
  const std::vector<Shard> shards = PlanShards(spec, options);
  const std::vector<ExportPiece> pieces = ExportPieces(spec);
  std::vector<float> values;
  std::vector<BFloat16> rounded;
  size_t next_piece = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    SafetensorsWriter writer(folder / ShardName(i, shards.size()), shards[i].entries, kMetadata);
    int64_t missing = shards[i].bytes / SizeOf(shards[i].entries.front().dtype);
    // No piece crosses from one Hugging Face tensor into the next, hence none crosses shards.
    while (missing > 0) {
      const ExportPiece& piece = pieces[next_piece++];
      values.resize(static_cast<size_t>(piece.count));
      read(piece, values);
      AppendFloats(writer, values, options.weight_dtype, rounded);
      missing -= piece.count;
    }
    writer.Finish(options.sync);
  }
  if (shards.size() > 1) {
    WriteTextFile(folder / "model.safetensors.index.json", IndexText(shards), options.sync);
  }
}

void WriteSmallFiles(const ModelSpec& spec, const HfExportOptions& options,
                     const std::filesystem::path& folder) {
  WriteTextFile(folder / "config.json", HfConfigText(spec.config, options.weight_dtype),
                options.sync);
  WriteTextFile(folder / "generation_config.json", HfGenerationConfigText(spec.config),
                options.sync);
  if (!options.tokenizer_folder) return;
  for (std::string_view name : kCopiedFiles) {
    const std::filesystem::path source = *options.tokenizer_folder / name;
    if (!std::filesystem::exists(source)) continue;
    WriteTextFile(folder / name, ReadTextFile(source, kMaxCopiedBytes), options.sync);
  }
}

// Only what an earlier export wrote may be replaced.
void RequireReplaceable(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(std::filesystem::symlink_status(folder))) return;
  bool ours = std::filesystem::is_directory(folder);
  if (ours && std::filesystem::is_empty(folder)) return;
  bool has_weights = false;
  if (ours) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() != ".safetensors") continue;
      const SafetensorsFile file(entry.path());
      const auto producer = file.metadata().find("producer");
      has_weights = true;
      ours = ours && producer != file.metadata().end() && producer->second == "hearth";
    }
  }
  if (ours && has_weights) return;
  throw ConfigError(fmt::format(
      "{}: error: this exists and is not an earlier export; remove it or choose another folder",
      folder.string()));
}

// The finished folder takes its name in one step. Where the file system cannot swap two names,
// the earlier export is moved aside first.
void PublishFolder(const std::filesystem::path& finished, const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder)) {
    std::filesystem::rename(finished, folder);
    return;
  }
  if (::renameat2(AT_FDCWD, finished.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) {
    std::filesystem::remove_all(finished);
    return;
  }
  std::filesystem::path aside = finished;
  aside += ".old";
  std::filesystem::remove_all(aside);
  std::filesystem::rename(folder, aside);
  std::filesystem::rename(finished, folder);
  std::filesystem::remove_all(aside);
}

}  // namespace

std::vector<ExportPiece> ExportPieces(const ModelSpec& spec) {
  std::vector<ExportPiece> pieces;
  for (size_t i = 0; i < spec.parameters.size(); ++i) {
    const ParameterSpec& parameter = spec.parameters[i];
    for (const HfSource& source : parameter.sources) {
      int64_t begin = source.row_begin * parameter.columns();
      const int64_t end = begin + source.shape.elements();
      for (; begin < end; begin += kExportPieceElements) {
        pieces.push_back({.parameter = static_cast<int>(i),
                          .begin = begin,
                          .count = std::min(kExportPieceElements, end - begin)});
      }
    }
  }
  return pieces;
}

void ExportHf(const ModelSpec& spec, const HfExportOptions& options, const ExportReader& read) {
  CHECK(options.weight_dtype == WeightDType::kBF16 || options.weight_dtype == WeightDType::kF32,
        "exports are bf16 or fp32");
  CHECK(options.max_shard_bytes > 0, "shards of at most {} bytes", options.max_shard_bytes);
  std::filesystem::path folder = std::filesystem::absolute(options.folder).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  try {
    RequireReplaceable(folder);
    const std::filesystem::path unfinished =
        folder.parent_path() / fmt::format(".{}.unfinished", folder.filename().string());
    std::filesystem::remove_all(unfinished);
    std::filesystem::create_directories(unfinished);
    WriteSmallFiles(spec, options, unfinished);
    WriteWeights(spec, options, unfinished, read);
    if (options.sync) Sync(unfinished);
    PublishFolder(unfinished, folder);
    if (options.sync) Sync(folder.parent_path());
  } catch (const std::filesystem::filesystem_error& error) {
    FailDisk(options.folder, "cannot be written", error.code().value());
  }
}

}  // namespace hearth
