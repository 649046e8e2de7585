// Attention over sequences of one length, by every provider of the backend under test.
#include <cmath>
#include <limits>

#include "kernels/api/attention_table.h"
#include "kernels/core/error.h"
#include "tests/kernels/attention/attention_tensors.h"

namespace hearth::test {
namespace {

struct Size {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t sequence_len = 0;
  int64_t sequences = 0;
  int64_t missing = 0;  // of the sequences, at the end
  int64_t padding = 0;  // tokens behind them
};

class DenseAttentionTest
    : public testing::TestWithParam<std::tuple<std::string, AttentionProvider>> {
 protected:
  DenseAttentionTest() : rig_(std::get<0>(GetParam())) {}

  void SetUp() override {
    const std::string why_not = rig_.backend().WhyNoAttention(provider());
    if (!why_not.empty()) GTEST_SKIP() << Name(provider()) << ": " << why_not;
  }

  AttentionProvider provider() const { return std::get<1>(GetParam()); }
  bool OnCpu() const { return std::get<0>(GetParam()) == "cpu"; }

  AttentionCase MakeCase(const Size& size) const {
    AttentionCase c{.shape = {.heads = size.heads,
                              .kv_heads = size.kv_heads,
                              .head_dim = size.head_dim,
                              .softmax_scale = 1.0f / std::sqrt(static_cast<float>(size.head_dim)),
                              .sequence_len = size.sequence_len},
                    .tokens = size.sequences * size.sequence_len + size.padding,
                    .dtype = DType::kBF16,
                    .factor_roundoff = OnCpu() ? 0 : UnitRoundoff(DType::kBF16),
                    .provider = provider()};
    for (int64_t s = 0; s <= size.sequences; ++s) {
      c.offsets.push_back(
          static_cast<int32_t>(std::min(s, size.sequences - size.missing) * size.sequence_len));
    }
    if (provider() == AttentionProvider::kCudnn) {
      // It keeps gradients of scores for a deterministic sum: quadratic in the length.
      const int64_t rows = RoundUp(size.sequence_len, 128);
      c.workspace_bytes = size.sequences * size.heads * rows * (4 * rows + 16 * size.head_dim) +
                          (int64_t{16} << 20);
      c.part_roundoff = size.heads == size.kv_heads ? 0 : UnitRoundoff(DType::kBF16);
    }
    return c;
  }

  void ExpectRight(const Size& size, double deviation = 1.0) {
    SCOPED_TRACE(Format("{} and {} heads of {}, {} sequences of {}", size.heads, size.kv_heads,
                        size.head_dim, size.sequences, size.sequence_len));
    ExpectAttention(rig_, random_, MakeCase(size), deviation);
  }

  Rig rig_;
  Random random_;
};

TEST_P(DenseAttentionTest, EqualsTheFormulas) {
  for (const int64_t head_dim : {64, 128}) {
    ExpectRight({4, 2, head_dim, 128, 2});
    ExpectRight({3, 3, head_dim, 192, 2});
    ExpectRight({6, 1, head_dim, 64, 3});
    ExpectRight({2, 1, head_dim, 320, 1});
  }
}

TEST_P(DenseAttentionTest, LengthsThatFillNoBlock) {
  for (const int64_t head_dim : {64, 128}) {
    for (const int64_t length : {1, 17, 63, 65, 100, 129, 257}) {
      // cuDNN refuses the backward of a single token.
      if (length == 1 && provider() == AttentionProvider::kCudnn) continue;
      ExpectRight({2, 1, head_dim, length, 2});
    }
  }
}

TEST_P(DenseAttentionTest, SharpProbabilities) {
  ExpectRight({2, 1, 64, 192, 2}, 3.0);
  ExpectRight({2, 1, 128, 192, 2}, 3.0);
}

TEST_P(DenseAttentionTest, MissingSequencesAndPadding) {
  for (const int64_t head_dim : {64, 128}) {
    ExpectRight({4, 2, head_dim, 96, 3, 1, 16});
    ExpectRight({2, 2, head_dim, 128, 3, 3, 0});
    ExpectRight({2, 1, head_dim, 40, 1, 0, 8});
  }
}

// Not even their NaNs may reach the sequences that are there.
TEST_P(DenseAttentionTest, WhatLiesInThePaddingIsNotSeen) {
  const AttentionCase c = MakeCase({4, 2, 128, 64, 4, 2, 16});
  const int64_t real = c.offsets.back();
  std::vector<double> qkv = random_.Normals(c.tokens * 8 * 128);
  std::vector<double> d_out = random_.Normals(c.tokens * 4 * 128);
  AttentionTensors first(rig_, c, qkv, d_out);
  first.Run();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  std::fill(qkv.begin() + real * 8 * 128, qkv.end(), nan);
  std::fill(d_out.begin() + real * 4 * 128, d_out.end(), nan);
  AttentionTensors second(rig_, c, qkv, d_out);
  second.Run();
  EXPECT_TRUE(first.out.GetBytes() == second.out.GetBytes());
  EXPECT_TRUE(first.log_sum_exp.GetBytes() == second.log_sum_exp.GetBytes());
  EXPECT_TRUE(first.d_qkv.GetBytes() == second.d_qkv.GetBytes());
}

TEST_P(DenseAttentionTest, SequenceDoesNotDependOnNeighboursOrPlace) {
  constexpr int64_t kLength = 160;
  for (const int64_t d : {64, 128}) {
    SCOPED_TRACE(d);
    const AttentionCase c = MakeCase({4, 2, d, kLength, 3});
    std::vector<double> qkv = random_.Normals(c.tokens * 8 * d);
    std::vector<double> d_out = random_.Normals(c.tokens * 4 * d);
    AttentionTensors first(rig_, c, qkv, d_out);
    first.Run();
    // The same first sequence in another place, between others.
    std::vector<double> other_qkv = random_.Normals(c.tokens * 8 * d);
    std::vector<double> other_d_out = random_.Normals(c.tokens * 4 * d);
    std::copy_n(qkv.begin(), kLength * 8 * d, other_qkv.begin() + kLength * 8 * d);
    std::copy_n(d_out.begin(), kLength * 4 * d, other_d_out.begin() + kLength * 4 * d);
    AttentionTensors second(rig_, c, other_qkv, other_d_out);
    second.Run();
    EXPECT_TRUE(RowsOf(first.out, 0, kLength) == RowsOf(second.out, kLength, kLength));
    EXPECT_TRUE(RowsOf(first.d_qkv, 0, kLength) == RowsOf(second.d_qkv, kLength, kLength));
  }
}

TEST_P(DenseAttentionTest, SequenceDoesNotDependOnTheirNumber) {
  constexpr int64_t kLength = 160;
  for (const int64_t d : {64, 128}) {
    SCOPED_TRACE(d);
    const AttentionCase many = MakeCase({4, 2, d, kLength, 5});
    const std::vector<double> qkv = random_.Normals(many.tokens * 8 * d);
    const std::vector<double> d_out = random_.Normals(many.tokens * 4 * d);
    AttentionTensors first(rig_, many, qkv, d_out);
    first.Run();
    const AttentionCase one = MakeCase({4, 2, d, kLength, 1});
    AttentionTensors second(rig_, one, {qkv.begin(), qkv.begin() + kLength * 8 * d},
                            {d_out.begin(), d_out.begin() + kLength * 4 * d});
    second.Run();
    EXPECT_TRUE(RowsOf(first.out, 0, kLength) == RowsOf(second.out, 0, kLength));
    EXPECT_TRUE(RowsOf(first.d_qkv, 0, kLength) == RowsOf(second.d_qkv, 0, kLength));
  }
}

TEST_P(DenseAttentionTest, SameBitsAgain) {
  for (const int64_t d : {64, 128}) {
    const AttentionCase c = MakeCase({8, 2, d, 384, 3});
    AttentionTensors tensors(rig_, random_, c);
    tensors.Run();
    const std::vector<uint8_t> out = tensors.out.GetBytes();
    const std::vector<uint8_t> d_qkv = tensors.d_qkv.GetBytes();
    for (int time = 0; time < 5; ++time) {
      tensors.out.Poison();
      tensors.d_qkv.Poison();
      tensors.workspace.Poison();
      tensors.Run();
      EXPECT_TRUE(out == tensors.out.GetBytes()) << time;
      EXPECT_TRUE(d_qkv == tensors.d_qkv.GetBytes()) << time;
    }
  }
}

TEST_P(DenseAttentionTest, LargeScoresDoNotOverflow) {
  const AttentionCase c = MakeCase({2, 1, 64, 128, 2});
  AttentionTensors tensors(rig_, c, random_.Normals(c.tokens * 4 * 64, 40.0),
                           random_.Normals(c.tokens * 2 * 64));
  tensors.Run();
  for (const double value : tensors.out.Get()) ASSERT_TRUE(std::isfinite(value));
  for (const double value : tensors.d_qkv.Get()) ASSERT_TRUE(std::isfinite(value));
}

TEST_P(DenseAttentionTest, NanStaysInItsSequenceAndIsNotLost) {
  const AttentionCase c = MakeCase({2, 1, 64, 128, 3});
  AttentionTensors tensors(rig_, random_, c);
  std::vector<double> qkv = tensors.qkv.Get();
  // Key of token 140, in the second sequence.
  qkv[static_cast<size_t>((140 * 4 + 2) * 64 + 5)] = std::nan("");
  tensors.qkv.Set(qkv);
  tensors.Run();
  const std::vector<double> out = tensors.out.Get();
  const std::vector<double> d_qkv = tensors.d_qkv.Get();
  for (int64_t token = 0; token < c.tokens; ++token) {
    const bool same_sequence = token >= 128 && token < 256;
    if (same_sequence && token < 140) continue;  // those before it may share its block
    EXPECT_EQ(std::isnan(out[static_cast<size_t>(token * 2 * 64)]), same_sequence) << token;
    EXPECT_EQ(std::isnan(d_qkv[static_cast<size_t>(token * 4 * 64)]), same_sequence) << token;
  }
}

TEST_P(DenseAttentionTest, CanBeCaptured) {
  const AttentionCase c = MakeCase({4, 2, 128, 128, 2});
  AttentionTensors tensors(rig_, random_, c);
  tensors.Run();
  const std::vector<uint8_t> out = tensors.out.GetBytes();
  const std::vector<uint8_t> d_qkv = tensors.d_qkv.GetBytes();
  const auto graph = rig_.backend().device().Capture(rig_.stream(), [&] {
    rig_.backend().AttentionForward(rig_.stream(), tensors.forward());
    rig_.backend().AttentionBackward(rig_.stream(), tensors.backward());
  });
  for (int time = 0; time < 2; ++time) {
    tensors.out.Poison();
    tensors.d_qkv.Poison();
    graph->Launch(rig_.stream());
    rig_.Finish();
    EXPECT_TRUE(out == tensors.out.GetBytes());
    EXPECT_TRUE(d_qkv == tensors.d_qkv.GetBytes());
  }
}

// Both directions mean the same, so one's results serve the other.
TEST_P(DenseAttentionTest, ResultsOfForwardServeAnyBackward) {
  const AttentionCase c = MakeCase({4, 2, 128, 192, 2});
  AttentionTensors tensors(rig_, random_, c);
  tensors.Run();
  AttentionBackwardArgs own = tensors.backward();
  own.provider = AttentionProvider::kOwn;
  rig_.backend().AttentionBackward(rig_.stream(), own);
  rig_.Finish();
  const Bounded d_qkv = AttentionBackwardOracle(c, {.qkv = tensors.qkv.Get(),
                                                    .out = tensors.out.Get(),
                                                    .log_sum_exp = tensors.log_sum_exp.Get(),
                                                    .d_out = tensors.d_out.Get()});
  ExpectWithin(tensors.d_qkv.Get(), d_qkv.value, d_qkv.bound, "d_qkv");
}

TEST_P(DenseAttentionTest, ReportsWhoComputed) {
  const AttentionCase c = MakeCase({2, 1, 64, 64, 1});
  AttentionTensors tensors(rig_, random_, c);
  tensors.Run();
  const std::string provider = rig_.backend().Attention().provider;
  if (this->provider() == AttentionProvider::kCudnn) {
    EXPECT_EQ(provider.rfind("cudnn-", 0), 0u) << provider;
  } else {
    EXPECT_EQ(provider, OnCpu() ? "reference" : "own");
  }
}

class AttentionChoiceTest : public KernelTest {};

// What is measured on one rank is what the others, and a resumed run, compute with.
TEST_P(AttentionChoiceTest, IsDataAndIsFollowed) {
  AttentionCase c{.shape = {.heads = 4,
                            .kv_heads = 2,
                            .head_dim = 128,
                            .softmax_scale = 0.0884f,
                            .sequence_len = 256},
                  .offsets = {0, 256, 512},
                  .tokens = 512,
                  .dtype = DType::kBF16,
                  .workspace_bytes = int64_t{64} << 20};
  std::vector<double> qkv = random_.Normals(c.tokens * 8 * 128);
  std::vector<double> d_out = random_.Normals(c.tokens * 4 * 128);
  AttentionTensors tensors(rig_, c, qkv, d_out);
  backend().MeasureMatmuls(true);
  tensors.Run();
  backend().MeasureMatmuls(false);
  const std::string table = backend().MatmulTable();
  const AttentionReport report = backend().Attention();
  RecordProperty("provider", report.provider);
  RecordProperty("reason", report.reason);
  const std::vector<AttentionTableEntry> entries = ParseAttentionTable(table);
  ASSERT_EQ(entries.size(), GetParam() == "cpu" ? 0u : 1u) << table;

  Rig other(GetParam());
  other.backend().LoadMatmulTable(table);
  AttentionTensors again(other, c, qkv, d_out);
  again.Run();
  EXPECT_EQ(other.backend().Attention().provider, report.provider);
  EXPECT_EQ(other.backend().MatmulTable(), table);
  EXPECT_TRUE(other.backend().TakeMatmulWarnings().empty());
  EXPECT_TRUE(again.out.GetBytes() == tensors.out.GetBytes());
  EXPECT_TRUE(again.d_qkv.GetBytes() == tensors.d_qkv.GetBytes());
}

// A choice of another library is no choice, and says so once.
TEST_P(AttentionChoiceTest, ForeignLibraryIsPassedOver) {
  AttentionTableEntry entry{.key = {.heads = 4,
                                    .kv_heads = 2,
                                    .head_dim = 128,
                                    .sequence_len = 256,
                                    .sequences = 2,
                                    .tokens = 512},
                            .provider = AttentionProvider::kCudnn,
                            .library = "cudnn-1-sm_1-1"};
  backend().LoadMatmulTable(PrintAttentionTable(std::vector{entry}));
  const size_t expected = GetParam() == "cpu" ? 0 : 1;
  EXPECT_EQ(backend().TakeMatmulWarnings().size(), expected);
  EXPECT_TRUE(backend().MatmulTable().empty());
  EXPECT_THROW(backend().LoadMatmulTable("attention/1 heads=1"), IoError);
}

// Packed documents, and what does not fit the workspace, are refused where cuDNN is an order.
TEST_P(AttentionChoiceTest, OrdersThatCannotBeObeyed) {
  AttentionCase c{.shape = {.heads = 2, .kv_heads = 1, .head_dim = 64, .softmax_scale = 0.125f},
                  .offsets = {0, 64, 128},
                  .tokens = 128,
                  .dtype = DType::kBF16,
                  .provider = AttentionProvider::kCudnn};
  AttentionTensors packed(rig_, random_, c);
  EXPECT_THROW(backend().AttentionForward(stream(), packed.forward()), DeviceError);
  EXPECT_THROW(backend().AttentionBackward(stream(), packed.backward()), DeviceError);
  c.shape.sequence_len = 64;
  AttentionTensors narrow(rig_, random_, c);
  AttentionBackwardArgs backward = narrow.backward();
  backward.workspace =
      backward.workspace.Flat(0, AttentionBackwardWorkspaceBytes(c.shape, c.tokens));
  EXPECT_THROW(backend().AttentionBackward(stream(), backward), DeviceError);
}

// The reference sees what a GPU has to believe.
TEST(AttentionLengthsTest, OtherLengthsThanPromisedFailTheReference) {
  Rig rig("cpu");
  Random random;
  AttentionCase c{.shape = {.heads = 1,
                            .kv_heads = 1,
                            .head_dim = 8,
                            .softmax_scale = 1.0f,
                            .sequence_len = 16},
                  .offsets = {0, 16, 32},
                  .tokens = 40};
  AttentionTensors right(rig, random, c);
  EXPECT_NO_THROW(right.Run());
  c.offsets = {0, 12, 28};
  AttentionTensors wrong(rig, random, c);
  rig.backend().AttentionForward(rig.stream(), wrong.forward());
  EXPECT_THROW(rig.Finish(), CheckError);
  c.offsets = {0, 16, 32, 48};
  AttentionTensors too_many(rig, random, c);
  EXPECT_THROW(Validate(too_many.forward()), CheckError);
}

std::string NameOf(const testing::TestParamInfo<std::tuple<std::string, AttentionProvider>>& info) {
  return std::get<0>(info.param) + "_" + std::string(Name(std::get<1>(info.param)));
}

std::vector<AttentionProvider> ProvidersUnderTest() {
  if (BackendUnderTest() == "cpu") return {AttentionProvider::kOwn};
  return {AttentionProvider::kOwn, AttentionProvider::kCudnn};
}

INSTANTIATE_TEST_SUITE_P(Backends, DenseAttentionTest,
                         testing::Combine(BackendsUnderTest(),
                                          testing::ValuesIn(ProvidersUnderTest())),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Backends, AttentionChoiceTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
