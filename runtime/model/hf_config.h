// Hugging Face's config.json, both layouts: what transformers 4 writes (rope_theta, rope_scaling
// and torch_dtype at top level) and what transformers 5 writes (rope_parameters and dtype).
//
// A field that would change the result and is not supported is refused by name; so is a field that
// is not known at all, unless it is null or false. Absent fields take the value that transformers'
// class for the family gives them; the sizes and the RoPE base must be there.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "runtime/model/json_reader.h"
#include "runtime/model/model_config.h"

namespace hearth {

// ConfigError "FILE:LINE:COLUMN: error: ..." for what is wrong or not supported, IoError when the
// file cannot be read.
ModelConfig ReadHfConfig(const std::filesystem::path& config_json);
ModelConfig ParseHfConfig(const JsonDocument& document);

// The names of all fields that decide what a model is; what a shape file may contain.
const std::vector<std::string_view>& ModelFieldNames();

// config.json and generation_config.json for weights of type `weight_dtype`: bytes that depend on
// the arguments only, in the layout of transformers 4, which transformers 5 reads too.
std::string HfConfigText(const ModelConfig& config, WeightDType weight_dtype);
std::string HfGenerationConfigText(const ModelConfig& config);

// "float32", "bfloat16", "float16": torch's name.
std::string_view TorchName(WeightDType dtype);

}  // namespace hearth
