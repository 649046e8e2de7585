// What a file or folder that Hearth wrote contains, for people; and checkpoints as plain models.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/model/model_config.h"

namespace hearth {

// A few lines, or one for each tensor: of a checkpoint (every byte is verified), an output folder
// (its checkpoints), a safetensors file, a Hugging Face folder or a token file. Text from files is
// printed without control characters. ConfigError where the path is none of these, IoError where it
// is damaged.
std::string Inspect(const std::filesystem::path& path);

// Writes a checkpoint's master weights as a Hugging Face folder (see ExportHf), after every byte of
// the checkpoint is verified. Needs memory for a piece of a tensor, no training state.
void ExportCheckpoint(const std::filesystem::path& checkpoint, const std::filesystem::path& folder,
                      WeightDType weight_dtype = WeightDType::kBF16);

// Whether the folder is a checkpoint's.
bool IsCheckpoint(const std::filesystem::path& folder);

}  // namespace hearth
