// The tensors that flow through a block, each once: shape, type, the segment that makes it, and
// what needs it again. Layers compute them, the plan decides where they live, stores hold them. The
// table is that of "Activations of one block" in the design of the memory model.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/core/dtype.h"
#include "kernels/core/shape.h"
#include "runtime/config/run_config.h"
#include "runtime/model/model_config.h"

namespace hearth {

// The types of a training run.
struct Precision {
  bool fp8 = false;                        // block linears in FP8
  DType storage = DType::kBF16;            // activations and working weights: f32 | bf16
  DType gradient = DType::kBF16;           // weight gradients: f32 | bf16
  DType output_gradient = DType::kF8E4M3;  // FP8 type of the gradients that enter dgrad and wgrad
  bool fast_accumulation = false;          // FP8 forward matmuls; exact where a device has no other
  bool verified_scales = false;            // FP8 scales from the step before, verified at each use
  bool fp8_head = false;                   // the LM head's matmuls in FP8; with `fp8` only
  AttentionChoice attention = AttentionChoice::kAuto;

  bool operator==(const Precision&) const = default;
};

Precision MakePrecision(const PrecisionSection& section);

// The type of the LM head's matmuls, for people: "fp8", "bf16" or "fp32".
std::string_view LmHeadType(const Precision& precision);

// The smallest piece of a block that can be recomputed, in forward order.
enum class Segment : uint8_t {
  kNorm1,
  kQkvRope,
  kAttention,
  kOutputAdd,
  kNorm2,
  kUp,
  kSwiglu,
  kDown,
};
constexpr int kSegmentCount = 8;
std::string_view Name(Segment segment);

// N: tokens of a micro-batch with padding, C hidden, F ffn, Q = (heads + 2*kv_heads) * head_dim.
enum class BlockTensor : uint8_t {
  kInput,                // [N, C] residual stream
  kRstd1,                // [N] f32
  kLn1,                  // [N, C], not under FP8
  kLn1Values,            // [N, C] f8
  kLn1Transposed,        // [C, N] f8: what wgrad reads
  kQkvProjected,         // [N, Q] before norm and RoPE, with QK norm only
  kQkRstd,               // [N, heads + kv_heads] f32, with QK norm only
  kQkv,                  // [N, heads + 2*kv_heads, head_dim] after RoPE
  kAttention,            // [N, heads, head_dim]
  kLogSumExp,            // [heads, N] f32
  kAttentionValues,      // [N, heads*head_dim] f8
  kAttentionTransposed,  // [heads*head_dim, N] f8
  kResidual,             // [N, C] input + attention
  kRstd2,                // [N] f32
  kLn2,                  // [N, C], not under FP8
  kLn2Values,            // [N, C] f8
  kLn2Transposed,        // [C, N] f8
  kGateUp,               // [N, 2F]; without FP8 backward overwrites it with its gradient
  kSwiglu,               // [N, F], not under FP8
  kSwigluValues,         // [N, F] f8
  kSwigluTransposed,     // [F, N] f8
  kOutput,               // [N, C] residual + ffn: the next unit's input
  kScales,  // [kBlockScaleCount, 4] f32 ScaleRecords, always kept: recompute reuses them
  // Backward only.
  kDOutput,            // [N, C] gradient of the output, and after the block of its input
  kDOutputValues,      // [N, C] f8
  kDOutputTransposed,  // [C, N] f8
  kDSwiglu,            // [N, F]
  kDGateUpValues,      // [N, 2F] f8
  kDGateUpTransposed,  // [2F, N] f8
  kDNorm,              // [N, C] gradient of a norm's output
  kDAttention,         // [N, heads, head_dim]
  kDQkv,               // [N, heads + 2*kv_heads, head_dim]
  kDQkvValues,         // [N, Q] f8
  kDQkvTransposed,     // [Q, N] f8
};
constexpr int kBlockTensorCount = static_cast<int>(BlockTensor::kDQkvTransposed) + 1;
std::string_view Name(BlockTensor tensor);

// Rows of kScales.
enum class BlockScale : uint8_t {
  kLn1,
  kAttention,
  kLn2,
  kSwiglu,
  kDOutput,
  kDResidual,
  kDGateUp,
  kDQkv,
};
constexpr int kBlockScaleCount = 8;
std::string_view Name(BlockScale scale);

// The FP8 type of what a scale belongs to.
DType FormatOf(BlockScale scale, const Precision& precision);

// How long a tensor must live.
enum class Lifetime : uint8_t {
  kAbsent,    // not used by this model and precision
  kBoundary,  // between units: the block's input and output, and their gradients
  kSaved,     // made by forward, read by backward, unless it is recomputed
  kAlways,    // made by forward, read by backward, never recomputed (a few bytes)
  kForward,   // inside one forward
  kBackward,  // inside one backward
};

struct BlockTensorSpec {
  BlockTensor tensor = BlockTensor::kInput;
  Lifetime lifetime = Lifetime::kAbsent;
  DType dtype = DType::kBF16;
  Shape shape;
  Segment producer = Segment::kNorm1;  // of kSaved, kAlways and kForward

  int64_t bytes() const {
    return lifetime == Lifetime::kAbsent ? 0 : shape.elements() * SizeOf(dtype);
  }
};

// Indexed by BlockTensor.
std::vector<BlockTensorSpec> BlockTensors(const ModelConfig& config, const Precision& precision,
                                          int64_t tokens);

// What one block recomputes in its backward.
struct RecomputeSet {
  uint64_t dropped = 0;           // bit per BlockTensor: not kept between forward and backward
  std::vector<Segment> segments;  // to run again before the backward, in forward order

  bool Drops(BlockTensor tensor) const { return (dropped >> static_cast<int>(tensor)) & 1u; }
  bool operator==(const RecomputeSet&) const = default;
};

// Closes the wish list over its parents: dropping a tensor runs its segment again, and the inputs
// of that segment again where they are not kept.
RecomputeSet MakeRecomputeSet(const std::vector<RecomputeItem>& items, const ModelConfig& config,
                              const Precision& precision);

// Multiply-adds count as two; of N = `tokens` rows and sequences of `sequence_len`.
double ForwardFlops(Segment segment, const ModelConfig& config, int64_t tokens,
                    int64_t sequence_len);

}  // namespace hearth
