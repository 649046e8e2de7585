#include "runtime/model/load_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "kernels/core/error.h"
#include "runtime/model/hf_config.h"
#include "runtime/model/model_spec.h"
#include "tests/unit/model/test_models.h"

namespace hearth {
namespace {

using testing::HasSubstr;

const std::string kModels = std::string(HEARTH_SOURCE_DIR) + "/configs/models/";

ModelConfig Shape(const std::string& name) {
  return LoadModel(kModels + name + ".yaml", "").config;
}

// As published with the models (parameters in model.safetensors.index.json or the model cards).
const std::map<std::string, int64_t> kPublishedCounts = {
    {"qwen2.5-0.5b", 494'032'768},   {"qwen2.5-1.5b", 1'543'714'304},
    {"qwen2.5-3b", 3'085'938'688},   {"qwen2.5-7b", 7'615'616'512},
    {"qwen2.5-14b", 14'770'033'664}, {"qwen2.5-32b", 32'763'876'352},
    {"qwen2.5-72b", 72'706'203'648}, {"qwen3-0.6b", 596'049'920},
    {"qwen3-1.7b", 1'720'574'976},   {"qwen3-4b", 4'022'468'096},
    {"qwen3-8b", 8'190'735'360},     {"qwen3-14b", 14'768'307'200},
    {"qwen3-32b", 32'762'123'264},   {"llama-2-7b", 6'738'415'616},
    {"llama-2-13b", 13'015'864'320}, {"llama-2-70b", 68'976'648'192},
    {"llama-3-8b", 8'030'261'248},   {"llama-3-70b", 70'553'706'496},
    {"llama-3.1-8b", 8'030'261'248}, {"llama-3.2-1b", 1'235'814'400},
    {"llama-3.2-3b", 3'212'749'824}, {"mistral-7b-v0.3", 7'248'023'552},
};

TEST(Shapes, HaveThePublishedParameterCounts) {
  for (const auto& [name, count] : kPublishedCounts) {
    EXPECT_EQ(BuildModelSpec(Shape(name)).ParameterCount(), count) << name;
  }
}

TEST(Shapes, EveryFileIsInTheTableAbove) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    const std::string name = entry.path().stem().string();
    EXPECT_TRUE(kPublishedCounts.contains(name) || name == "tiny") << name;
    ++files;
  }
  EXPECT_EQ(files, static_cast<int>(kPublishedCounts.size()) + 1);
}

TEST(Shapes, TheCommentInAFileIsItsCount) {
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    const std::string count =
        std::to_string(BuildModelSpec(Shape(entry.path().stem().string())).ParameterCount());
    std::string text = FileBytes(entry.path());
    text = text.substr(0, text.find('\n'));
    std::erase(text, ',');
    EXPECT_THAT(text, HasSubstr(": " + count + " parameters")) << entry.path();
  }
}

TEST(Shapes, TinyIsTinyAndByteLevel) {
  const ModelConfig tiny = Shape("tiny");
  const ModelSpec spec = BuildModelSpec(tiny);
  EXPECT_LE(spec.ParameterCount(), 200'000);
  EXPECT_GE(spec.ParameterCount(), 150'000);
  EXPECT_EQ(tiny.max_position_embeddings, 1024);
  EXPECT_EQ(tiny.vocab_size, 256);
  // FP8 matmuls need every leading dimension and K in multiples of 16.
  for (const ParameterSpec& parameter : spec.parameters) {
    if (!parameter.fp8) continue;
    EXPECT_EQ(parameter.shape[0] % 16, 0) << parameter.name;
    EXPECT_EQ(parameter.shape[1] % 16, 0) << parameter.name;
  }
}

// The speed-of-light table for one H200 at T = 1024, published with the reference measurements. It
// counts a vocabulary of 151,936 for every size.
TEST(Shapes, FlopsGiveThePublishedSpeedOfLight) {
  struct Row {
    const char* name;
    double fp8;
    double bf16;
  };
  for (const Row& row :
       {Row{"qwen2.5-0.5b", 489'232, 319'585}, Row{"qwen2.5-1.5b", 176'841, 103'867},
        Row{"qwen2.5-7b", 42'176, 22'990}, Row{"qwen2.5-14b", 21'597, 11'579}}) {
    ModelConfig config = Shape(row.name);
    config.vocab_size = 151'936;
    const TrainingFlops flops = FlopsPerToken(config, 1024);
    const double others = (flops.head + flops.attention) / 989.4e12;
    const double fp8 = 1.0 / (flops.blocks / 1978.9e12 + others);
    const double bf16 = 1.0 / (flops.blocks / 989.4e12 + others);
    EXPECT_TRUE(std::abs(fp8 - row.fp8) <= 0.5) << row.name << " " << fp8;
    EXPECT_TRUE(std::abs(bf16 - row.bf16) <= 0.5) << row.name << " " << bf16;
  }
}

std::string ShapeRefusal(const std::string& text) {
  return MessageOf<ConfigError>([&] { ParseShape(YamlDocument::Parse(text, "s.yaml")); });
}

TEST(Shapes, AreStrict) {
  const std::string base =
      "model_type: llama\nvocab_size: 256\nhidden_size: 64\nintermediate_size: 128\n"
      "num_hidden_layers: 2\nnum_attention_heads: 2\nmax_position_embeddings: 128\n";
  const std::string valid = base + "rope_theta: 10000.0\n";
  EXPECT_EQ(ParseShape(YamlDocument::Parse(valid, "s.yaml")).hidden_size, 64);
  EXPECT_THAT(ShapeRefusal(base), HasSubstr("rope_theta"));
  EXPECT_THAT(ShapeRefusal(valid + "hiden_size: 3\n"), HasSubstr("s.yaml:9:1: error: "));
  EXPECT_THAT(ShapeRefusal(valid + "use_cache: true\n"), HasSubstr("use_cache"));
  EXPECT_THAT(ShapeRefusal(valid + "vocab_size: 3\n"), HasSubstr("s.yaml:9:1: error: "));
  EXPECT_THAT(ShapeRefusal(valid + "head_dim: 010\n"), HasSubstr("s.yaml:9:11: error: "));
  EXPECT_THAT(ShapeRefusal(valid + "head_dim: \"32\"\n"),
              HasSubstr("s.yaml:9:11: error: head_dim"));
  EXPECT_THAT(ShapeRefusal(valid + "head_dim: 32.0\n"), HasSubstr("s.yaml:9:11: error: head_dim"));
  EXPECT_THAT(ShapeRefusal(valid + "rms_norm_eps: .nan\n"), HasSubstr("s.yaml:9:15: error: "));
  EXPECT_THAT(ShapeRefusal(valid + "mlp_bias: yes\n"), HasSubstr("s.yaml:9:11: error: mlp_bias"));
  EXPECT_THAT(ShapeRefusal(valid + "mlp_bias: true\n"), HasSubstr("s.yaml:9:11: error: mlp_bias"));
  EXPECT_THAT(ShapeRefusal(valid + "rope_scaling: {rope_type: yarn, factor: 2.0}\n"),
              HasSubstr("\"yarn\""));
  EXPECT_THAT(ShapeRefusal("- 1\n"), HasSubstr("s.yaml:1:1: error: "));
  EXPECT_THAT(ShapeRefusal("hidden_size: 64\n"), HasSubstr("model_type"));
}

TEST(LoadModel, ReadsAFolderWithAndWithoutWeights) {
  const TestFolder folder;
  const ModelConfig config = SmallModel(ModelFamily::kQwen2, true);
  folder.Write("config.json", HfConfigText(config, WeightDType::kUnknown));
  LoadedModel model = LoadModel(folder.path().string(), "");
  EXPECT_EQ(model.config, config);
  EXPECT_EQ(model.hf_folder, folder.path());
  EXPECT_EQ(model.config_file, folder.path() / "config.json");
  EXPECT_FALSE(model.has_weights);
  folder.Write("model.safetensors.index.json", "{}");
  EXPECT_TRUE(LoadModel(folder.path().string(), "").has_weights);
  model = LoadModel((folder.path() / "config.json").string(), "");
  EXPECT_EQ(model.config, config);
  EXPECT_FALSE(model.hf_folder.has_value());
  EXPECT_FALSE(model.has_weights);
}

TEST(LoadModel, ShapesAreFoundInTheInstalledConfigs) {
  const LoadedModel model =
      LoadModel("configs/models/tiny.yaml", std::string(HEARTH_SOURCE_DIR) + "/configs");
  EXPECT_EQ(model.config.vocab_size, 256);
  EXPECT_FALSE(model.hf_folder.has_value());
}

TEST(LoadModel, RefusesWhatIsNoModel) {
  const TestFolder folder;
  const auto refusal = [](const std::string& name) {
    return MessageOf<ConfigError>([&] { LoadModel(name, ""); });
  };
  EXPECT_THAT(refusal("Qwen/Qwen2.5-7B"), HasSubstr("Qwen/Qwen2.5-7B: error: there is no such"));
  EXPECT_THAT(refusal(folder.path().string()), HasSubstr("has no config.json"));
  EXPECT_THAT(refusal(folder.Write("x.txt", "").string()), HasSubstr("ending in .yaml"));
  folder.Write("config.json",
               HfConfigText(SmallModel(ModelFamily::kLlama, true), WeightDType::kUnknown));
  folder.Write("pytorch_model.bin", "");
  EXPECT_THAT(refusal(folder.path().string()), HasSubstr("safetensors"));
}

}  // namespace
}  // namespace hearth
