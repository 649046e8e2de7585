#include "runtime/model/load_model.h"

#include <fmt/format.h>

#include "kernels/core/error.h"
#include "runtime/config/config_paths.h"
#include "runtime/config/scalar_text.h"
#include "runtime/model/hf_config.h"
#include "runtime/model/json_reader.h"
#include "runtime/model/weight_source.h"

namespace hearth {

namespace {

// The same tree as JSON, so that a shape and a config.json are read by one function.
JsonValue ToJson(const YamlDocument& document, const YamlNode& node) {
  JsonValue value;
  value.line = node.mark.line;
  value.column = node.mark.column;
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      break;
    case YamlNode::Kind::kSequence:
      value.kind = JsonValue::Kind::kArray;
      for (const YamlNode& item : node.items) value.items.push_back(ToJson(document, item));
      break;
    case YamlNode::Kind::kMap:
      value.kind = JsonValue::Kind::kObject;
      for (const YamlEntry& entry : node.entries) {
        value.members.emplace(entry.key, ToJson(document, entry.value));
      }
      break;
    case YamlNode::Kind::kScalar: {
      const bool plain = !node.quoted;
      const std::string_view numeric = "+-.0123456789";
      if (plain && (node.text == "true" || node.text == "false")) {
        value.kind = JsonValue::Kind::kBool;
        value.boolean = node.text == "true";
      } else if (const Parsed<int64_t> integer = ParseInteger(node.text); plain && integer.value) {
        value.kind = JsonValue::Kind::kInteger;
        value.integer = *integer.value;
        value.real = static_cast<double>(*integer.value);
      } else if (plain && !node.text.empty() &&
                 numeric.find(node.text.front()) != std::string_view::npos) {
        value.kind = JsonValue::Kind::kReal;
        value.real = document.Number(node, "a number", NumberRange{});
      } else {
        value.kind = JsonValue::Kind::kString;
        value.string = node.text;
      }
      break;
    }
  }
  return value;
}

bool IsYaml(const std::filesystem::path& path) {
  return path.extension() == ".yaml" || path.extension() == ".yml";
}

LoadedModel LoadFolder(const std::filesystem::path& folder) {
  LoadedModel model;
  model.config_file = folder / "config.json";
  if (!std::filesystem::exists(model.config_file)) {
    throw ConfigError(fmt::format(
        "{}: error: the folder has no config.json; give a Hugging Face model's folder or a shape "
        "such as configs/models/qwen2.5-1.5b.yaml",
        folder.string()));
  }
  model.config = ReadHfConfig(model.config_file);
  model.hf_folder = folder;
  model.has_weights = HasSafetensorsWeights(folder);
  const bool pickled = std::filesystem::exists(folder / "pytorch_model.bin") ||
                       std::filesystem::exists(folder / "pytorch_model.bin.index.json");
  if (!model.has_weights && pickled) {
    throw ConfigError(
        fmt::format("{}: error: the weights are in PyTorch's .bin format, which is not read; save "
                    "them again as "
                    "safetensors",
                    folder.string()));
  }
  return model;
}

}  // namespace

ModelConfig ParseShape(const YamlDocument& document) {
  document.CheckKeys(document.root(), "the shape", ModelFieldNames(), {"model_type"});
  return ParseHfConfig(JsonDocument(ToJson(document, document.root()), document.file_name()));
}

LoadedModel LoadModel(const std::string& name_or_path, const std::string& installed_configs) {
  const std::optional<std::filesystem::path> found =
      FindConfigFile(name_or_path, installed_configs);
  if (!found) {
    throw ConfigError(
        fmt::format("{}: error: there is no such file or folder; give a local Hugging Face folder "
                    "or a shape such "
                    "as configs/models/qwen2.5-1.5b.yaml (nothing is downloaded)",
                    name_or_path));
  }
  if (std::filesystem::is_directory(*found)) return LoadFolder(*found);
  LoadedModel model;
  model.config_file = *found;
  if (IsYaml(*found)) {
    model.config =
        ParseShape(YamlDocument::Parse(ReadConfigText(*found, name_or_path), name_or_path));
    return model;
  }
  if (found->extension() == ".json") {
    model.config = ReadHfConfig(*found);
    return model;
  }
  throw ConfigError(fmt::format(
      "{}: error: a model is a Hugging Face folder, a config.json or a shape ending in .yaml",
      name_or_path));
}

}  // namespace hearth
