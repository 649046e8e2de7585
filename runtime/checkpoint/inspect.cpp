#include "runtime/checkpoint/inspect.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/error.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/model/hf_export.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

std::string DescribeInfo(const CheckpointInfo& info) {
  std::string text;
  const auto line = [&](std::string_view key, const auto& value) {
    text += fmt::format("{:<20}{}\n", key, value);
  };
  line("step", info.step);
  line("written by", fmt::format("Hearth {}, {} ranks", OneLine(info.hearth_version), info.world));
  line("skipped steps", info.skipped_steps);
  line("seed, data_seed", fmt::format("{}, {}", info.seed, info.data_seed));
  line("batch", fmt::format("{} sequences of {} tokens, {} at a time", info.global_batch_size,
                            info.sequence_len, info.numeric.micro_batch_size));
  line("reduction_order", EnumName(info.numeric.reduction_order));
  line("head_slab_tokens", info.numeric.head_slab_tokens);
  line("master, m, v",
       fmt::format("{}, {}, {}", Name(info.types.master), Name(info.types.m), Name(info.types.v)));
  line("configuration", ToHex(info.config_hash));
  for (const ShardHash& shard : info.shards) {
    line("data",
         fmt::format("{} ({} bytes, {})", OneLine(shard.file), shard.bytes, ToHex(shard.hash)));
  }
  return text;
}

std::string DescribeCheckpoint(const std::filesystem::path& folder) {
  const Checkpoint checkpoint(folder);
  const CheckpointManifest& manifest = checkpoint.manifest();
  std::string text = "checkpoint\n" + DescribeInfo(manifest.info);
  for (size_t i = 0; i < manifest.files.size(); ++i) {
    checkpoint.VerifyFile(i);
    const CheckpointFile& file = manifest.files[i];
    text += fmt::format("{:<20}{} ({} bytes, {}, verified)\n", "file", file.name, file.bytes,
                        ToHex(file.hash));
  }
  int64_t elements = 0;
  for (const CheckpointParameter& parameter : manifest.parameters) {
    int64_t own = 1;
    for (int64_t extent : parameter.shape) own *= extent;
    elements += own;
    text += fmt::format("{:<32}[{}] in {} pieces\n", OneLine(parameter.name),
                        fmt::join(parameter.shape, ", "), parameter.pieces.front().size());
  }
  return text + fmt::format("{} parameters in {} tensors\n", elements, manifest.parameters.size());
}

std::string DescribeSafetensors(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  std::string text = fmt::format("safetensors, {} tensors\n", file.tensors().size());
  for (const auto& [key, value] : file.metadata()) {
    text += fmt::format("{}: {}\n", OneLine(key), OneLine(value));
  }
  for (const SafetensorsTensor& tensor : file.tensors()) {
    text += fmt::format("{:<56}{:<8}[{}]\n", OneLine(tensor.name), Name(tensor.dtype),
                        fmt::join(tensor.shape, ", "));
  }
  return text;
}

std::string DescribeTokens(const std::filesystem::path& path) {
  const auto file = TokenFile::Open(path.string());
  std::string text = fmt::format("token file, {} tokens\n", file->token_count());
  if (file->vocab_size() > 0) text += fmt::format("vocabulary {}\n", file->vocab_size());
  if (!file->tokenizer_name().empty()) {
    text += fmt::format("tokenizer {}\n", OneLine(file->tokenizer_name()));
  }
  if (file->has_documents()) text += fmt::format("{} documents\n", file->DocumentStarts().size());
  if (file->has_loss_mask()) text += "with a loss mask\n";
  if (file->sample_tokens() > 0) {
    text += fmt::format("samples packed to {} tokens\n", file->sample_tokens());
  }
  file->Verify();
  for (const ShardHash& shard : file->ShardHashes()) {
    text += fmt::format("{} ({} bytes, {}, verified)\n", OneLine(shard.file), shard.bytes,
                        ToHex(shard.hash));
  }
  return text;
}

std::string DescribeFolder(const std::filesystem::path& folder) {
  std::string text;
  for (int64_t step : CheckpointSteps(folder)) {
    std::string state = "readable";
    try {
      const Checkpoint checkpoint(folder / CheckpointName(step));
    } catch (const IoError& error) {
      state = error.what();
    }
    text += fmt::format("{}: {}\n", CheckpointName(step), state);
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const std::filesystem::path& file : files) {
    text += OneLine(file.filename().string()) + ": " + DescribeSafetensors(file);
  }
  if (!text.empty()) return text;
  throw ConfigError(
      fmt::format("{}: error: there is no checkpoint and no safetensors file in it; name a "
                  "checkpoint, an output_dir, a model's folder or a file",
                  folder.string()));
}

}  // namespace

bool IsCheckpoint(const std::filesystem::path& folder) {
  std::error_code error;
  return std::filesystem::is_regular_file(folder / kManifestName, error);
}

std::string Inspect(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    throw ConfigError(fmt::format("{}: error: there is no such file or folder", path.string()));
  }
  if (IsCheckpoint(path)) return DescribeCheckpoint(path);
  if (std::filesystem::is_directory(path, error)) return DescribeFolder(path);
  if (path.extension() == ".safetensors") return DescribeSafetensors(path);
  return DescribeTokens(path);
}

void ExportCheckpoint(const std::filesystem::path& checkpoint, const std::filesystem::path& folder,
                      WeightDType weight_dtype) {
  if (!IsCheckpoint(checkpoint)) {
    throw ConfigError(
        fmt::format("{}: error: this is no checkpoint's folder; name one, such as "
                    "runs/NAME/checkpoint-100",
                    checkpoint.string()));
  }
  const Checkpoint source(checkpoint);
  const CheckpointManifest& manifest = source.manifest();
  for (size_t i = 0; i < manifest.files.size(); ++i) source.VerifyFile(i);
  HfExportOptions options{.folder = folder, .weight_dtype = weight_dtype};
  std::error_code error;
  if (!manifest.info.model_folder.empty() &&
      std::filesystem::is_directory(manifest.info.model_folder, error)) {
    options.tokenizer_folder = manifest.info.model_folder;
  }
  ExportHf(source.ReadModel(), options, [&](const ExportPiece& piece, std::span<float> out) {
    source.ReadMaster(static_cast<size_t>(piece.parameter), piece.begin, out);
  });
}

}  // namespace hearth
