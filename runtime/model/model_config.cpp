#include "runtime/model/model_config.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "kernels/core/error.h"

namespace hearth {

namespace {

// Bounds far above any published model and far below what overflows a product of two of them.
constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxLayers = 4094;  // 16*(layer + 1) + role stays below 2^16
constexpr int64_t kMaxPositions = int64_t{1} << 30;
constexpr int64_t kMaxHeadDim = 1024;

struct SizeField {
  const char* name;
  int64_t value;
  int64_t largest;
};

class ConfigChecker {
 public:
  explicit ConfigChecker(const FieldPlace& place) : place_(place) {}

  void Require(std::string_view field, bool condition, std::string_view what_and_remedy) const {
    if (condition) return;
    throw ConfigError(fmt::format("{}: error: {} {}", place_(field), field, what_and_remedy));
  }
  void Size(const SizeField& field) const {
    Require(field.name, field.value >= 1 && field.value <= field.largest,
            fmt::format("is {}; it must be from 1 to {}", field.value, field.largest));
  }
  // low <= value < high; false for NaN.
  void Real(const char* field, double value, double low, double high) const {
    Require(field, value >= low && value < high,
            fmt::format("is {}; it must be at least {} and below {}", value, low, high));
  }

 private:
  const FieldPlace& place_;
};

void ValidateRope(const ConfigChecker& checker, const ModelConfig& config) {
  checker.Real("rope_theta", config.rope_theta, 1.0, 1e15);
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.kind == RopeScalingKind::kNone) return;
  checker.Real("factor", scaling.factor, 1.0, 1e6);
  if (scaling.kind != RopeScalingKind::kLlama3) return;
  checker.Real("low_freq_factor", scaling.low_freq_factor, 1e-6, 1e6);
  checker.Real("high_freq_factor", scaling.high_freq_factor, 1e-6, 1e6);
  checker.Require("high_freq_factor", scaling.high_freq_factor > scaling.low_freq_factor,
                  fmt::format("is {}; it must be above low_freq_factor ({})",
                              scaling.high_freq_factor, scaling.low_freq_factor));
  checker.Size({"original_max_position_embeddings", scaling.original_max_position_embeddings,
                kMaxPositions});
}

// The inverse frequency of one pair under llama3 scaling: long waves are stretched, short ones
// kept, those between blended.
float Llama3Frequency(float frequency, const RopeScaling& scaling) {
  const auto original = static_cast<double>(scaling.original_max_position_embeddings);
  const auto low_wavelength = static_cast<float>(original / scaling.low_freq_factor);
  const auto high_wavelength = static_cast<float>(original / scaling.high_freq_factor);
  const auto wavelength = static_cast<float>(2.0 * std::numbers::pi) / frequency;
  const auto factor = static_cast<float>(scaling.factor);
  const float stretched = wavelength > low_wavelength ? frequency / factor : frequency;
  if (wavelength < high_wavelength || wavelength > low_wavelength) return stretched;
  const float smooth =
      (static_cast<float>(original) / wavelength - static_cast<float>(scaling.low_freq_factor)) /
      static_cast<float>(scaling.high_freq_factor - scaling.low_freq_factor);
  return (1.0f - smooth) * stretched / factor + smooth * stretched;
}

}  // namespace

std::string_view Name(ModelFamily family) {
  switch (family) {
    case ModelFamily::kLlama:
      return "llama";
    case ModelFamily::kMistral:
      return "mistral";
    case ModelFamily::kQwen2:
      return "qwen2";
    case ModelFamily::kQwen3:
      return "qwen3";
  }
  return "unknown";
}

std::string_view ArchitectureName(ModelFamily family) {
  switch (family) {
    case ModelFamily::kLlama:
      return "LlamaForCausalLM";
    case ModelFamily::kMistral:
      return "MistralForCausalLM";
    case ModelFamily::kQwen2:
      return "Qwen2ForCausalLM";
    case ModelFamily::kQwen3:
      return "Qwen3ForCausalLM";
  }
  return "unknown";
}

std::vector<float> RopeInverseFrequencies(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  const auto base = static_cast<double>(static_cast<float>(config.rope_theta));
  std::vector<float> frequencies;
  for (int64_t pair = 0; pair < config.head_dim / 2; ++pair) {
    const float exponent = static_cast<float>(2 * pair) / static_cast<float>(config.head_dim);
    // The double power rounded once is what a correctly rounded FP32 power gives.
    const auto power = static_cast<float>(std::pow(base, static_cast<double>(exponent)));
    float frequency = 1.0f / power;
    if (scaling.kind == RopeScalingKind::kLinear) frequency /= static_cast<float>(scaling.factor);
    if (scaling.kind == RopeScalingKind::kLlama3) frequency = Llama3Frequency(frequency, scaling);
    frequencies.push_back(frequency);
  }
  return frequencies;
}

void ValidateModelConfig(const ModelConfig& config, const FieldPlace& place) {
  const ConfigChecker checker(place);
  const SizeField fields[] = {
      {"vocab_size", config.vocab_size, kMaxVocabulary},
      {"hidden_size", config.hidden_size, kMaxWidth},
      {"intermediate_size", config.intermediate_size, kMaxWidth},
      {"num_hidden_layers", config.num_layers, kMaxLayers},
      {"num_attention_heads", config.num_heads, kMaxWidth},
      {"num_key_value_heads", config.num_kv_heads, kMaxWidth},
      {"head_dim", config.head_dim, kMaxHeadDim},
      {"max_position_embeddings", config.max_position_embeddings, kMaxPositions},
  };
  for (const SizeField& field : fields) checker.Size(field);
  checker.Require("num_attention_heads", config.num_heads % config.num_kv_heads == 0,
                  fmt::format("is {}; it must be a multiple of num_key_value_heads ({})",
                              config.num_heads, config.num_kv_heads));
  checker.Require("head_dim", config.head_dim % 2 == 0,
                  fmt::format("is {}; RoPE needs an even one", config.head_dim));
  checker.Require(
      "num_attention_heads", config.query_size() <= kMaxWidth,
      fmt::format("times head_dim is {}; it must be at most {}", config.query_size(), kMaxWidth));
  checker.Real("rms_norm_eps", config.rms_norm_eps, 1e-12, 1.0);
  checker.Real("initializer_range", config.initializer_range, 0.0, 10.0);
  ValidateRope(checker, config);
}

}  // namespace hearth
