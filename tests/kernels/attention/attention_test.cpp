#include "kernels/api/attention.h"

#include <cmath>
#include <functional>

#include "tests/kernels/attention/attention_oracle.h"
#include "tests/kernels/attention/attention_tensors.h"
#include "tests/support/kernel_test.h"

namespace hearth::test {
namespace {

// Sequences longer than a block, of one token, empty and short; an unused tail of offsets; padding.
AttentionCase Ragged(DType dtype, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  return {.shape = {.heads = heads,
                    .kv_heads = kv_heads,
                    .head_dim = head_dim,
                    .softmax_scale = 1.0f / std::sqrt(static_cast<float>(head_dim))},
          .offsets = {0, 70, 71, 71, 201, 204, 204, 204},
          .tokens = 211,
          .dtype = dtype};
}

class AttentionTest : public KernelTest {
 protected:
  void ExpectRight(AttentionCase c, double deviation = 1.0) {
    // Tensor cores take probabilities and gradients of scores as bf16, which those of a GPU are
    // used for; the reference keeps them in fp32.
    if (GetParam() != "cpu" && c.dtype == DType::kBF16) {
      c.factor_roundoff = UnitRoundoff(DType::kBF16);
    }
    ExpectAttention(rig_, random_, c, deviation);
  }
};

TEST_P(AttentionTest, EqualsTheFormulas) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(Name(dtype));
    ExpectRight(Ragged(dtype, 4, 2, 16));
    ExpectRight(Ragged(dtype, 3, 3, 24));
    ExpectRight(Ragged(dtype, 6, 1, 8));
    ExpectRight(Ragged(dtype, 1, 1, 64));
    ExpectRight(Ragged(dtype, 4, 2, 64));
    ExpectRight(Ragged(dtype, 3, 1, 128));
    ExpectRight(Ragged(dtype, 1, 1, 160));
  }
}

TEST_P(AttentionTest, BlockBoundaries) {
  for (const int32_t length : {1, 63, 64, 65, 127, 128, 129}) {
    SCOPED_TRACE(length);
    AttentionCase c = Ragged(DType::kF32, 2, 1, 16);
    c.offsets = {0, length};
    c.tokens = length;
    ExpectRight(c);
  }
}

TEST_P(AttentionTest, BlockBoundariesOfTrainedSizes) {
  for (const int64_t head_dim : {64, 128}) {
    for (const int32_t length : {1, 16, 31, 33, 64, 65, 128, 129, 192, 257}) {
      SCOPED_TRACE(Format("{} tokens, heads of {}", length, head_dim));
      AttentionCase c = Ragged(DType::kBF16, 2, 1, head_dim);
      c.offsets = {0, length};
      c.tokens = length;
      ExpectRight(c);
    }
  }
}

// Scores so different that the largest of a row is met late, more than once.
TEST_P(AttentionTest, SharpProbabilities) {
  ExpectRight(Ragged(DType::kF32, 2, 1, 16), 3.0);
  ExpectRight(Ragged(DType::kBF16, 2, 1, 64), 3.0);
  ExpectRight(Ragged(DType::kBF16, 2, 1, 128), 3.0);
}

// As many offsets as tokens, most of them unused, and sequences much shorter than a block.
TEST_P(AttentionTest, ManyShortSequences) {
  for (const int64_t head_dim : {16, 64, 128}) {
    SCOPED_TRACE(head_dim);
    AttentionCase c = Ragged(DType::kBF16, 1, 1, head_dim);
    c.tokens = 400;
    c.offsets = {0};
    while (c.offsets.back() < 380) {
      const int64_t length = random_.Integer(0, 12);
      c.offsets.push_back(c.offsets.back() + static_cast<int32_t>(length));
    }
    c.offsets.resize(401, c.offsets.back());
    ExpectRight(c);
  }
}

TEST_P(AttentionTest, NoSequenceAtAll) {
  AttentionCase c = Ragged(DType::kBF16, 2, 1, 64);
  c.offsets = {0, 0, 0};
  ExpectRight(c);
}

TEST_P(AttentionTest, PaddingIsZero) {
  for (const int64_t head_dim : {16, 64, 128}) {
    SCOPED_TRACE(head_dim);
    AttentionCase c = Ragged(DType::kBF16, 4, 2, head_dim);
    c.tokens = 340;
    AttentionTensors tensors(rig_, random_, c);
    tensors.Run();
    const int64_t real = c.offsets.back();
    const auto expect_zero = [&](const std::vector<double>& values, int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) ASSERT_EQ(values[static_cast<size_t>(i)], 0.0) << i;
    };
    expect_zero(tensors.out.Get(), real * 4 * head_dim, c.tokens * 4 * head_dim);
    expect_zero(tensors.d_qkv.Get(), real * 8 * head_dim, c.tokens * 8 * head_dim);
    for (int64_t head = 0; head < 4; ++head) {
      expect_zero(tensors.log_sum_exp.Get(), head * c.tokens + real, (head + 1) * c.tokens);
    }
  }
}

