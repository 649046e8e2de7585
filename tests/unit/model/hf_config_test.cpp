#include "runtime/model/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "kernels/core/error.h"
#include "tests/unit/model/test_models.h"

namespace hearth {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

// What transformers 4 writes for a small Qwen2.
json Qwen2Layout4() {
  return json::parse(R"({
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.02,
    "intermediate_size": 176, "max_position_embeddings": 512, "max_window_layers": 24,
    "model_type": "qwen2", "num_attention_heads": 4, "num_hidden_layers": 3,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0,
    "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1", "use_cache": true, "use_mrope": false,
    "use_sliding_window": false, "vocab_size": 300})");
}

// The same model as transformers 5 writes it.
json Qwen2Layout5() {
  json config = Qwen2Layout4();
  for (const char* name : {"rope_theta", "rope_scaling", "torch_dtype"}) config.erase(name);
  config["dtype"] = "bfloat16";
  config["layer_types"] = {"full_attention", "full_attention", "full_attention"};
  config["rope_parameters"] = {{"rope_theta", 1000000.0}, {"rope_type", "default"}};
  config["transformers_version"] = "5.23.0";
  config["pad_token_id"] = nullptr;
  return config;
}

json Llama() {
  return json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 1,
    "eos_token_id": [2, 3], "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 176,
    "max_position_embeddings": 1024, "mlp_bias": false, "model_type": "llama",
    "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0,
    "low_freq_factor": 1.0, "original_max_position_embeddings": 512, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "float32",
    "vocab_size": 300})");
}

json WithFamily(json config, const char* architecture, const char* type) {
  config["architectures"] = {architecture};
  config["model_type"] = type;
  return config;
}
json Mistral() {
  json config = WithFamily(Llama(), "MistralForCausalLM", "mistral");
  config["rope_scaling"] = nullptr;
  config["sliding_window"] = nullptr;
  return config;
}
json Qwen3() {
  json config = WithFamily(Qwen2Layout4(), "Qwen3ForCausalLM", "qwen3");
  config["head_dim"] = 32;
  config["attention_bias"] = false;
  return config;
}

ModelConfig Parse(const json& config) {
  return ParseHfConfig(JsonDocument::Parse(config.dump(1), "config.json"));
}
std::string Refusal(const json& config) {
  return MessageOf<ConfigError>([&] { Parse(config); });
}
// The refusal after one field has been set.
std::string RefusalWith(json config, const char* field, const json& value) {
  config[field] = value;
  return Refusal(config);
}

TEST(HfConfig, ReadsTheLayoutOfTransformers4) {
  const ModelConfig config = Parse(Qwen2Layout4());
  EXPECT_EQ(config.family, ModelFamily::kQwen2);
  EXPECT_EQ(config.vocab_size, 300);
  EXPECT_EQ(config.hidden_size, 64);
  EXPECT_EQ(config.intermediate_size, 176);
  EXPECT_EQ(config.num_layers, 3);
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.max_position_embeddings, 512);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope_theta, 1e6);
  EXPECT_EQ(config.rope_scaling, RopeScaling{});
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(config.qk_norm);
  EXPECT_EQ(config.bos_token_ids, std::vector<int64_t>{1});
  EXPECT_EQ(config.eos_token_ids, std::vector<int64_t>{2});
  EXPECT_EQ(config.weight_dtype, WeightDType::kBF16);
}

TEST(HfConfig, BothLayoutsAreTheSameModel) {
  EXPECT_EQ(Parse(Qwen2Layout4()), Parse(Qwen2Layout5()));
  json newer = Llama();
  newer["rope_parameters"] = newer["rope_scaling"];
  newer["rope_parameters"]["rope_theta"] = newer["rope_theta"];
  newer["dtype"] = newer["torch_dtype"];
  for (const char* name : {"rope_theta", "rope_scaling", "torch_dtype"}) newer.erase(name);
  EXPECT_EQ(Parse(Llama()), Parse(newer));
}

TEST(HfConfig, ReadsRopeScaling) {
  const RopeScaling llama3 = Parse(Llama()).rope_scaling;
  EXPECT_EQ(llama3, (RopeScaling{RopeScalingKind::kLlama3, 8.0, 1.0, 4.0, 512}));
  json linear = Llama();
  linear["rope_scaling"] = {{"type", "linear"}, {"factor", 2.5}};
  EXPECT_EQ(Parse(linear).rope_scaling.kind, RopeScalingKind::kLinear);
  EXPECT_EQ(Parse(linear).rope_scaling.factor, 2.5);
}

