// Bias and addend of every type in every combination that is accepted, and the choice of
// algorithms.
#include <cmath>
#include <optional>

#include "kernels/api/gemm.h"
#include "kernels/api/gemm_table.h"
#include "kernels/api/workspace.h"
#include "tests/support/kernel_test.h"

namespace hearth::test {
namespace {

struct PartsCase {
  GemmShape shape;
  DType operand = DType::kF32;
  DType out = DType::kF32;
  bool a_transposed = false;
  bool b_transposed = false;
  std::optional<DType> bias;
  std::optional<DType> addend;  // a matrix of its own, not `out`
  bool fast_accumulation = false;
};

std::ostream& operator<<(std::ostream& stream, const PartsCase& c) {
  const auto name = [](const std::optional<DType>& type) { return type ? Name(*type) : "none"; };
  return stream << "m " << c.shape.m << " n " << c.shape.n << " k " << c.shape.k << ' '
                << Name(c.operand) << " -> " << Name(c.out) << (c.a_transposed ? " aT" : "")
                << (c.b_transposed ? " bT" : "") << " bias " << name(c.bias) << " addend "
                << name(c.addend) << (c.fast_accumulation ? " fast" : "");
}

constexpr double kScaleA = 0.25, kScaleB = 3.0;

class Parts {
 public:
  Parts(Rig& rig, Random& random, const PartsCase& c)
      : case_(c),
        a_(rig, c.operand,
           c.a_transposed ? Shape{c.shape.k, c.shape.m} : Shape{c.shape.m, c.shape.k},
           random.Normals(c.shape.m * c.shape.k)),
        b_(rig, c.operand,
           c.b_transposed ? Shape{c.shape.k, c.shape.n} : Shape{c.shape.n, c.shape.k},
           random.Normals(c.shape.n * c.shape.k)),
        a_scale_(rig, DType::kF32, {4}, {kScaleA, 1 / kScaleA, 0, 0}),
        b_scale_(rig, DType::kF32, {4}, {kScaleB, 1 / kScaleB, 0, 0}),
        bias_(rig, c.bias.value_or(DType::kF32), {c.shape.n}, random.Normals(c.shape.n, 4.0)),
        addend_(rig, c.addend.value_or(DType::kF32), {c.shape.m, c.shape.n},
                random.Normals(c.shape.m * c.shape.n, 4.0)),
        out_(rig, c.out, {c.shape.m, c.shape.n}),
        workspace_(rig.backend().device().Allocate(GemmWorkspaceBytes(), MemoryKind::kDevice)) {}

  GemmArgs args() const {
    GemmArgs args{.a = a_,
                  .b = b_,
                  .a_transposed = case_.a_transposed,
                  .b_transposed = case_.b_transposed,
                  .out = out_,
                  .workspace = workspace_.View(0, DType::kU8, {workspace_.bytes()}),
                  .fast_accumulation = case_.fast_accumulation};
    if (IsFloat8(case_.operand)) {
      args.a_scale = a_scale_;
      args.b_scale = b_scale_;
    }
    if (case_.bias) args.bias = bias_;
    if (case_.addend) args.addend = addend_;
    return args;
  }
  std::vector<uint8_t> ResultBytes() const { return out_.GetBytes(); }
  void ExpectRight() const;

 private:
  // Of the sum of the products alone.
  double ProductError(double magnitude, double largest) const {
    // Hopper's tensor cores keep 13 bits behind the point when they add without promotion; two
    // roundings a term is more than any order of them makes.
    const auto k = static_cast<double>(case_.shape.k);
    if (case_.fast_accumulation) return 2 * k * 0x1p-13 * magnitude;
    return IsFloat8(case_.operand) ? Float8SumError(case_.shape.k, largest) : 0.0;
  }