// The gradient along random directions against the difference quotient of the loss sum(d_out *
// out), both computed without the op's formulas.
TEST_P(AttentionTest, BackwardIsTheDerivativeOfForward) {
  AttentionCase c = Ragged(DType::kF32, 4, 2, 8);
  c.offsets = {0, 66, 80};
  c.tokens = 80;
  AttentionTensors tensors(rig_, random_, c);
  tensors.Run();
  const std::vector<double> qkv = tensors.qkv.Get();
  const std::vector<double> d_out = tensors.d_out.Get();
  const std::vector<double> gradient = tensors.d_qkv.Get();
  const auto loss = [&](const std::vector<double>& direction, double step) {
    std::vector<double> moved = qkv;
    for (size_t i = 0; i < moved.size(); ++i) moved[i] += step * direction[i];
    const AttentionForwardOracle forward(c, moved);
    double sum = 0;
    for (size_t i = 0; i < d_out.size(); ++i) sum += d_out[i] * forward.out.value[i];
    return sum;
  };
  for (int trial = 0; trial < 5; ++trial) {
    const std::vector<double> direction = random_.Normals(static_cast<int64_t>(qkv.size()));
    double along = 0;
    double magnitude = 0;
    for (size_t i = 0; i < qkv.size(); ++i) {
      along += gradient[i] * direction[i];
      magnitude += std::abs(gradient[i] * direction[i]);
    }
    const double step = 1e-5;
    const double quotient = (loss(direction, step) - loss(direction, -step)) / (2 * step);
    EXPECT_TRUE(std::abs(quotient - along) <= 1e-5 * magnitude)
        << quotient << " and " << along << ", magnitude " << magnitude;
  }
}

TEST_P(AttentionTest, SequenceDoesNotDependOnNeighboursOrPlace) {
  const auto expect_same = [&](DType dtype, int64_t head_dim, int32_t length) {
    AttentionCase alone = Ragged(dtype, 4, 2, head_dim);
    alone.offsets = {0, length};
    alone.tokens = length;
    AttentionTensors first(rig_, random_, alone);
    first.Run();
    const std::vector<double> qkv = first.qkv.Get();
    const std::vector<double> d_out = first.d_out.Get();
    for (const int32_t place : {1, 17, 130}) {
      SCOPED_TRACE(Format("{}, heads of {}, at {}", Name(dtype), head_dim, place));
      AttentionCase packed = alone;
      packed.offsets = {0, place, place + length, place + length + 40};
      packed.tokens = place + length + 45;
      std::vector<double> packed_qkv = random_.Normals(packed.tokens * 8 * head_dim);
      std::vector<double> packed_d_out = random_.Normals(packed.tokens * 4 * head_dim);
      std::copy(qkv.begin(), qkv.end(), packed_qkv.begin() + place * 8 * head_dim);
      std::copy(d_out.begin(), d_out.end(), packed_d_out.begin() + place * 4 * head_dim);
      AttentionTensors second(rig_, packed, packed_qkv, packed_d_out);
      second.Run();
      EXPECT_TRUE(RowsOf(first.out, 0, length) == RowsOf(second.out, place, length));
      EXPECT_TRUE(RowsOf(first.d_qkv, 0, length) == RowsOf(second.d_qkv, place, length));
    }
  };
  expect_same(DType::kF32, 16, 100);
  expect_same(DType::kBF16, 16, 100);
  expect_same(DType::kBF16, 64, 150);
  expect_same(DType::kBF16, 128, 150);
}

TEST_P(AttentionTest, LaterTokensAreInvisible) {
  AttentionCase c = Ragged(DType::kF32, 2, 1, 16);
  c.offsets = {0, 90};
  c.tokens = 90;
  AttentionTensors tensors(rig_, random_, c);
  tensors.Run();
  const std::vector<uint8_t> before = RowsOf(tensors.out, 0, 40);
  std::vector<double> qkv = tensors.qkv.Get();
  for (size_t i = 40 * 4 * 16; i < qkv.size(); ++i) qkv[i] = random_.Normal(100.0);
  tensors.qkv.Set(qkv);
  tensors.Run();
  EXPECT_TRUE(before == RowsOf(tensors.out, 0, 40));
}