TEST(HfConfig, Families) {
  EXPECT_EQ(Parse(Llama()).family, ModelFamily::kLlama);
  EXPECT_FALSE(Parse(Llama()).qkv_bias);
  EXPECT_EQ(Parse(Llama()).eos_token_ids, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(Parse(Mistral()).family, ModelFamily::kMistral);
  const ModelConfig qwen3 = Parse(Qwen3());
  EXPECT_TRUE(qwen3.qk_norm);
  EXPECT_FALSE(qwen3.qkv_bias);
  EXPECT_EQ(qwen3.head_dim, 32);
  json no_architecture = Llama();
  no_architecture["architectures"] = nullptr;
  EXPECT_EQ(Parse(no_architecture).family, ModelFamily::kLlama);
  json no_type = Llama();
  no_type.erase("model_type");
  EXPECT_EQ(Parse(no_type).family, ModelFamily::kLlama);
}

// Absent and null mean what transformers' classes make of them.
TEST(HfConfig, AbsentAndNullFields) {
  json config = Llama();
  for (const char* name : {"num_key_value_heads", "rms_norm_eps", "tie_word_embeddings",
                           "eos_token_id", "bos_token_id", "torch_dtype", "rope_scaling"}) {
    config.erase(name);
  }
  const ModelConfig read = Parse(config);
  EXPECT_EQ(read.num_kv_heads, 4);
  EXPECT_EQ(read.head_dim, 16);
  EXPECT_EQ(read.rms_norm_eps, 1e-6);
  EXPECT_EQ(read.initializer_range, 0.02);
  EXPECT_FALSE(read.tie_word_embeddings);
  EXPECT_TRUE(read.eos_token_ids.empty());
  EXPECT_TRUE(read.bos_token_ids.empty());
  EXPECT_EQ(read.weight_dtype, WeightDType::kUnknown);

  json nulls = Qwen2Layout4();
  for (const char* name : {"num_key_value_heads", "head_dim", "eos_token_id", "pad_token_id"}) {
    nulls[name] = nullptr;
  }
  EXPECT_EQ(Parse(nulls).num_kv_heads, 4);
  EXPECT_EQ(Parse(nulls).head_dim, 16);
  json qwen3 = Qwen3();
  qwen3.erase("head_dim");
  EXPECT_EQ(Parse(qwen3).head_dim, 128);
  json mistral = Mistral();
  mistral.erase("num_key_value_heads");
  mistral["num_attention_heads"] = 16;
  EXPECT_EQ(Parse(mistral).num_kv_heads, 8);
  json no_pad = Llama();
  no_pad["pad_token_id"] = -1;
  EXPECT_FALSE(Parse(no_pad).pad_token_id.has_value());
  no_pad["pad_token_id"] = 7;
  EXPECT_EQ(Parse(no_pad).pad_token_id, 7);
}

TEST(HfConfig, RequiredFieldsAreNamed) {
  for (const char* name : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                           "num_attention_heads", "max_position_embeddings"}) {
    json config = Llama();
    config.erase(name);
    EXPECT_THAT(Refusal(config), StartsWith("config.json:1:1: error: ")) << name;
    EXPECT_THAT(Refusal(config), HasSubstr(name));
    EXPECT_THAT(RefusalWith(Llama(), name, nullptr), HasSubstr(name));
    EXPECT_THAT(RefusalWith(Llama(), name, 0), HasSubstr(name));
    EXPECT_THAT(RefusalWith(Llama(), name, -1), HasSubstr(name));
    EXPECT_THAT(RefusalWith(Llama(), name, 64.0), HasSubstr(name));
    EXPECT_THAT(RefusalWith(Llama(), name, 1e30), HasSubstr(name));
    EXPECT_THAT(RefusalWith(Llama(), name, "64"), HasSubstr(name));
  }
}

TEST(HfConfig, NoRopeThetaInEitherPlaceIsAnError) {
  json config = Llama();
  config.erase("rope_theta");
  EXPECT_THAT(Refusal(config), HasSubstr("rope_theta"));
  json newer = Qwen2Layout5();
  newer["rope_parameters"].erase("rope_theta");
  EXPECT_THAT(Refusal(newer), HasSubstr("rope_theta"));
  newer["rope_theta"] = 77777.0;
  EXPECT_EQ(Parse(newer).rope_theta, 77777.0);
  newer["rope_parameters"]["rope_theta"] = 5.0;
  EXPECT_THAT(Refusal(newer), HasSubstr("remove one"));
}

struct RefusalCase {
  const char* what;
  json config;
  const char* field;
  json value;
  const char* expected;
};

