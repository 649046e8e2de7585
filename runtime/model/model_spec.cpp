#include "runtime/model/model_spec.h"

#include <fmt/format.h>

#include <array>

namespace hearth {

namespace {

constexpr std::array<std::string_view, kParameterRoleCount> kRoleNames = {
    "embedding", "norm1", "qkv_weight",     "qkv_bias",    "q_norm",     "k_norm",
    "o_weight",  "norm2", "gate_up_weight", "down_weight", "final_norm", "head",
};

// Builds the table unit by unit; the layout rules live here and nowhere else.
class SpecBuilder {
 public:
  explicit SpecBuilder(const ModelConfig& config) { spec_.config = config; }

  void BeginUnit(UnitKind kind, int layer) {
    UnitSpec unit;
    unit.kind = kind;
    unit.layer = layer;
    unit.first_parameter = static_cast<int>(spec_.parameters.size());
    spec_.units.push_back(unit);
  }

  // A weight matrix: decayed, normally initialised.
  void Matrix(ParameterRole role, Shape shape, std::vector<HfSource> sources) {
    ParameterSpec parameter = Begin(role, shape, std::move(sources));
    parameter.init = {Init::Kind::kNormal, spec_.config.initializer_range};
    parameter.decay = true;
    // A tied head has FP8 copies, but the embedding reads the table itself.
    parameter.fp8 = role != ParameterRole::kEmbedding;
    if (role == ParameterRole::kEmbedding || role == ParameterRole::kHead) {
      parameter.stored_shape = {RoundUp(shape[0], kVocabularyAlignment), shape[1]};
    }
    Append(std::move(parameter));
  }

  void Vector(ParameterRole role, int64_t size, Init::Kind init, std::vector<HfSource> sources) {
    ParameterSpec parameter = Begin(role, {size}, std::move(sources));
    parameter.init = {init, 0.0};
    Append(std::move(parameter));
  }

  void EndUnit() {
    UnitSpec& unit = spec_.units.back();
    unit.elements = RoundUp(end_, kUnitAlignment);
    end_ = 0;
  }

  ModelSpec Take() { return std::move(spec_); }

 private:
  ParameterSpec Begin(ParameterRole role, Shape shape, std::vector<HfSource> sources) {
    const int layer = spec_.units.back().layer;
    ParameterSpec parameter;
    parameter.name = layer < 0 ? std::string(hearth::Name(role))
                               : fmt::format("blocks.{}.{}", layer, hearth::Name(role));
    parameter.role = role;
    parameter.unit = static_cast<int>(spec_.units.size()) - 1;
    parameter.tensor_id = 16 * (layer + 1) + static_cast<int>(role);
    parameter.shape = shape;
    parameter.stored_shape = shape;
    parameter.sources = std::move(sources);
    return parameter;
  }

  void Append(ParameterSpec parameter) {
    parameter.unit_offset = end_;
    parameter.stored_elements = parameter.stored_shape.elements();
    end_ = RoundUp(end_ + parameter.stored_elements, kParameterAlignment);
    UnitSpec& unit = spec_.units.back();
    ++unit.parameter_count;
    if (parameter.fp8) unit.matmul_elements = end_;
    spec_.parameters.push_back(std::move(parameter));
  }

  ModelSpec spec_;
  int64_t end_ = 0;  // elements of the unit so far
};

HfSource Whole(std::string name, Shape shape) { return {std::move(name), 0, shape[0], shape}; }

// Stacks matrices of equal columns, or vectors when columns is 0.
class RowStack {
 public:
  explicit RowStack(int64_t columns) : columns_(columns) {}
  RowStack& Add(std::string name, int64_t rows) {
    const Shape shape = columns_ == 0 ? Shape{rows} : Shape{rows, columns_};
    sources_.push_back({std::move(name), rows_, rows, shape});
    rows_ += rows;
    return *this;
  }
  std::vector<HfSource> Take() { return std::move(sources_); }

