#include "runtime/model/model_spec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <set>
#include <string>

#include "kernels/core/error.h"
#include "tests/unit/model/test_models.h"

namespace hearth {
namespace {

struct FamilyCase {
  ModelFamily family;
  bool tied;
};

class ModelSpecTest : public testing::TestWithParam<FamilyCase> {
 protected:
  ModelSpec spec_ = BuildModelSpec(SmallModel(GetParam().family, GetParam().tied));
};

INSTANTIATE_TEST_SUITE_P(
    Families, ModelSpecTest,
    testing::Values(FamilyCase{ModelFamily::kLlama, false}, FamilyCase{ModelFamily::kLlama, true},
                    FamilyCase{ModelFamily::kMistral, false}, FamilyCase{ModelFamily::kQwen2, true},
                    FamilyCase{ModelFamily::kQwen2, false}, FamilyCase{ModelFamily::kQwen3, true},
                    FamilyCase{ModelFamily::kQwen3, false}),
    [](const auto& test_info) {
      return std::string(Name(test_info.param.family)) + (test_info.param.tied ? "Tied" : "Untied");
    });

TEST_P(ModelSpecTest, UnitsTileTheTable) {
  ASSERT_EQ(spec_.units.size(), 4u);
  EXPECT_EQ(spec_.units[0].kind, UnitKind::kEmbedding);
  EXPECT_EQ(spec_.units[1].kind, UnitKind::kBlock);
  EXPECT_EQ(spec_.units[2].layer, 1);
  EXPECT_EQ(spec_.units[3].kind, UnitKind::kHead);
  EXPECT_EQ(spec_.block_unit(1), 2);
  EXPECT_EQ(spec_.head_unit(), 3);
  int next = 0;
  for (int u = 0; u < 4; ++u) {
    const UnitSpec& unit = spec_.units[static_cast<size_t>(u)];
    EXPECT_EQ(unit.first_parameter, next);
    next += unit.parameter_count;
    for (const ParameterSpec& parameter : spec_.UnitParameters(u)) EXPECT_EQ(parameter.unit, u);
  }
  EXPECT_EQ(next, static_cast<int>(spec_.parameters.size()));
}

TEST_P(ModelSpecTest, LayoutIsAlignedDisjointAndMatricesFirst) {
  for (int u = 0; u < 4; ++u) {
    const UnitSpec& unit = spec_.units[static_cast<size_t>(u)];
    int64_t end = 0;
    bool in_prefix = true;
    int64_t matmul_end = 0;
    for (const ParameterSpec& parameter : spec_.UnitParameters(u)) {
      EXPECT_EQ(parameter.unit_offset % 1024, 0) << parameter.name;
      EXPECT_GE(parameter.unit_offset, end) << parameter.name;
      EXPECT_LT(parameter.unit_offset - end, 1024) << parameter.name;
      EXPECT_EQ(parameter.stored_elements, parameter.stored_shape.elements());
      EXPECT_TRUE(in_prefix || !parameter.fp8) << parameter.name;
      in_prefix = parameter.fp8;
      end = parameter.unit_offset + parameter.stored_elements;
      if (parameter.fp8) matmul_end = end;
    }
    EXPECT_EQ(unit.elements % 4096, 0);
    EXPECT_GE(unit.elements, end);
    EXPECT_LT(unit.elements - end, 4096 + 1024);
    EXPECT_EQ(unit.matmul_elements, RoundUp(matmul_end, 1024));
  }
}

TEST_P(ModelSpecTest, SourcesTileEveryParameter) {
  std::set<std::string> names;
  for (const ParameterSpec& parameter : spec_.parameters) {
    int64_t row = 0;
    for (const HfSource& source : parameter.sources) {
      EXPECT_TRUE(names.insert(source.name).second) << source.name;
      EXPECT_EQ(source.row_begin, row) << source.name;
      EXPECT_EQ(source.rows, source.shape[0]) << source.name;
      EXPECT_EQ(source.shape.rank(), parameter.shape.rank()) << source.name;
      if (source.shape.rank() == 2) {
        EXPECT_EQ(source.shape[1], parameter.shape[1]);
      }
      row += source.rows;
    }
    EXPECT_EQ(row, parameter.shape[0]) << parameter.name;
  }
  EXPECT_EQ(names.contains("lm_head.weight"), !GetParam().tied);
}

TEST_P(ModelSpecTest, OnlyVocabulariesArePadded) {
  for (const ParameterSpec& parameter : spec_.parameters) {
    const bool vocabulary =
        parameter.role == ParameterRole::kEmbedding || parameter.role == ParameterRole::kHead;
    EXPECT_EQ(parameter.stored_shape, vocabulary ? (Shape{48, 20}) : parameter.shape)
        << parameter.name;
  }
  EXPECT_EQ(spec_.padded_vocab_size(), 48);
}

TEST_P(ModelSpecTest, TensorIdsAreUniqueAndSmall) {
  std::set<int> ids;
  for (const ParameterSpec& parameter : spec_.parameters) {
    EXPECT_TRUE(ids.insert(parameter.tensor_id).second) << parameter.name;
    EXPECT_LT(parameter.tensor_id, 1 << 16);
    EXPECT_GE(parameter.tensor_id, 0);
  }
}

TEST_P(ModelSpecTest, DecayAndInitFollowTheKindOfParameter) {
  for (const ParameterSpec& parameter : spec_.parameters) {
    const bool matrix = parameter.shape.rank() == 2;
    EXPECT_EQ(parameter.decay, matrix) << parameter.name;
    const bool bias = parameter.role == ParameterRole::kQkvBias;
    EXPECT_EQ(parameter.init.kind, matrix ? Init::Kind::kNormal
                                   : bias ? Init::Kind::kZeros
                                          : Init::Kind::kOnes);
    EXPECT_EQ(parameter.fp8, matrix && parameter.role != ParameterRole::kEmbedding);
  }
}

TEST_P(ModelSpecTest, RolesOfAFamily) {
  const bool qwen2 = GetParam().family == ModelFamily::kQwen2;
  const bool qwen3 = GetParam().family == ModelFamily::kQwen3;
  EXPECT_EQ(spec_.Find(1, ParameterRole::kQkvBias) != nullptr, qwen2);
  EXPECT_EQ(spec_.Find(2, ParameterRole::kQNorm) != nullptr, qwen3);
  EXPECT_EQ(spec_.Find(2, ParameterRole::kKNorm) != nullptr, qwen3);
  EXPECT_EQ(spec_.Find(3, ParameterRole::kHead) != nullptr, !GetParam().tied);
  EXPECT_EQ(spec_.HeadMatrix().role,
            GetParam().tied ? ParameterRole::kEmbedding : ParameterRole::kHead);
  EXPECT_EQ(spec_.Find(0, ParameterRole::kNorm1), nullptr);
  EXPECT_EQ(spec_.Find(1, ParameterRole::kQkvWeight)->shape, (Shape{40, 20}));
  EXPECT_EQ(spec_.Find(1, ParameterRole::kOWeight)->shape, (Shape{20, 24}));
  EXPECT_EQ(spec_.Find(1, ParameterRole::kGateUpWeight)->shape, (Shape{26, 20}));
  EXPECT_EQ(spec_.Find(1, ParameterRole::kDownWeight)->shape, (Shape{20, 13}));
}

TEST_P(ModelSpecTest, UnitFlopsAddUp) {
  TrainingFlops sum;
  for (int u = 0; u < 4; ++u) {
    const TrainingFlops unit = FlopsPerToken(spec_, u, 64);
    sum.blocks += unit.blocks;
    sum.head += unit.head;
    sum.attention += unit.attention;
  }
  const TrainingFlops whole = FlopsPerToken(spec_.config, 64);
  EXPECT_EQ(sum.blocks, whole.blocks);
  EXPECT_EQ(sum.head, whole.head);
  EXPECT_EQ(sum.attention, whole.attention);
  EXPECT_EQ(whole.total(), whole.blocks + whole.head + whole.attention);
}

// The published names, as transformers writes them.
TEST(ModelSpec, HuggingFaceNamesOfABlock) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kQwen2, true));
  std::set<std::string> names;
  for (const ParameterSpec& parameter : spec.UnitParameters(2)) {
    for (const HfSource& source : parameter.sources) names.insert(source.name);
  }
  const std::set<std::string> expected = {
      "model.layers.1.input_layernorm.weight",  "model.layers.1.post_attention_layernorm.weight",
      "model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.bias",
      "model.layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.k_proj.bias",
      "model.layers.1.self_attn.v_proj.weight", "model.layers.1.self_attn.v_proj.bias",
      "model.layers.1.self_attn.o_proj.weight", "model.layers.1.mlp.gate_proj.weight",
      "model.layers.1.mlp.up_proj.weight",      "model.layers.1.mlp.down_proj.weight"};
  EXPECT_EQ(names, expected);
}