  PartsCase case_;
  DeviceTensor a_, b_, a_scale_, b_scale_, bias_, addend_, out_;
  Buffer workspace_;
};

void Parts::ExpectRight() const {
  const auto [m, n, k] = case_.shape;
  const std::vector<double> a = a_.Get(), b = b_.Get(), bias = bias_.Get(), addend = addend_.Get();
  const double scale = IsFloat8(case_.operand) ? kScaleA * kScaleB : 1.0;
  std::vector<double> expected(static_cast<size_t>(m * n)), bound(expected.size());
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      double sum = 0, magnitude = 0, largest = 0;
      for (int64_t i = 0; i < k; ++i) {
        const double term =
            a[static_cast<size_t>(case_.a_transposed ? i * m + row : row * k + i)] *
            b[static_cast<size_t>(case_.b_transposed ? i * n + column : column * k + i)] * scale;
        sum += term;
        magnitude += std::abs(term);
        largest = std::max(largest, std::abs(term));
      }
      const double product_error = ProductError(magnitude, largest);
      const auto at = static_cast<size_t>(row * n + column);
      for (const double term : {case_.bias ? bias[static_cast<size_t>(column)] : 0.0,
                                case_.addend ? addend[at] : 0.0}) {
        sum += term;
        magnitude += std::abs(term);
      }
      const double before_rounding = SumError(k + 3, magnitude) + product_error;
      expected[at] = sum;
      bound[at] = before_rounding + RoundingError(case_.out, std::abs(sum) + before_rounding);
    }
  }
  ExpectWithin(out_.Get(), expected, bound, "product");
}

class GemmPartsTest : public KernelTest {
 protected:
  void RunCase(const PartsCase& c) {
    SCOPED_TRACE(c);
    Parts parts(rig_, random_, c);
    backend().Gemm(stream(), parts.args());
    rig_.Finish();
    parts.ExpectRight();
  }
};

TEST_P(GemmPartsTest, EveryBiasAndAddend) {
  for (const DType operand : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    for (const DType out : {DType::kF32, DType::kBF16}) {
      for (const std::optional<DType> bias :
           {std::optional<DType>(), std::optional<DType>(DType::kBF16),
            std::optional<DType>(out)}) {
        for (const std::optional<DType> addend :
             {std::optional<DType>(), std::optional<DType>(DType::kBF16),
              std::optional<DType>(DType::kF32)}) {
          RunCase({.shape = {37, 48, 64},
                   .operand = operand,
                   .out = out,
                   .bias = bias,
                   .addend = addend});
        }
      }
    }
  }
}

// What a backend may have to compute in pieces is right at every seam.
TEST_P(GemmPartsTest, Bf16ResultOfF32OperandsInManyPieces) {
  for (const bool transposed : {false, true}) {
    RunCase({.shape = {131, 66'001, 3},
             .out = DType::kBF16,
             .a_transposed = transposed,
             .b_transposed = transposed,
             .bias = DType::kBF16,
             .addend = DType::kF32});
  }
}

TEST_P(GemmPartsTest, FastAccumulation) {
  for (const DType out : {DType::kF32, DType::kBF16}) {
    RunCase({.shape = {100, 144, 272},
             .operand = DType::kF8E4M3,
             .out = out,
             .bias = DType::kBF16,
             .fast_accumulation = true});
  }
  Parts bf16(rig_, random_, {.shape = {16, 16, 16}, .operand = DType::kBF16});
  GemmArgs args = bf16.args();
  args.fast_accumulation = true;
  EXPECT_THROW(Validate(args), CheckError);
}

// Rows of a tensor begin wherever the row before ends.
TEST_P(GemmPartsTest, OperandsAtAnyElement) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const int64_t skipped : {1, 2, 3, 4}) {
      SCOPED_TRACE(Format("{} from row {}", Name(type), skipped));
      const int64_t m = 20, n = 13, k = 7;
      const DeviceTensor a = NormalTensor(type, {skipped + m, k});
      const DeviceTensor b = NormalTensor(type, {skipped + n, k});
      const DeviceTensor bias = NormalTensor(type, {skipped + n});
      DeviceTensor whole(rig_, type, {skipped + m, n});
      DeviceTensor apart(rig_, type, {m, n});
      Buffer memory = backend().device().Allocate(GemmWorkspaceBytes() + 16, MemoryKind::kDevice);
      GemmArgs args{.a = a.view().Rows(skipped, m),
                    .b = b.view().Rows(skipped, n),
                    .bias = bias.view().Rows(skipped, n),
                    .out = whole.view().Rows(skipped, m),
                    .workspace = memory.View(16, DType::kU8, {GemmWorkspaceBytes()})};
      backend().Gemm(stream(), args);
      const std::vector<double> result = whole.Get();
      const std::vector<double> x = a.Get(), y = b.Get(), z = bias.Get();
      std::vector<double> actual, expected, bound;
      for (int64_t row = 0; row < m; ++row) {
        for (int64_t column = 0; column < n; ++column) {
          double sum = z[static_cast<size_t>(skipped + column)], magnitude = std::abs(sum);
          for (int64_t i = 0; i < k; ++i) {
            const double term = x[static_cast<size_t>((skipped + row) * k + i)] *
                                y[static_cast<size_t>((skipped + column) * k + i)];
            sum += term;
            magnitude += std::abs(term);
          }
          actual.push_back(result[static_cast<size_t>((skipped + row) * n + column)]);
          expected.push_back(sum);
          const double before = SumError(k + 1, magnitude);
          bound.push_back(before + RoundingError(type, std::abs(sum) + before));
        }
      }
      ExpectWithin(actual, expected, bound, "product");
    }
  }
}

