// From `model.name_or_path` to a ModelConfig.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "runtime/config/yaml_document.h"
#include "runtime/model/model_config.h"

namespace hearth {

struct LoadedModel {
  ModelConfig config;
  std::filesystem::path config_file;               // the file that was read
  std::optional<std::filesystem::path> hf_folder;  // of config.json; null for a shape
  bool has_weights = false;                        // the folder has safetensors
};

// `name_or_path` is a local Hugging Face folder, a config.json, or a shape (.yaml: the model's
// fields under their Hugging Face names); looked up as FindConfigFile does. Nothing is ever
// downloaded. ConfigError "FILE:LINE:COLUMN: error: ..." for everything that is wrong with it.
LoadedModel LoadModel(const std::string& name_or_path, const std::string& installed_configs);

// The model of a shape file.
ModelConfig ParseShape(const YamlDocument& document);

}  // namespace hearth