// The ids are part of every random draw of a run: changing them changes all results.
TEST(ModelSpec, TensorIdsStayWhatTheyAre) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kQwen3, false));
  EXPECT_EQ(spec.Find(0, ParameterRole::kEmbedding)->tensor_id, 0);
  EXPECT_EQ(spec.Find(1, ParameterRole::kNorm1)->tensor_id, 17);
  EXPECT_EQ(spec.Find(2, ParameterRole::kDownWeight)->tensor_id, 41);
  EXPECT_EQ(spec.Find(3, ParameterRole::kFinalNorm)->tensor_id, 10);
  EXPECT_EQ(spec.Find(3, ParameterRole::kHead)->tensor_id, 11);
}

TEST(ModelSpec, ImpossibleConfigurationsAreRefused) {
  const auto refused = [](auto change) {
    ModelConfig config = SmallModel(ModelFamily::kLlama, true);
    change(config);
    return MessageOf<ConfigError>([&] { BuildModelSpec(config); });
  };
  EXPECT_EQ(refused([](ModelConfig& c) { c.num_kv_heads = 4; }),
            "model: error: num_attention_heads is 6; it must be a multiple of num_key_value_heads "
            "(4)");
  EXPECT_NE(refused([](ModelConfig& c) { c.head_dim = 5; }).find("even"), std::string::npos);
  EXPECT_NE(refused([](ModelConfig& c) { c.vocab_size = 0; }).find("vocab_size"),
            std::string::npos);
  EXPECT_NE(refused([](ModelConfig& c) { c.num_layers = 4095; }).find("num_hidden_layers"),
            std::string::npos);
  EXPECT_NE(refused([](ModelConfig& c) { c.rms_norm_eps = std::nan(""); }).find("rms_norm_eps"),
            std::string::npos);
  EXPECT_NE(refused([](ModelConfig& c) { c.rope_theta = 0.5; }).find("rope_theta"),
            std::string::npos);
  EXPECT_NE(refused([](ModelConfig& c) { c.hidden_size = int64_t{1} << 40; }).find("hidden_size"),
            std::string::npos);
}