// A table that one backend made gives another one the same bits, measured or not.
TEST_P(GemmPartsTest, TheTableMakesTheBits) {
  const std::vector<PartsCase> cases = {
      {.shape = {256, 320, 512}, .operand = DType::kBF16, .out = DType::kBF16},
      {.shape = {64, 512, 4096}, .operand = DType::kBF16, .a_transposed = true},
      {.shape = {64, 96, 128}, .bias = DType::kF32},
      {.shape = {256, 320, 512}, .operand = DType::kF8E4M3, .out = DType::kBF16}};
  std::string table;
  std::vector<std::vector<uint8_t>> bits;
  for (const bool first : {true, false}) {
    Rig rig(GetParam());
    Random random;  // the same draws each time
    if (first) {
      rig.backend().MeasureMatmuls(true);
    } else {
      rig.backend().LoadMatmulTable(table);
    }
    for (size_t i = 0; i < cases.size(); ++i) {
      SCOPED_TRACE(cases[i]);
      Parts parts(rig, random, cases[i]);
      rig.backend().Gemm(rig.stream(), parts.args());
      parts.ExpectRight();
      if (first) {
        bits.push_back(parts.ResultBytes());
      } else {
        EXPECT_TRUE(parts.ResultBytes() == bits[i]);
      }
    }
    rig.backend().MeasureMatmuls(false);
    if (first) table = rig.backend().MatmulTable();
    EXPECT_EQ(rig.backend().MatmulTable(), table);
    EXPECT_TRUE(rig.backend().TakeMatmulWarnings().empty());
  }
  EXPECT_EQ(ParseGemmTable(table).size(), GetParam() == "cpu" ? 0 : cases.size());
}

TEST_P(GemmPartsTest, WhatTheTableLacksIsToldOnce) {
  if (GetParam() == "cpu") GTEST_SKIP() << "this backend has one way for each matmul";
  const PartsCase known{.shape = {64, 96, 128}}, unknown{.shape = {64, 96, 64}},
      another{.shape = {64, 96, 32}};
  std::string table;
  {
    Rig rig(GetParam());
    Parts parts(rig, random_, known);
    rig.backend().Gemm(rig.stream(), parts.args());
    table = rig.backend().MatmulTable();
    EXPECT_TRUE(rig.backend().TakeMatmulWarnings().empty());
  }
  backend().LoadMatmulTable(table);
  for (const PartsCase& c : {known, unknown, another}) RunCase(c);
  EXPECT_EQ(backend().TakeMatmulWarnings().size(), 1u);
  EXPECT_TRUE(backend().TakeMatmulWarnings().empty());

  std::vector<GemmTableEntry> entries = ParseGemmTable(table);
  ASSERT_EQ(entries.size(), 1u);
  entries[0].library = "cublaslt-1-sm_0-1";
  Rig rig(GetParam());
  rig.backend().LoadMatmulTable(PrintGemmTable(entries));
  Parts parts(rig, random_, known);
  rig.backend().Gemm(rig.stream(), parts.args());
  parts.ExpectRight();
  EXPECT_EQ(rig.backend().TakeMatmulWarnings().size(), 1u);
  EXPECT_EQ(rig.backend().MatmulTable(), table);
}

TEST_P(GemmPartsTest, ADamagedTableIsRefused) {
  EXPECT_THROW(backend().LoadMatmulTable("matmul/1 m=1"), IoError);
  EXPECT_NO_THROW(backend().LoadMatmulTable(""));
}

INSTANTIATE_TEST_SUITE_P(Backends, GemmPartsTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
