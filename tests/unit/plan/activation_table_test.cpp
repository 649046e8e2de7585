// The table of a block's tensors against the formulas of the memory model, and the closure of what
// is recomputed.
#include "runtime/model/activation_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/unit/plan/plan_test_support.h"

namespace hearth {
namespace {

using test::SmallConfig;

constexpr Precision kFp8{.fp8 = true, .storage = DType::kBF16, .gradient = DType::kBF16};
constexpr Precision kBf16{.fp8 = false, .storage = DType::kBF16, .gradient = DType::kBF16};
constexpr int64_t kTokens = 64;

ModelConfig Qwen25Of7B() {
  ModelConfig config;
  config.family = ModelFamily::kQwen2;
  config.vocab_size = 152064;
  config.hidden_size = 3584;
  config.intermediate_size = 18944;
  config.num_layers = 28;
  config.num_heads = 28;
  config.num_kv_heads = 4;
  config.head_dim = 128;
  config.max_position_embeddings = 32768;
  config.qkv_bias = true;
  return config;
}

ModelConfig LlamaOf(int64_t c, int64_t f, int64_t heads, int64_t kv_heads, int64_t d) {
  ModelConfig config = Qwen25Of7B();
  config.family = ModelFamily::kLlama;
  config.qkv_bias = false;
  config.hidden_size = c;
  config.intermediate_size = f;
  config.num_heads = heads;
  config.num_kv_heads = kv_heads;
  config.head_dim = d;
  return config;
}

// What lives between forward and backward: the block's input, and all that is saved and not
// dropped; the scales, a few bytes a layer whatever the tokens, left out.
int64_t KeptBytesPerToken(const ModelConfig& config, const Precision& precision,
                          const RecomputeSet& recompute = {}) {
  int64_t bytes = 0;
  for (const BlockTensorSpec& tensor : BlockTensors(config, precision, kTokens)) {
    if (tensor.tensor == BlockTensor::kScales) continue;
    const bool kept = tensor.tensor == BlockTensor::kInput ||
                      tensor.lifetime == Lifetime::kAlways ||
                      (tensor.lifetime == Lifetime::kSaved && !recompute.Drops(tensor.tensor));
    if (kept) bytes += tensor.bytes();
  }
  EXPECT_EQ(bytes % kTokens, 0);
  return bytes / kTokens;
}

TEST(MakePrecision, TheHeadIsInFp8OnlyWhereTheBlocksAre) {
  const auto head = [](ComputeDtype compute, bool fp8) {
    return std::string(LmHeadType(MakePrecision({.compute_dtype = compute, .fp8_lm_head = fp8})));
  };
  EXPECT_EQ(head(ComputeDtype::kFp8, true), "fp8");
  EXPECT_EQ(head(ComputeDtype::kFp8, false), "bf16");
  EXPECT_EQ(head(ComputeDtype::kBf16, true), "bf16");
  EXPECT_EQ(head(ComputeDtype::kFp32, false), "fp32");
}

TEST(ActivationTable, Qwen25Of7BKeepsWhatTheMemoryModelSays) {
  EXPECT_EQ(KeptBytesPerToken(Qwen25Of7B(), kFp8), 132728);
}

TEST(ActivationTable, KeptBytesFollowTheFormulas) {
  for (const ModelConfig& config : {Qwen25Of7B(), LlamaOf(4096, 14336, 32, 8, 128),
                                    LlamaOf(48, 112, 4, 2, 16), LlamaOf(64, 96, 4, 4, 32)}) {
    const int64_t c = config.hidden_size, f = config.intermediate_size, h = config.num_heads;
    const int64_t dq = h * config.head_dim, dk = config.num_kv_heads * config.head_dim;
    EXPECT_EQ(KeptBytesPerToken(config, kFp8), 6 * c + 4 * dq + 4 * dk + 5 * f + 4 * h + 8);
    EXPECT_EQ(KeptBytesPerToken(config, kBf16), 8 * c + 4 * dq + 4 * dk + 6 * f + 4 * h + 8);
  }
}

TEST(ActivationTable, QkNormAddsTheProjectionBeforeIt) {
  const ModelConfig with = SmallConfig();
  ModelConfig without = with;
  without.qk_norm = false;
  const int64_t dq = with.num_heads * with.head_dim, dk = with.num_kv_heads * with.head_dim;
  for (const Precision& precision : {kFp8, kBf16}) {
    const int64_t added =
        KeptBytesPerToken(with, precision) - KeptBytesPerToken(without, precision);
    // Values are kept beside q and k (one fused tensor): 2*Dk more than q and k alone.
    EXPECT_EQ(added, 2 * (dq + dk) + 2 * dk + 4 * (with.num_heads + with.num_kv_heads));
  }
}

TEST(ActivationTable, ABlockThatIsRecomputedKeepsOnlyItsInputAndStatistics) {
  for (const Precision& precision : {kFp8, kBf16}) {
    const ModelConfig config = Qwen25Of7B();
    const RecomputeSet set = MakeRecomputeSet({RecomputeItem::kBlock}, config, precision);
    EXPECT_EQ(KeptBytesPerToken(config, precision, set),
              2 * config.hidden_size + 4 * config.num_heads + 8);
  }
}

// The tensors that a segment reads and writes, told again here.
struct Flow {
  std::vector<BlockTensor> reads, writes;
};
Flow FlowOf(Segment segment, bool fp8) {
  using enum BlockTensor;
  switch (segment) {
    case Segment::kNorm1:
      return {{kInput}, {kRstd1, kLn1, kLn1Values, kLn1Transposed}};
    case Segment::kQkvRope:
      return {{fp8 ? kLn1Values : kLn1}, {kQkvProjected, kQkRstd, kQkv}};
    case Segment::kAttention:
      return {{kQkv}, {BlockTensor::kAttention, kLogSumExp}};
    case Segment::kOutputAdd:
      return {{BlockTensor::kAttention, kInput}, {kAttentionValues, kResidual}};
    case Segment::kNorm2:
      return {{kResidual}, {kRstd2, kLn2, kLn2Values, kLn2Transposed}};
    case Segment::kUp:
      return {{fp8 ? kLn2Values : kLn2}, {kGateUp}};
    case Segment::kSwiglu:
      return {{kGateUp}, {BlockTensor::kSwiglu, kSwigluValues, kSwigluTransposed}};
    case Segment::kDown:
      return {{fp8 ? kSwigluValues : BlockTensor::kSwiglu, kResidual}, {kOutput}};
  }
  return {};
}

// Every subset of the six wishes.
TEST(ActivationTable, RecomputeSetsAreClosedAndMinimal) {
  for (const Precision& precision : {kFp8, kBf16}) {
    for (const ModelConfig& config : {SmallConfig(), Qwen25Of7B()}) {
      const auto table = BlockTensors(config, precision, kTokens);
      for (int wishes = 0; wishes < 64; ++wishes) {
        std::vector<RecomputeItem> items;
        for (int i = 0; i < 6; ++i) {
          if ((wishes >> i & 1) != 0) items.push_back(static_cast<RecomputeItem>(i));
        }
        const RecomputeSet set = MakeRecomputeSet(items, config, precision);
        // There when the backward of the block begins: what was kept, then what is made again.
        std::set<BlockTensor> there;
        for (const BlockTensorSpec& tensor : table) {
          if (tensor.tensor == BlockTensor::kInput || tensor.lifetime == Lifetime::kAlways ||
              (tensor.lifetime == Lifetime::kSaved && !set.Drops(tensor.tensor))) {
            there.insert(tensor.tensor);
          }
          if (set.Drops(tensor.tensor)) {
            EXPECT_EQ(tensor.lifetime, Lifetime::kSaved) << wishes;
          }
        }
        EXPECT_TRUE(std::is_sorted(set.segments.begin(), set.segments.end())) << wishes;
        for (Segment segment : set.segments) {
          const Flow flow = FlowOf(segment, precision.fp8);
          for (BlockTensor input : flow.reads) {
            EXPECT_TRUE(there.contains(input)) << wishes << " " << Name(input);
          }
          there.insert(flow.writes.begin(), flow.writes.end());
        }
        for (const BlockTensorSpec& tensor : table) {
          if (tensor.lifetime != Lifetime::kSaved) continue;
          EXPECT_TRUE(there.contains(tensor.tensor)) << wishes << " " << Name(tensor.tensor);
        }
        EXPECT_EQ(set.segments.empty(), set.dropped == 0) << wishes;
        // The output is never needed again.
        EXPECT_EQ(std::count(set.segments.begin(), set.segments.end(), Segment::kDown), 0);
      }
    }
  }
}

TEST(ActivationTable, NoWishIsIgnored) {
  for (const Precision& precision : {kFp8, kBf16}) {
    for (int i = 0; i < 6; ++i) {
      const RecomputeSet set =
          MakeRecomputeSet({static_cast<RecomputeItem>(i)}, SmallConfig(), precision);
      EXPECT_NE(set.dropped, 0u) << i;
    }
  }
}

TEST(ActivationTable, NamesAreUniqueAndRowsLieAtTheirTensor) {
  std::set<std::string_view> names;
  const auto table = BlockTensors(SmallConfig(), kFp8, kTokens);
  ASSERT_EQ(table.size(), static_cast<size_t>(kBlockTensorCount));
  for (int i = 0; i < kBlockTensorCount; ++i) {
    const auto tensor = static_cast<BlockTensor>(i);
    EXPECT_EQ(table[static_cast<size_t>(i)].tensor, tensor);
    EXPECT_FALSE(Name(tensor).empty()) << i;
    EXPECT_TRUE(names.insert(Name(tensor)).second) << Name(tensor);
  }
  EXPECT_EQ(Name(BlockTensor::kDNorm), "d_norm");
  EXPECT_EQ(Name(BlockTensor::kDQkvTransposed), "d_qkv_transposed");
  std::set<std::string_view> segments;
  for (int i = 0; i < kSegmentCount; ++i) segments.insert(Name(static_cast<Segment>(i)));
  EXPECT_EQ(segments.size(), static_cast<size_t>(kSegmentCount));
  EXPECT_FALSE(segments.contains(""));
  EXPECT_EQ(Name(Segment::kDown), "down");
}

TEST(ActivationTable, EveryTensorIsUsedByAtLeastOnePrecision) {
  ModelConfig config = SmallConfig();
  std::set<BlockTensor> used;
  for (const Precision& precision : {kFp8, kBf16}) {
    for (const BlockTensorSpec& tensor : BlockTensors(config, precision, kTokens)) {
      if (tensor.lifetime != Lifetime::kAbsent) used.insert(tensor.tensor);
    }
  }
  EXPECT_EQ(used.size(), static_cast<size_t>(kBlockTensorCount));
}

TEST(ActivationTable, ForwardFlopsAreTwoAMultiplyAdd) {
  const ModelConfig config = LlamaOf(48, 112, 4, 2, 16);
  double linear = 0;
  for (int i = 0; i < kSegmentCount; ++i) {
    const auto segment = static_cast<Segment>(i);
    if (segment != Segment::kAttention) linear += ForwardFlops(segment, config, kTokens, 32);
  }
  // q, k, v: 48 x 128; o: 64 x 48; gate, up: 48 x 224; down: 112 x 48.
  EXPECT_EQ(linear, 2.0 * kTokens * (48 * 128 + 64 * 48 + 48 * 224 + 112 * 48));
  // Scores and their product with v, half of the square: 2 * 2 * T/2 * heads*head_dim a token.
  EXPECT_EQ(ForwardFlops(Segment::kAttention, config, kTokens, 32), kTokens * 2.0 * 32 * 64);
}

}  // namespace
}  // namespace hearth
