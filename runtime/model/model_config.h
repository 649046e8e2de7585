// What a model's config.json says, in one form for every family and layout.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

enum class ModelFamily : uint8_t { kLlama, kMistral, kQwen2, kQwen3 };

// "llama", "mistral", "qwen2", "qwen3": Hugging Face's model_type.
std::string_view Name(ModelFamily family);
// "LlamaForCausalLM", ...
std::string_view ArchitectureName(ModelFamily family);

enum class RopeScalingKind : uint8_t { kNone, kLinear, kLlama3 };

// How the inverse frequencies of RoPE are stretched; the formulas are those of transformers'
// modeling_rope_utils.py.
struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::kNone;
  double factor = 1.0;                           // linear, llama3
  double low_freq_factor = 1.0;                  // llama3
  double high_freq_factor = 4.0;                 // llama3
  int64_t original_max_position_embeddings = 0;  // llama3
  bool operator==(const RopeScaling&) const = default;
};

// The type of the weights the configuration came with; only carried through to an export's reader.
enum class WeightDType : uint8_t { kUnknown, kF32, kBF16, kF16 };

struct ModelConfig {
  ModelFamily family = ModelFamily::kLlama;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;  // even; num_heads*head_dim need not be hidden_size
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;  // Qwen2
  bool qk_norm = false;   // Qwen3: RMSNorm over each head of q and k, before RoPE
  double initializer_range = 0.02;
  // None, one or several; not negative, but nothing forces them to lie in the vocabulary.
  std::vector<int64_t> bos_token_ids;
  std::vector<int64_t> eos_token_ids;
  std::optional<int64_t> pad_token_id;  // carried to an export; padding never reaches a loss here
  WeightDType weight_dtype = WeightDType::kUnknown;

  int64_t query_size() const { return num_heads * head_dim; }
  int64_t key_value_size() const { return num_kv_heads * head_dim; }
  // Rows of the fused projection: q, then k, then v.
  int64_t qkv_size() const { return query_size() + 2 * key_value_size(); }
  bool operator==(const ModelConfig&) const = default;
};

// Inverse frequencies of RoPE after scaling, head_dim/2 values: the angle of position p and pair i
// (elements i and i + head_dim/2 of a head) is p * result[i]. Computed in FP32, operation by
// operation as transformers does, because at position p an error is magnified p times.
std::vector<float> RopeInverseFrequencies(const ModelConfig& config);

// Where a field came from, "FILE:LINE:COLUMN" or "FILE", by its Hugging Face name.
using FieldPlace = std::function<std::string(std::string_view field)>;

// Checks ranges and what must divide what; ConfigError "PLACE: error: what; remedy".
void ValidateModelConfig(const ModelConfig& config, const FieldPlace& place);

}  // namespace hearth