TEST_P(AttentionTest, SameBitsForAnyNumberOfThreads) {
  for (const AttentionCase& c : {Ragged(DType::kF32, 6, 3, 16), Ragged(DType::kBF16, 6, 3, 16),
                                 Ragged(DType::kBF16, 2, 1, 64), Ragged(DType::kBF16, 2, 1, 128)}) {
    std::vector<uint8_t> out;
    std::vector<uint8_t> d_qkv;
    for (const int threads : {1, 2, 3, 3}) {
      Rig rig(GetParam(), threads);
      Random random;
      AttentionTensors tensors(rig, random, c);
      tensors.Run();
      if (out.empty()) {
        out = tensors.out.GetBytes();
        d_qkv = tensors.d_qkv.GetBytes();
      }
      EXPECT_TRUE(out == tensors.out.GetBytes()) << threads;
      EXPECT_TRUE(d_qkv == tensors.d_qkv.GetBytes()) << threads;
    }
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  for (const AttentionCase& c : {Ragged(DType::kF32, 2, 1, 16), Ragged(DType::kBF16, 2, 1, 64)}) {
    const int64_t head_dim = c.shape.head_dim;
    AttentionTensors tensors(rig_, c, random_.Normals(c.tokens * 4 * head_dim, 40.0),
                             random_.Normals(c.tokens * 2 * head_dim));
    tensors.Run();
    for (const double value : tensors.out.Get()) ASSERT_TRUE(std::isfinite(value));
    for (const double value : tensors.d_qkv.Get()) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST_P(AttentionTest, NanStaysInItsSequenceAndIsNotLost) {
  for (const AttentionCase& c : {Ragged(DType::kF32, 2, 1, 16), Ragged(DType::kBF16, 2, 1, 64)}) {
    const int64_t head_dim = c.shape.head_dim;
    AttentionTensors tensors(rig_, random_, c);
    std::vector<double> qkv = tensors.qkv.Get();
    // Key of token 80, in the sequence [71, 201).
    qkv[static_cast<size_t>((80 * 4 + 2) * head_dim + 5)] = std::nan("");
    tensors.qkv.Set(qkv);
    tensors.Run();
    const std::vector<double> out = tensors.out.Get();
    const std::vector<double> d_qkv = tensors.d_qkv.Get();
    for (int64_t token = 0; token < c.tokens; ++token) {
      const bool nan = std::isnan(out[static_cast<size_t>(token * 2 * head_dim)]);
      const bool query_nan = std::isnan(d_qkv[static_cast<size_t>(token * 4 * head_dim)]);
      const bool same_sequence = token >= 71 && token < 201;
      // Whether the tokens before it see a NaN depends on the block they share; nobody may rely on
      // it.
      if (same_sequence && token < 80) continue;
      EXPECT_EQ(nan, same_sequence) << token;
      EXPECT_EQ(query_nan, same_sequence) << token;
    }
  }
}

TEST_P(AttentionTest, WrongOffsetsFailTheStreamOrHarmNothing) {
  for (AttentionCase c : {Ragged(DType::kF32, 2, 1, 16), Ragged(DType::kBF16, 2, 1, 64)}) {
    c.offsets = {0, 100, 60, 204};
    AttentionTensors tensors(rig_, random_, c);
    if (GetParam() == "cpu") {
      backend().AttentionForward(stream(), tensors.forward());
      EXPECT_THROW(rig_.Finish(), CheckError);
      continue;
    }
    // A GPU sees the offsets when nobody can throw any more: it must only stay in its bounds.
    for (const std::vector<double>& wrong : {std::vector<double>{0, 100, 60, 204},
                                             {0, 300, 2000, 204},
                                             {50, -300, 100, 1000000},
                                             {-5, -4, -3, -2}}) {
      tensors.offsets.Set(wrong);
      tensors.Run();
    }
  }
}

TEST_P(AttentionTest, RefusesWrongArguments) {
  const AttentionCase c = Ragged(DType::kBF16, 4, 2, 16);
  AttentionTensors tensors(rig_, random_, c);
  EXPECT_NO_THROW(Validate(tensors.forward()));
  EXPECT_NO_THROW(Validate(tensors.backward()));
  const auto refused = [](auto args, const auto& change) {
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refused(tensors.forward(), [](auto& args) { args.shape.kv_heads = 3; });
  refused(tensors.forward(), [](auto& args) { args.shape.head_dim = 8; });
  refused(tensors.forward(), [](auto& args) { args.shape.softmax_scale = NAN; });
  refused(tensors.forward(), [](auto& args) { args.out = args.out.Rows(0, 5); });
  refused(tensors.forward(), [](auto& args) { args.log_sum_exp = {}; });
  refused(tensors.forward(),
          [](auto& args) { args.sequence_offsets = args.sequence_offsets.Rows(0, 1); });
  refused(tensors.backward(), [](auto& args) { args.workspace = {}; });
  refused(tensors.backward(), [](auto& args) { args.d_qkv = args.qkv; });
  refused(tensors.backward(), [](auto& args) { args.d_out = {}; });
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
