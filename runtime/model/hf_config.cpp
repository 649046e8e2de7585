#include "runtime/model/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "kernels/core/error.h"

namespace hearth {

namespace {

// What transformers assumes for a family when config.json leaves a field out.
struct FamilyDefaults {
  ModelFamily family;
  int64_t num_key_value_heads;  // 0: as many as heads
  int64_t head_dim;             // 0: hidden_size / num_attention_heads
  int64_t sliding_window;       // 0: none
};
constexpr std::array<FamilyDefaults, 4> kFamilies = {{
    {ModelFamily::kLlama, 0, 0, 0},
    {ModelFamily::kMistral, 8, 0, 4096},
    {ModelFamily::kQwen2, 32, 0, 0},
    {ModelFamily::kQwen3, 32, 128, 0},
}};

// Read below; together with kRopeFields what a shape file may contain.
constexpr std::array<std::string_view, 30> kModelFields = {
    "architectures",
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "tie_word_embeddings",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "torch_dtype",
    "dtype",
    "hidden_act",
    "attention_bias",
    "mlp_bias",
    "attention_dropout",
    "layer_types",
    "use_sliding_window",
    "sliding_window",
    "partial_rotary_factor",
    "quantization_config",
};

// Known and without influence on what training computes.
constexpr std::array<std::string_view, 63> kHarmlessFields = {
    "transformers_version",
    "use_cache",
    "torchscript",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "max_window_layers",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "sep_token_id",
    "prefix",
    "task_specific_params",
    "tokenizer_class",
    "finetuning_task",
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "top_k",
    "top_p",
    "typical_p",
    "use_bfloat16",
    "unsloth_fixed",
    "unsloth_version",
    "transformers.js_config",
    "is_llama_config",
    "is_decoder",
    "attn_implementation",
    "keys_to_ignore_at_inference",
    "model_max_length",
    "max_sequence_length",
    "chat_template",
    "eos_token",
    "bos_token",
    "pad_token",
    "unk_token",
    "unk_token_id",
};

constexpr std::array<std::string_view, 9> kRopeFields = {
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "attention_factor",
};

template <size_t kSize>
bool Contains(const std::array<std::string_view, kSize>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

// The member when it is there and not null.
std::optional<JsonNode> FindValue(const JsonNode& object, std::string_view key) {
  if (!object.Has(key)) return std::nullopt;
  const JsonNode node = object.Get(key);
  if (node.IsNull()) return std::nullopt;
  return node;
}

constexpr int64_t kAnySize = std::numeric_limits<int64_t>::max();

int64_t RequiredSize(const JsonNode& root, std::string_view key) {
  return root.Get(key).AsInteger(1, kAnySize);
}

// Refuses a flag that is on, a number that is not `neutral`, or a field that is not empty.
void RequireOff(const JsonNode& root, std::string_view key, std::string_view consequence) {
  const std::optional<JsonNode> node = FindValue(root, key);
  if (node && node->AsBool()) node->Fail(fmt::format("is true; {}", consequence));
}
void RequireNumber(const JsonNode& root, std::string_view key, double neutral,
                   std::string_view consequence) {
  const std::optional<JsonNode> node = FindValue(root, key);
  if (node && !(node->AsReal() == neutral)) {
    node->Fail(fmt::format("is {}; {}", node->AsReal(), consequence));
  }
}

ModelFamily FamilyOfArchitecture(const JsonNode& architecture) {
  for (const FamilyDefaults& entry : kFamilies) {
    if (ArchitectureName(entry.family) == architecture.AsString()) return entry.family;
  }
  architecture.Fail(
      fmt::format("is \"{}\"; supported are LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM "
                  "and Qwen3ForCausalLM",
                  architecture.AsString()));
}

ModelFamily FamilyOfType(const JsonNode& type) {
  for (const FamilyDefaults& entry : kFamilies) {
    if (Name(entry.family) == type.AsString()) return entry.family;
  }
  type.Fail(
      fmt::format("is \"{}\"; supported are llama, mistral, qwen2 and qwen3", type.AsString()));
}

ModelFamily ReadFamily(const JsonNode& root) {
  const std::optional<JsonNode> architectures = FindValue(root, "architectures");
  const std::optional<JsonNode> type = FindValue(root, "model_type");
  if (!architectures) return FamilyOfType(type ? *type : root.Get("model_type"));
  const std::vector<JsonNode> names = architectures->AsArray();
  if (names.size() != 1) architectures->Fail("must name exactly one architecture");
  const ModelFamily family = FamilyOfArchitecture(names.front());
  if (type && type->AsString() != Name(family)) {
    type->Fail(fmt::format("is \"{}\" but the architecture is {}; correct one of the two",
                           type->AsString(), ArchitectureName(family)));
  }
  return family;
}

void RefuseUnknownFields(const JsonNode& root) {
  for (const std::string& key : root.Keys()) {
    if (key.starts_with("_") || Contains(kModelFields, key) || Contains(kHarmlessFields, key)) {
      continue;
    }
    const JsonNode node = root.Get(key);
    const JsonValue& value = node.value();
    const bool off = value.kind == JsonValue::Kind::kNull ||
                     (value.kind == JsonValue::Kind::kBool && !value.boolean);
    if (off || (key == "pretraining_tp" && value.kind == JsonValue::Kind::kInteger)) continue;
    if (key == "pruned_heads" && value.members.empty() && value.items.empty()) continue;
    root.Get(key).Fail(
        "is a field that Hearth does not know, so that it may change the result; remove it when it "
        "does not matter to this model");
  }
}

// Fields whose only supported value is the usual one.
void RefuseUnsupported(const JsonNode& root, ModelFamily family) {
  if (const auto quantization = FindValue(root, "quantization_config")) {
    quantization->Fail("is there; quantised weights cannot be trained, take the original model");
  }
  if (const auto activation = FindValue(root, "hidden_act");
      activation && activation->AsString() != "silu") {
    activation->Fail(fmt::format("is \"{}\"; only silu is supported", activation->AsString()));
  }
  // transformers builds Qwen2's projections with their biases whatever this field says.
  if (family != ModelFamily::kQwen2) {
    RequireOff(root, "attention_bias", "projections with a bias are supported for Qwen2 only");
  }
  RequireOff(root, "mlp_bias", "biases in the feed-forward network are not supported");
  RequireNumber(root, "attention_dropout", 0.0, "dropout is not supported, set it to 0");
  RequireNumber(root, "partial_rotary_factor", 1.0, "RoPE over a part of a head is not supported");
}

void RefuseWindows(const JsonNode& root, const FamilyDefaults& defaults,
                   const ModelConfig& config) {
  RequireOff(root, "use_sliding_window", "attention within a window is not supported");
  if (const auto layer_types = FindValue(root, "layer_types")) {
    const std::vector<JsonNode> types = layer_types->AsArray();
    for (const JsonNode& type : types) {
      if (type.AsString() != "full_attention") {
        type.Fail(fmt::format("is \"{}\"; only full_attention is supported", type.AsString()));
      }
    }
    if (static_cast<int64_t>(types.size()) != config.num_layers) {
      layer_types->Fail(fmt::format("has {} entries for {} layers; correct one of the two",
                                    types.size(), config.num_layers));
    }
  }
  if (config.family != ModelFamily::kMistral) return;
  // A window that no sequence of the model exceeds cuts nothing off.
  const bool given = root.Has("sliding_window");
  const std::optional<JsonNode> node = FindValue(root, "sliding_window");
  const int64_t window = node    ? node->AsInteger(1, kAnySize)
                         : given ? kAnySize
                                 : defaults.sliding_window;
  if (window >= config.max_position_embeddings) return;
  const std::string what = fmt::format(
      "sliding_window is {}, below max_position_embeddings ({}); attention within a window is not "
      "supported: set it to null, or max_position_embeddings to at most the window, if sequences "
      "stay within it",
      given ? fmt::format("{}", window) : fmt::format("absent, which means {}", window),
      config.max_position_embeddings);
  throw ConfigError(fmt::format("{}: error: {}", node ? node->Place() : root.Place(), what));
}

std::string RopeType(const JsonNode& rope) {
  const std::optional<JsonNode> type = FindValue(rope, "rope_type");
  const std::optional<JsonNode> legacy = FindValue(rope, "type");
  if (type && legacy && type->AsString() != legacy->AsString()) {
    legacy->Fail("differs from rope_type; remove it");
  }
  if (!type && !legacy) return "default";
  return type ? type->AsString() : legacy->AsString();
}

// `rope` is rope_scaling or rope_parameters.
RopeScaling ReadRopeScaling(const JsonNode& rope) {
  for (const std::string& key : rope.Keys()) {
    if (!Contains(kRopeFields, key)) {
      rope.Get(key).Fail("is a RoPE parameter that is not supported");
    }
  }
  RequireNumber(rope, "partial_rotary_factor", 1.0, "RoPE over a part of a head is not supported");
  RequireNumber(rope, "attention_factor", 1.0, "scaled attention is not supported");
  const std::string type = RopeType(rope);
  RopeScaling scaling;
  if (type == "default") return scaling;
  if (type == "linear") {
    scaling.kind = RopeScalingKind::kLinear;
    scaling.factor = rope.Get("factor").AsReal();
    return scaling;
  }
  if (type != "llama3") {
    rope.Fail(fmt::format("has the type \"{}\"; supported are default, linear and llama3", type));
  }
  scaling.kind = RopeScalingKind::kLlama3;
  scaling.factor = rope.Get("factor").AsReal();
  scaling.low_freq_factor = rope.Get("low_freq_factor").AsReal();
  scaling.high_freq_factor = rope.Get("high_freq_factor").AsReal();
  scaling.original_max_position_embeddings =
      rope.Get("original_max_position_embeddings").AsInteger(1, kAnySize);
  return scaling;
}

void ReadRope(const JsonNode& root, ModelConfig& config) {
  const std::optional<JsonNode> scaling = FindValue(root, "rope_scaling");
  const std::optional<JsonNode> parameters = FindValue(root, "rope_parameters");
  std::optional<JsonNode> theta = FindValue(root, "rope_theta");
  for (const std::optional<JsonNode>& nested : {scaling, parameters}) {
    if (!nested) continue;
    nested->RequireObject();
    const std::optional<JsonNode> inner = FindValue(*nested, "rope_theta");
    if (inner && theta && !(inner->AsReal() == theta->AsReal())) {
      inner->Fail(fmt::format("is {}, but {} is {}; remove one of them", inner->AsReal(),
                              theta->path(), theta->AsReal()));
    }
    if (inner) theta = inner;
  }
  if (!theta) {
    root.Fail(
        "there is neither rope_theta nor rope_parameters.rope_theta; add \"rope_theta\" (10000.0 "
        "for Llama 2 and Mistral 7B v0.1)");
  }
  config.rope_theta = theta->AsReal();
  if (scaling) config.rope_scaling = ReadRopeScaling(*scaling);
  if (!parameters) return;
  const RopeScaling newer = ReadRopeScaling(*parameters);
  if (scaling && newer != config.rope_scaling) {
    parameters->Fail("contradicts rope_scaling; remove one of them");
  }
  config.rope_scaling = newer;
}

std::vector<int64_t> ReadTokenIds(const JsonNode& root, std::string_view key) {
  std::vector<int64_t> ids;
  const std::optional<JsonNode> node = FindValue(root, key);
  if (!node) return ids;
  if (node->value().kind != JsonValue::Kind::kArray) return {node->AsInteger(0, kAnySize)};
  for (const JsonNode& id : node->AsArray()) ids.push_back(id.AsInteger(0, kAnySize));
  return ids;
}

WeightDType ReadDType(const JsonNode& root) {
  std::optional<JsonNode> node = FindValue(root, "dtype");
  if (!node) node = FindValue(root, "torch_dtype");
  if (!node) return WeightDType::kUnknown;
  for (WeightDType dtype : {WeightDType::kF32, WeightDType::kBF16, WeightDType::kF16}) {
    if (node->AsString() == TorchName(dtype)) return dtype;
  }
  node->Fail(
      fmt::format("is \"{}\"; supported are float32, bfloat16 and float16", node->AsString()));
}

void ReadSizes(const JsonNode& root, const FamilyDefaults& defaults, ModelConfig& config) {
  config.vocab_size = RequiredSize(root, "vocab_size");
  config.hidden_size = RequiredSize(root, "hidden_size");
  config.intermediate_size = RequiredSize(root, "intermediate_size");
  config.num_layers = RequiredSize(root, "num_hidden_layers");
  config.num_heads = RequiredSize(root, "num_attention_heads");
  config.max_position_embeddings = RequiredSize(root, "max_position_embeddings");
  const bool absent = !root.Has("num_key_value_heads") && defaults.num_key_value_heads != 0;
  config.num_kv_heads = absent ? defaults.num_key_value_heads : config.num_heads;
  if (const auto node = FindValue(root, "num_key_value_heads")) {
    config.num_kv_heads = node->AsInteger(1, kAnySize);
  }
  if (const auto node = FindValue(root, "head_dim")) {
    config.head_dim = node->AsInteger(1, kAnySize);
  } else if (!root.Has("head_dim") && defaults.head_dim != 0) {
    config.head_dim = defaults.head_dim;
  } else {
    if (config.hidden_size % config.num_heads != 0) {
      root.Get("hidden_size")
          .Fail(fmt::format("is {}, not a multiple of num_attention_heads ({}); give head_dim",
                            config.hidden_size, config.num_heads));
    }
    config.head_dim = config.hidden_size / config.num_heads;
  }
}

// The place of a field wherever it stands.
std::string PlaceOf(const JsonNode& root, std::string_view field) {
  if (root.Has(field)) return root.Get(field).Place();
  for (std::string_view nested : {"rope_parameters", "rope_scaling"}) {
    if (const auto rope = FindValue(root, nested); rope && rope->Has(field)) {
      return rope->Get(field).Place();
    }
  }
  return root.Place();
}

}  // namespace

std::string_view TorchName(WeightDType dtype) {
  switch (dtype) {
    case WeightDType::kF32:
      return "float32";
    case WeightDType::kBF16:
      return "bfloat16";
    case WeightDType::kF16:
      return "float16";
    case WeightDType::kUnknown:
      break;
  }
  return "unknown";
}

const std::vector<std::string_view>& ModelFieldNames() {
  static const std::vector<std::string_view> names(kModelFields.begin(), kModelFields.end());
  return names;
}

ModelConfig ParseHfConfig(const JsonDocument& document) {
  const JsonNode root = document.root();
  root.RequireObject();
  ModelConfig config;
  config.family = ReadFamily(root);
  RefuseUnknownFields(root);
  RefuseUnsupported(root, config.family);
  const FamilyDefaults& defaults =
      *std::ranges::find(kFamilies, config.family, &FamilyDefaults::family);
  ReadSizes(root, defaults, config);
  RefuseWindows(root, defaults, config);
  ReadRope(root, config);
  if (const auto node = FindValue(root, "rms_norm_eps")) config.rms_norm_eps = node->AsReal();
  if (const auto node = FindValue(root, "initializer_range")) {
    config.initializer_range = node->AsReal();
  }
  if (const auto node = FindValue(root, "tie_word_embeddings")) {
    config.tie_word_embeddings = node->AsBool();
  }
  config.qkv_bias = config.family == ModelFamily::kQwen2;
  config.qk_norm = config.family == ModelFamily::kQwen3;
  config.bos_token_ids = ReadTokenIds(root, "bos_token_id");
  config.eos_token_ids = ReadTokenIds(root, "eos_token_id");
  // Older Llama configurations write -1 for "none".
  if (const auto node = FindValue(root, "pad_token_id");
      node && node->AsInteger(-1, kAnySize) >= 0) {
    config.pad_token_id = node->AsInteger(-1, kAnySize);
  }
  config.weight_dtype = ReadDType(root);
  ValidateModelConfig(config, [&](std::string_view field) { return PlaceOf(root, field); });
  return config;
}

ModelConfig ReadHfConfig(const std::filesystem::path& config_json) {
  return ParseHfConfig(JsonDocument::ReadFile(config_json));
}

}  // namespace hearth
