// Writes a model as a Hugging Face folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "runtime/model/model_spec.h"

namespace hearth {

struct HfExportOptions {
  std::filesystem::path folder;
  WeightDType weight_dtype = WeightDType::kBF16;  // or kF32
  int64_t max_shard_bytes = 5'000'000'000;        // a larger tensor gets a file of its own
  // Where tokenizer files and generation_config.json are copied from, as far as they are there.
  std::optional<std::filesystem::path> tokenizer_folder;
  bool sync = true;  // wait until the disk has everything before the folder gets its name
};

// A run of logical elements of one parameter.
struct ExportPiece {
  int parameter = 0;  // index in ModelSpec::parameters
  int64_t begin = 0;
  int64_t count = 0;
};

// The pieces in the order in which an export reads them, each at most kExportPieceElements. Ranks
// that hold parts of the weights go through the same list.
constexpr int64_t kExportPieceElements = int64_t{1} << 22;
std::vector<ExportPiece> ExportPieces(const ModelSpec& spec);

// Fills `out` (piece.count values) with the piece's weights.
using ExportReader = std::function<void(const ExportPiece& piece, std::span<float> out)>;

// Writes config.json, generation_config.json, the tokenizer's files and the weights, rounded to
// nearest: model.safetensors, or model-0000k-of-0000n.safetensors with an index. The bytes depend
// on the weights, the model and the options only. Everything is written beside the folder first and
// then takes its name; an earlier export of that name is replaced. IoError when the disk refuses,
// ConfigError when the name belongs to anything but an earlier export.
void ExportHf(const ModelSpec& spec, const HfExportOptions& options, const ExportReader& read);

}  // namespace hearth