std::vector<RefusalCase> RopeRefusals() {
  const json llama3 = Llama()["rope_scaling"];
  const auto rope = [&](const char* key, const json& value) {
    json changed = llama3;
    if (value.is_null()) {
      changed.erase(key);
    } else {
      changed[key] = value;
    }
    return changed;
  };
  return {
      {"yarn", Llama(), "rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}, "\"yarn\""},
      {"dynamic", Llama(), "rope_scaling", {{"type", "dynamic"}, {"factor", 4.0}}, "\"dynamic\""},
      {"longrope", Llama(), "rope_scaling", {{"rope_type", "longrope"}}, "\"longrope\""},
      {"rope types",
       Llama(),
       "rope_scaling",
       {{"rope_type", "linear"}, {"type", "dynamic"}, {"factor", 2.0}},
       "differs from rope_type"},
      {"rope partial", Llama(), "rope_scaling", rope("partial_rotary_factor", 0.5),
       "rope_scaling.partial_rotary_factor is 0.5"},
      {"rope key", Llama(), "rope_scaling", rope("mscale", 0.5), "rope_scaling.mscale"},
      {"no factor", Llama(), "rope_scaling", rope("factor", nullptr), "lacks \"factor\""},
      {"no low", Llama(), "rope_scaling", rope("low_freq_factor", nullptr), "low_freq_factor"},
      {"no high", Llama(), "rope_scaling", rope("high_freq_factor", nullptr), "high_freq_factor"},
      {"no original", Llama(), "rope_scaling", rope("original_max_position_embeddings", nullptr),
       "original_max_position_embeddings"},
      {"high = low", Llama(), "rope_scaling", rope("high_freq_factor", 1.0), "above"},
      {"factor < 1", Llama(), "rope_scaling", rope("factor", 0.5), "factor is 0.5"},
      {"rope contradiction", Llama(), "rope_parameters", {{"rope_type", "default"}}, "contradicts"},
      {"nested rope",
       Qwen2Layout5(),
       "rope_parameters",
       {{"rope_theta", 1e4}, {"full_attention", {{"rope_theta", 1e4}}}},
       "full_attention"},
  };
}

std::vector<RefusalCase> ModelRefusals() {
  return {
      {"window", Qwen2Layout4(), "use_sliding_window", true, "use_sliding_window is true"},
      {"window3", Qwen3(), "use_sliding_window", true, "use_sliding_window is true"},
      {"mistral window", Mistral(), "sliding_window", 512, "sliding_window is 512"},
      {"layer types",
       Qwen2Layout5(),
       "layer_types",
       {"full_attention", "sliding_attention", "full_attention"},
       "layer_types[1] is \"sliding_attention\""},
      {"layer types count", Qwen2Layout5(), "layer_types", {"full_attention"}, "1 entries"},
      {"activation", Llama(), "hidden_act", "gelu", "hidden_act is \"gelu\""},
      {"attention bias", Llama(), "attention_bias", true, "attention_bias is true"},
      {"attention bias 3", Qwen3(), "attention_bias", true, "attention_bias is true"},
      {"mlp bias", Llama(), "mlp_bias", true, "mlp_bias is true"},
      {"dropout", Llama(), "attention_dropout", 0.1, "attention_dropout is 0.1"},
      {"partial", Llama(), "partial_rotary_factor", 0.5, "partial_rotary_factor is 0.5"},
      {"quantised",
       Llama(),
       "quantization_config",
       {{"quant_method", "gptq"}},
       "quantization_config"},
      {"architecture", Llama(), "architectures", {"GemmaForCausalLM"}, "GemmaForCausalLM"},
      {"two architectures", Llama(), "architectures", {"LlamaForCausalLM", "x"}, "exactly one"},
      {"no architecture", Llama(), "architectures", json::array(), "exactly one"},
      {"headless", Llama(), "architectures", {"LlamaModel"}, "LlamaModel"},
      {"type", Llama(), "model_type", "qwen2", "model_type is \"qwen2\""},
      {"unknown number", Llama(), "embedding_multiplier", 12.0, "embedding_multiplier"},
      {"unknown flag", Llama(), "use_parallel_residual", true, "use_parallel_residual"},
      {"dtype", Llama(), "torch_dtype", "float8_e4m3fn", "float8_e4m3fn"},
      {"tied", Llama(), "tie_word_embeddings", 1, "tie_word_embeddings"},
      {"eos", Llama(), "eos_token_id", "2", "eos_token_id"},
      {"eos list", Llama(), "eos_token_id", {2, 2.5}, "eos_token_id[1]"},
      {"eos negative", Llama(), "eos_token_id", -2, "eos_token_id"},
      {"grouping", Llama(), "num_key_value_heads", 3, "multiple of num_key_value_heads (3)"},
      {"odd head", Llama(), "head_dim", 15, "head_dim is 15"},
      {"indivisible", Llama(), "hidden_size", 66, "not a multiple of num_attention_heads"},
      {"epsilon", Llama(), "rms_norm_eps", 0.0, "rms_norm_eps"},
      {"theta", Llama(), "rope_theta", -1.0, "rope_theta"},
      {"theta type", Llama(), "rope_theta", "1e4", "rope_theta is a string"},
      {"layers", Llama(), "num_hidden_layers", 5000, "num_hidden_layers is 5000"},
  };
}

