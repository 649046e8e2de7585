#include <fmt/format.h>

#include <iterator>

#include "runtime/model/hf_config.h"

namespace hearth {

namespace {

// A JSON number that reads back to the same double and is always a real ("1e-06", "10000.0").
std::string RealText(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string TokenIdsText(const std::vector<int64_t>& ids) {
  if (ids.empty()) return "null";
  if (ids.size() == 1) return fmt::format("{}", ids.front());
  return fmt::format("[{}]", fmt::join(ids, ", "));
}

std::string RopeScalingText(const RopeScaling& scaling) {
  switch (scaling.kind) {
    case RopeScalingKind::kNone:
      break;
    case RopeScalingKind::kLinear:
      return fmt::format(
          "{{\n    \"factor\": {},\n    \"rope_type\": \"linear\",\n"
          "    \"type\": \"linear\"\n  }}",
          RealText(scaling.factor));
    case RopeScalingKind::kLlama3:
      return fmt::format(
          "{{\n    \"factor\": {},\n    \"high_freq_factor\": {},\n"
          "    \"low_freq_factor\": {},\n"
          "    \"original_max_position_embeddings\": {},\n"
          "    \"rope_type\": \"llama3\"\n  }}",
          RealText(scaling.factor), RealText(scaling.high_freq_factor),
          RealText(scaling.low_freq_factor), scaling.original_max_position_embeddings);
  }
  return "null";
}

// One object with a member a line, in the order given.
class JsonObjectText {
 public:
  JsonObjectText& Raw(std::string_view key, std::string_view value) {
    fmt::format_to(std::back_inserter(text_), "{}\n  \"{}\": {}", text_.empty() ? "{" : ",", key,
                   value);
    return *this;
  }
  JsonObjectText& Integer(std::string_view key, int64_t value) {
    return Raw(key, fmt::format("{}", value));
  }
  JsonObjectText& Real(std::string_view key, double value) { return Raw(key, RealText(value)); }
  JsonObjectText& Bool(std::string_view key, bool value) {
    return Raw(key, value ? "true" : "false");
  }
  JsonObjectText& Word(std::string_view key, std::string_view value) {
    return Raw(key, fmt::format("\"{}\"", value));
  }
  std::string Finish() const { return text_ + "\n}\n"; }

 private:
  std::string text_;
};

}  // namespace

std::string HfConfigText(const ModelConfig& config, WeightDType weight_dtype) {
  JsonObjectText text;
  text.Raw("architectures", fmt::format("[\"{}\"]", ArchitectureName(config.family)));
  if (config.family == ModelFamily::kLlama || config.family == ModelFamily::kQwen3) {
    text.Bool("attention_bias", false);
  }
  text.Real("attention_dropout", 0.0)
      .Raw("bos_token_id", TokenIdsText(config.bos_token_ids))
      .Raw("eos_token_id", TokenIdsText(config.eos_token_ids))
      .Integer("head_dim", config.head_dim)
      .Word("hidden_act", "silu")
      .Integer("hidden_size", config.hidden_size)
      .Real("initializer_range", config.initializer_range)
      .Integer("intermediate_size", config.intermediate_size)
      .Integer("max_position_embeddings", config.max_position_embeddings);
  if (config.family == ModelFamily::kLlama) text.Bool("mlp_bias", false);
  text.Word("model_type", Name(config.family))
      .Integer("num_attention_heads", config.num_heads)
      .Integer("num_hidden_layers", config.num_layers)
      .Integer("num_key_value_heads", config.num_kv_heads);
  if (config.pad_token_id) text.Integer("pad_token_id", *config.pad_token_id);
  text.Real("rms_norm_eps", config.rms_norm_eps)
      .Raw("rope_scaling", RopeScalingText(config.rope_scaling))
      .Real("rope_theta", config.rope_theta);
  if (config.family == ModelFamily::kMistral) text.Raw("sliding_window", "null");
  text.Bool("tie_word_embeddings", config.tie_word_embeddings);
  if (weight_dtype != WeightDType::kUnknown) text.Word("torch_dtype", TorchName(weight_dtype));
  text.Bool("use_cache", true);
  if (config.family == ModelFamily::kQwen2 || config.family == ModelFamily::kQwen3) {
    text.Bool("use_sliding_window", false);
  }
  return text.Integer("vocab_size", config.vocab_size).Finish();
}

std::string HfGenerationConfigText(const ModelConfig& config) {
  JsonObjectText text;
  text.Bool("_from_model_config", true);
  if (!config.bos_token_ids.empty()) text.Raw("bos_token_id", TokenIdsText(config.bos_token_ids));
  if (!config.eos_token_ids.empty()) text.Raw("eos_token_id", TokenIdsText(config.eos_token_ids));
  if (config.pad_token_id) text.Integer("pad_token_id", *config.pad_token_id);
  return text.Finish();
}

}  // namespace hearth