 private:
  int64_t columns_;
  int64_t rows_ = 0;
  std::vector<HfSource> sources_;
};

std::vector<HfSource> QkvSources(const ModelConfig& config, const std::string& prefix,
                                 std::string_view suffix, int64_t columns) {
  return RowStack(columns)
      .Add(fmt::format("{}self_attn.q_proj.{}", prefix, suffix), config.query_size())
      .Add(fmt::format("{}self_attn.k_proj.{}", prefix, suffix), config.key_value_size())
      .Add(fmt::format("{}self_attn.v_proj.{}", prefix, suffix), config.key_value_size())
      .Take();
}

void AddBlock(SpecBuilder& builder, const ModelConfig& config, int layer) {
  const int64_t hidden = config.hidden_size;
  const int64_t ffn = config.intermediate_size;
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  builder.BeginUnit(UnitKind::kBlock, layer);
  builder.Matrix(ParameterRole::kQkvWeight, {config.qkv_size(), hidden},
                 QkvSources(config, prefix, "weight", hidden));
  const Shape o_shape = {hidden, config.query_size()};
  builder.Matrix(ParameterRole::kOWeight, o_shape,
                 {Whole(prefix + "self_attn.o_proj.weight", o_shape)});
  builder.Matrix(ParameterRole::kGateUpWeight, {2 * ffn, hidden},
                 RowStack(hidden)
                     .Add(prefix + "mlp.gate_proj.weight", ffn)
                     .Add(prefix + "mlp.up_proj.weight", ffn)
                     .Take());
  const Shape down_shape = {hidden, ffn};
  builder.Matrix(ParameterRole::kDownWeight, down_shape,
                 {Whole(prefix + "mlp.down_proj.weight", down_shape)});
  builder.Vector(ParameterRole::kNorm1, hidden, Init::Kind::kOnes,
                 {Whole(prefix + "input_layernorm.weight", {hidden})});
  builder.Vector(ParameterRole::kNorm2, hidden, Init::Kind::kOnes,
                 {Whole(prefix + "post_attention_layernorm.weight", {hidden})});
  if (config.qkv_bias) {
    builder.Vector(ParameterRole::kQkvBias, config.qkv_size(), Init::Kind::kZeros,
                   QkvSources(config, prefix, "bias", 0));
  }
  if (config.qk_norm) {
    builder.Vector(ParameterRole::kQNorm, config.head_dim, Init::Kind::kOnes,
                   {Whole(prefix + "self_attn.q_norm.weight", {config.head_dim})});
    builder.Vector(ParameterRole::kKNorm, config.head_dim, Init::Kind::kOnes,
                   {Whole(prefix + "self_attn.k_norm.weight", {config.head_dim})});
  }
  builder.EndUnit();
}

TrainingFlops BlockFlops(const ModelConfig& config, int64_t sequence_len) {
  const auto hidden = static_cast<double>(config.hidden_size);
  const auto query = static_cast<double>(config.query_size());
  const double matmul_rows = 3.0 * static_cast<double>(config.intermediate_size) + query +
                             static_cast<double>(config.qkv_size());
  return {.blocks = 6.0 * hidden * matmul_rows,
          .head = 0.0,
          .attention = 6.0 * query * static_cast<double>(sequence_len)};
}

TrainingFlops HeadFlops(const ModelConfig& config) {
  return {.blocks = 0.0,
          .head = 6.0 * static_cast<double>(config.vocab_size) *
                  static_cast<double>(config.hidden_size),
          .attention = 0.0};
}

}  // namespace

std::string_view Name(ParameterRole role) { return kRoleNames[static_cast<size_t>(role)]; }

std::span<const ParameterSpec> ModelSpec::UnitParameters(int unit) const {
  CHECK(unit >= 0 && unit < static_cast<int>(units.size()), "unit {} of {}", unit, units.size());
  const UnitSpec& range = units[static_cast<size_t>(unit)];
  return std::span(parameters)
      .subspan(static_cast<size_t>(range.first_parameter),
               static_cast<size_t>(range.parameter_count));
}

const ParameterSpec* ModelSpec::Find(int unit, ParameterRole role) const {
  for (const ParameterSpec& parameter : UnitParameters(unit)) {
    if (parameter.role == role) return &parameter;
  }
  return nullptr;
}

const ParameterSpec& ModelSpec::HeadMatrix() const {
  const ParameterSpec* head = Find(head_unit(), ParameterRole::kHead);
  return head != nullptr ? *head : parameters.front();
}

int64_t ModelSpec::padded_vocab_size() const {
  return RoundUp(config.vocab_size, kVocabularyAlignment);
}

int64_t ModelSpec::ParameterCount() const {
  int64_t count = 0;
  for (const ParameterSpec& parameter : parameters) count += parameter.elements();
  return count;
}

int64_t ModelSpec::StoredElements() const {
  int64_t count = 0;
  for (const UnitSpec& unit : units) count += unit.elements;
  return count;
}

ModelSpec BuildModelSpec(const ModelConfig& config) {
  ValidateModelConfig(config, [](std::string_view) { return std::string("model"); });
  SpecBuilder builder(config);
  const Shape vocabulary_shape = {config.vocab_size, config.hidden_size};
  builder.BeginUnit(UnitKind::kEmbedding, -1);
  builder.Matrix(ParameterRole::kEmbedding, vocabulary_shape,
                 {Whole("model.embed_tokens.weight", vocabulary_shape)});
  builder.EndUnit();
  for (int layer = 0; layer < config.num_layers; ++layer) AddBlock(builder, config, layer);
  builder.BeginUnit(UnitKind::kHead, -1);
  if (!config.tie_word_embeddings) {
    builder.Matrix(ParameterRole::kHead, vocabulary_shape,
                   {Whole("lm_head.weight", vocabulary_shape)});
  }
  builder.Vector(ParameterRole::kFinalNorm, config.hidden_size, Init::Kind::kOnes,
                 {Whole("model.norm.weight", {config.hidden_size})});
  builder.EndUnit();
  return builder.Take();
}

TrainingFlops FlopsPerToken(const ModelConfig& config, int64_t sequence_len) {
  const TrainingFlops block = BlockFlops(config, sequence_len);
  const auto layers = static_cast<double>(config.num_layers);
  return {.blocks = layers * block.blocks,
          .head = HeadFlops(config).head,
          .attention = layers * block.attention};
}

TrainingFlops FlopsPerToken(const ModelSpec& spec, int unit, int64_t sequence_len) {
  CHECK(unit >= 0 && unit <= spec.head_unit(), "unit {} of {}", unit, spec.units.size());
  switch (spec.units[static_cast<size_t>(unit)].kind) {
    case UnitKind::kEmbedding:
      return {};
    case UnitKind::kBlock:
      return BlockFlops(spec.config, sequence_len);
    case UnitKind::kHead:
      return HeadFlops(spec.config);
  }
  return {};
}

}  // namespace hearth
