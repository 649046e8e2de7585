// WHAT the network is: every parameter once, in one table. Allocation, sharding, the optimizer,
// checkpoints, export and the planner are loops over it. Pure data.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/shape.h"
#include "runtime/model/model_config.h"

namespace hearth {

// The values are part of tensor ids and so of every random draw: append only.
enum class ParameterRole : uint8_t {
  kEmbedding = 0,     // [vocab, hidden]
  kNorm1 = 1,         // [hidden]
  kQkvWeight = 2,     // [(heads + 2*kv_heads)*head_dim, hidden]: q rows, k rows, v rows
  kQkvBias = 3,       // [(heads + 2*kv_heads)*head_dim]
  kQNorm = 4,         // [head_dim]
  kKNorm = 5,         // [head_dim]
  kOWeight = 6,       // [hidden, heads*head_dim]
  kNorm2 = 7,         // [hidden]
  kGateUpWeight = 8,  // [2*intermediate, hidden]: gate rows, then up rows
  kDownWeight = 9,    // [hidden, intermediate]
  kFinalNorm = 10,    // [hidden]
  kHead = 11,         // [vocab, hidden]; absent when tied: the head then reads kEmbedding
};
constexpr int kParameterRoleCount = 12;

// "embedding", "norm1", "qkv_weight", ...
std::string_view Name(ParameterRole role);

struct Init {
  enum class Kind : uint8_t { kNormal, kOnes, kZeros };
  Kind kind = Kind::kZeros;
  double std = 0.0;  // of kNormal, mean 0
};

// A Hugging Face tensor and the rows of the (fused) parameter it fills.
struct HfSource {
  std::string name;       // "model.layers.0.self_attn.q_proj.weight"
  int64_t row_begin = 0;  // first row of the parameter's logical tensor
  int64_t rows = 0;       // equals shape[0]
  Shape shape;            // of the Hugging Face tensor
};

// The logical tensor is what Hugging Face knows. The stored tensor adds zero rows behind it
// (vocabularies, to a multiple of 16); both are row-major with the same columns, so that a logical
// element has the same index in both.
struct ParameterSpec {
  std::string name;  // "embedding", "blocks.0.qkv_weight", "final_norm", "head"
  ParameterRole role = ParameterRole::kEmbedding;
  int unit = 0;
  int tensor_id = 0;  // unique and below 2^16; 16*(layer + 1) + role inside a block, else role
  Shape shape;
  Shape stored_shape;
  Init init;
  bool decay = false;           // matrices and embeddings
  bool fp8 = false;             // a block linear or a head of its own: may be kept in FP8 alone
  int64_t unit_offset = 0;      // elements from the start of the unit, a multiple of 1024
  int64_t stored_elements = 0;  // elements of stored_shape
  std::vector<HfSource> sources;

  int64_t elements() const { return shape.elements(); }
  // Elements of one row; 1 for a vector.
  int64_t columns() const { return shape.rank() == 2 ? shape[1] : 1; }
};

enum class UnitKind : uint8_t { kEmbedding, kBlock, kHead };

// What is stored, moved and gathered as one contiguous range. Gaps between parameters and behind
// the last one are zeros. Inside a block the FP8-able matrices come first; the head's unit starts
// with its matrix (when untied).
struct UnitSpec {
  UnitKind kind = UnitKind::kBlock;
  int layer = -1;  // of a block, else -1
  int first_parameter = 0;
  int parameter_count = 0;
  int64_t elements = 0;         // a multiple of 4096
  int64_t matmul_elements = 0;  // the prefix that holds all `fp8` parameters, a multiple of 1024
};

constexpr int64_t kParameterAlignment =
    1024;                                     // elements; also the block of the norm's partial sums
constexpr int64_t kUnitAlignment = 4096;      // elements
constexpr int64_t kVocabularyAlignment = 16;  // rows

// Dense training FLOPs of one token, forward and backward, recompute not counted (design formulas;
// a multiply-add counts as two). Causal attention counts half of the square.
struct TrainingFlops {
  double blocks = 0;     // at the rate of the matmul type
  double head = 0;       // at the rate of bf16
  double attention = 0;  // at the rate of bf16
  double total() const { return blocks + head + attention; }
};

struct ModelSpec {
  ModelConfig config;
  std::vector<ParameterSpec> parameters;  // ordered by unit, then by unit_offset
  std::vector<UnitSpec> units;            // embedding, blocks 0..L-1, head

  int embedding_unit() const { return 0; }
  int block_unit(int layer) const { return layer + 1; }
  int head_unit() const { return static_cast<int>(units.size()) - 1; }
  // The unit's parameters; valid as long as the spec.
  std::span<const ParameterSpec> UnitParameters(int unit) const;
  // The parameter of a role in a unit; null when the unit has none.
  const ParameterSpec* Find(int unit, ParameterRole role) const;
  // The matrix of the LM head: kHead, or the embedding when tied.
  const ParameterSpec& HeadMatrix() const;
  int64_t padded_vocab_size() const;

  // Elements of the logical tensors, what people call the model's size; a tied head counts once.
  int64_t ParameterCount() const;
  // Elements of all units with every padding.
  int64_t StoredElements() const;
};

// ConfigError when the configuration does not pass ValidateModelConfig.
ModelSpec BuildModelSpec(const ModelConfig& config);

// Of the whole model, per token of sequences of `sequence_len`.
TrainingFlops FlopsPerToken(const ModelConfig& config, int64_t sequence_len);
// Of one unit.
TrainingFlops FlopsPerToken(const ModelSpec& spec, int unit, int64_t sequence_len);

}  // namespace hearth
