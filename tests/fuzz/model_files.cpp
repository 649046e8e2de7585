// Descriptions of models: config.json and shapes.
#include "runtime/config/yaml_document.h"
#include "runtime/model/hf_config.h"
#include "runtime/model/load_model.h"
#include "tests/fuzz/targets.h"

namespace hearth::test {

namespace {

// What is accepted is written as a config.json that describes the same model.
void RequireSameReadBack(const ModelConfig& config) {
  RunAccepted("its config.json is refused", [&] {
    const std::string text = HfConfigText(config, config.weight_dtype);
    Require(ParseHfConfig(JsonDocument::Parse(text, "config.json")) == config,
            "config.json describes another model");
    JsonDocument::Parse(HfGenerationConfigText(config), "generation_config.json");
  });
}

}  // namespace

int FuzzHfConfig(const uint8_t* data, size_t size) {
  return RunReader([&] {
    RequireSameReadBack(ParseHfConfig(JsonDocument::Parse(AsText(data, size), "config.json")));
  });
}

std::vector<std::string> HfConfigSeeds() {
  std::vector<std::string> seeds;
  for (const std::string& shape : YamlSourceFiles("configs/models")) {
    seeds.push_back(
        HfConfigText(ParseShape(YamlDocument::Parse(shape, "shape.yaml")), WeightDType::kBF16));
  }
  seeds.push_back(R"({"architectures": ["LlamaForCausalLM"], "vocab_size": 37, "hidden_size": 24,
 "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 6, "head_dim": 4,
 "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "eos_token_id": [1, 2], "dtype": "float32",
 "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1,
 "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, "_note": {"a": [null, true]},
 "layer_types": ["full_attention", "full_attention"], "pruned_heads": {}})");
  return seeds;
}

std::vector<std::string> HfConfigWords() {
  std::vector<std::string> words = StructureWords();
  for (std::string_view field : ModelFieldNames()) {
    words.push_back("\"" + std::string(field) + "\": ");
  }
  for (const char* word : {"\"llama3\"", "\"linear\"", "\"factor\": ", "\"full_attention\"",
                           "\"mistral\"", "\"qwen2\"", "\"qwen3\"", "\"llama\"", "\"float16\""}) {
    words.emplace_back(word);
  }
  return words;
}

int FuzzShape(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const ModelConfig config = ParseShape(YamlDocument::Parse(AsText(data, size), "shape.yaml"));
    if (IsInShare(AsText(data, size), 2)) RequireSameReadBack(config);
  });
}

std::vector<std::string> ShapeSeeds() { return YamlSourceFiles("configs/models"); }

std::vector<std::string> ShapeWords() {
  std::vector<std::string> words = StructureWords();
  for (std::string_view field : ModelFieldNames()) words.push_back(std::string(field) + ": ");
  return words;
}

}  // namespace hearth::test