std::vector<RefusalCase> AllRefusals() {
  std::vector<RefusalCase> refusals = ModelRefusals();
  for (RefusalCase& refusal : RopeRefusals()) refusals.push_back(std::move(refusal));
  return refusals;
}

TEST(HfConfig, EveryUnsupportedFieldIsRefusedByNameAndPlace) {
  for (const RefusalCase& refusal : AllRefusals()) {
    const std::string message = RefusalWith(refusal.config, refusal.field, refusal.value);
    EXPECT_THAT(message, HasSubstr(refusal.expected)) << refusal.what;
    EXPECT_THAT(message, testing::MatchesRegex("config.json:[0-9]+:[0-9]+: error: .*"))
        << refusal.what;
  }
}

TEST(HfConfig, TheRefusalsAreNotAccidents) {
  for (const RefusalCase& refusal : AllRefusals()) Parse(refusal.config);
}

TEST(HfConfig, MistralsWindowMayNotCut) {
  json config = Mistral();
  config.erase("sliding_window");
  config["max_position_embeddings"] = 8192;
  EXPECT_THAT(Refusal(config), HasSubstr("absent, which means 4096"));
  config["max_position_embeddings"] = 4096;
  Parse(config);
  config["sliding_window"] = 4096;
  Parse(config);
  config["sliding_window"] = 4095;
  EXPECT_THAT(Refusal(config), HasSubstr("sliding_window is 4095"));
}

TEST(HfConfig, HarmlessFieldsAreAccepted) {
  json config = Qwen2Layout4();
  config["_name_or_path"] = "x";
  config["unsloth_version"] = "2024.9";
  config["id2label"] = {{"0", "LABEL_0"}};
  config["temperature"] = 0.7;
  config["something_new"] = false;
  config["something_else"] = nullptr;
  config["quantization_config"] = nullptr;
  config["sliding_window"] = 128;  // Qwen2 without use_sliding_window
  Parse(config);
}

TEST(HfConfig, PlacesPointAtTheValue) {
  const std::string text =
      "{\n  \"model_type\": \"llama\",\n  \"hidden_act\": \"relu\", \"vocab_size\": 3\n}";
  EXPECT_EQ(
      MessageOf<ConfigError>([&] { ParseHfConfig(JsonDocument::Parse(text, "m/config.json")); }),
      "m/config.json:3:17: error: hidden_act is \"relu\"; only silu is supported");
  EXPECT_EQ(MessageOf<ConfigError>([] { ParseHfConfig(JsonDocument::Parse("[]", "c")); }),
            "c:1:1: error: is a list; it must be an object");
}

TEST(HfConfig, WhatIsWrittenReadsBack) {
  for (json source : {Qwen2Layout4(), Llama(), Mistral(), Qwen3()}) {
    for (const char* scaling : {"none", "linear", "llama3"}) {
      if (scaling == std::string("none")) source["rope_scaling"] = nullptr;
      if (scaling == std::string("linear")) {
        source["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 3.0}};
      }
      if (scaling == std::string("llama3")) source["rope_scaling"] = Llama()["rope_scaling"];
      source["pad_token_id"] = 5;
      source["rms_norm_eps"] = 1.2345678901234567e-6;
      const ModelConfig config = Parse(source);
      const std::string text = HfConfigText(config, config.weight_dtype);
      EXPECT_EQ(ParseHfConfig(JsonDocument::Parse(text, "config.json")), config) << text;
      EXPECT_EQ(text, HfConfigText(config, config.weight_dtype));
    }
  }
}

TEST(HfConfig, GenerationConfig) {
  EXPECT_EQ(HfGenerationConfigText(Parse(Llama())),
            "{\n  \"_from_model_config\": true,\n  \"bos_token_id\": 1,\n"
            "  \"eos_token_id\": [2, 3]\n}\n");
  ModelConfig none = Parse(Llama());
  none.bos_token_ids.clear();
  none.eos_token_ids.clear();
  EXPECT_EQ(HfGenerationConfigText(none), "{\n  \"_from_model_config\": true\n}\n");
}

}  // namespace
}  // namespace hearth