TEST(ModelSpec, LayersUpToTheLimitHaveTensorIds) {
  ModelConfig config = SmallModel(ModelFamily::kQwen3, false);
  config.num_layers = 4094;
  const ModelSpec spec = BuildModelSpec(config);
  int largest = 0;
  for (const ParameterSpec& parameter : spec.parameters) {
    largest = std::max(largest, parameter.tensor_id);
  }
  EXPECT_LT(largest, 1 << 16);
}

// Computed by transformers 5.23 (LlamaRotaryEmbedding.inv_freq), head_dim 64: every fourth value.
struct RopeCase {
  RopeScaling scaling;
  double theta;
  float expected[8];
};

TEST(RopeInverseFrequencies, MatchTransformers) {
  const RopeCase cases[] = {
      {{RopeScalingKind::kNone, 1.0, 1.0, 4.0, 0},
       1e6,
       {0x1.0p+0f, 0x1.6c310ep-3f, 0x1.030dc6p-5f, 0x1.708938p-8f, 0x1.0624dep-10f, 0x1.74eea6p-13f,
        0x1.094564p-15f, 0x1.796182p-18f}},
      {{RopeScalingKind::kLinear, 3.0, 1.0, 4.0, 0},
       1e4,
       {0x1.555556p-2f, 0x1.afc19ep-4f, 0x1.111112p-5f, 0x1.5967b2p-7f, 0x1.b4e81ap-9f,
        0x1.1452f6p-10f, 0x1.5d867ep-12f, 0x1.ba1e56p-14f}},
      {{RopeScalingKind::kLlama3, 32.0, 1.0, 4.0, 8192},
       5e5,
       {0x1.0p+0f, 0x1.8d2760p-3f, 0x1.341190p-5f, 0x1.ddee9ep-8f, 0x1.c26c40p-12f, 0x1.1f91f0p-17f,
        0x1.be2188p-20f, 0x1.5a0f4ep-22f}},
  };
  for (const RopeCase& rope : cases) {
    ModelConfig config = SmallModel(ModelFamily::kLlama, true);
    config.head_dim = 64;
    config.rope_theta = rope.theta;
    config.rope_scaling = rope.scaling;
    const std::vector<float> frequencies = RopeInverseFrequencies(config);
    ASSERT_EQ(frequencies.size(), 32u);
    for (size_t i = 0; i < 8; ++i) {
      const double error = std::abs(double{frequencies[4 * i]} - double{rope.expected[i]});
      // Two units in the last place: torch's vectorised power is not always correctly rounded.
      EXPECT_TRUE(error <= 2.4e-7 * rope.expected[i])
          << "theta " << rope.theta << " pair " << 4 * i << ": " << frequencies[4 * i];
    }
  }
}

// The formula of the blend in double, independently of the order of operations above.
TEST(RopeInverseFrequencies, Llama3BlendsBetweenTheWavelengths) {
  ModelConfig config = SmallModel(ModelFamily::kLlama, true);
  config.head_dim = 128;
  config.rope_theta = 500000.0;
  config.rope_scaling = {RopeScalingKind::kLlama3, 8.0, 1.0, 4.0, 8192};
  const std::vector<float> frequencies = RopeInverseFrequencies(config);
  int kept = 0;
  int stretched = 0;
  int blended = 0;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double plain = std::pow(500000.0, -2.0 * static_cast<double>(i) / 128.0);
    const double turns = 8192.0 * plain / (2.0 * std::numbers::pi);
    double expected = plain;
    if (turns < 1.0) {
      expected = plain / 8.0;
      ++stretched;
    } else if (turns <= 4.0) {
      const double share = (turns - 1.0) / 3.0;
      expected = plain * (share + (1.0 - share) / 8.0);
      ++blended;
    } else {
      ++kept;
    }
    EXPECT_TRUE(std::abs(frequencies[i] - expected) <= 2e-6 * expected) << i;
  }
  EXPECT_GT(kept, 20);
  EXPECT_GT(stretched, 20);
  EXPECT_GT(blended, 3);
}

}  // namespace
}  // namespace hearth
