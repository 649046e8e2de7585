// The matrix product against a loop in double precision.
#include "kernels/api/gemm.h"

#include <cmath>

#include "kernels/api/quantize.h"
#include "kernels/api/workspace.h"
#include "tests/support/kernel_test.h"

namespace hearth::test {
namespace {

struct GemmCase {
  GemmShape shape;
  DType a = DType::kF32;
  DType b = DType::kF32;
  DType out = DType::kF32;
  bool a_transposed = false;
  bool b_transposed = false;
  bool bias = false;
  bool accumulate = false;  // addend = out
};

std::ostream& operator<<(std::ostream& stream, const GemmCase& c) {
  return stream << "m " << c.shape.m << " n " << c.shape.n << " k " << c.shape.k << ' ' << Name(c.a)
                << " x " << Name(c.b) << " -> " << Name(c.out) << (c.a_transposed ? " aT" : "")
                << (c.b_transposed ? " bT" : "") << (c.bias ? " bias" : "")
                << (c.accumulate ? " accumulate" : "");
}

// The tensors of a case with random content, and the product computed in double from what they
// hold.
class Problem {
 public:
  Problem(Rig& rig, Random& random, const GemmCase& c)
      : case_(c),
        a_(rig, c.a, c.a_transposed ? Shape{c.shape.k, c.shape.m} : Shape{c.shape.m, c.shape.k},
           random.Normals(c.shape.m * c.shape.k)),
        b_(rig, c.b, c.b_transposed ? Shape{c.shape.k, c.shape.n} : Shape{c.shape.n, c.shape.k},
           random.Normals(c.shape.n * c.shape.k)),
        a_scale_(rig, DType::kF32, {4}, {0.125, 8, 0, 0}),
        b_scale_(rig, DType::kF32, {4}, {0.75, 1 / 0.75, 0, 0}),
        bias_(rig, DType::kBF16, {c.shape.n}, random.Normals(c.shape.n, 4.0)),
        out_(rig, c.out, {c.shape.m, c.shape.n}),
        workspace_(rig.backend().device().Allocate(GemmWorkspaceBytes(), MemoryKind::kDevice)) {
    if (c.accumulate) out_.Set(random.Normals(c.shape.m * c.shape.n, 4.0));
    before_ = out_.Get();
  }

  GemmArgs args() const {
    GemmArgs args{.a = a_,
                  .b = b_,
                  .a_transposed = case_.a_transposed,
                  .b_transposed = case_.b_transposed,
                  .out = out_,
                  .workspace = workspace_.View(0, DType::kU8, {workspace_.bytes()})};
    if (IsFloat8(case_.a)) {
      args.a_scale = a_scale_;
      args.b_scale = b_scale_;
    }
    if (case_.bias) args.bias = bias_;
    if (case_.accumulate) args.addend = out_;
    return args;
  }

  std::vector<double> Result() const { return out_.Get(); }
  std::vector<uint8_t> ResultBytes() const { return out_.GetBytes(); }
  DeviceTensor& a() { return a_; }
  DeviceTensor& out() { return out_; }

  void ExpectRight() const;

 private:
  GemmCase case_;
  DeviceTensor a_;
  DeviceTensor b_;
  DeviceTensor a_scale_;
  DeviceTensor b_scale_;
  DeviceTensor bias_;
  DeviceTensor out_;
  Buffer workspace_;
  std::vector<double> before_;
};

void Problem::ExpectRight() const {
  const auto [m, n, k] = case_.shape;
  const std::vector<double> a = a_.Get();
  const std::vector<double> b = b_.Get();
  const std::vector<double> bias = bias_.Get();
  const double scale = IsFloat8(case_.a) ? 0.125 * 0.75 : 1.0;
  std::vector<double> expected(static_cast<size_t>(m * n));
  std::vector<double> bound(expected.size());
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      double sum = 0;
      double magnitude = 0;
      double largest = 0;
      for (int64_t i = 0; i < k; ++i) {
        const double term =
            a[static_cast<size_t>(case_.a_transposed ? i * m + row : row * k + i)] *
            b[static_cast<size_t>(case_.b_transposed ? i * n + column : column * k + i)] * scale;
        sum += term;
        magnitude += std::abs(term);
        largest = std::max(largest, std::abs(term));
      }
      const auto at = static_cast<size_t>(row * n + column);
      for (const double term : {case_.bias ? bias[static_cast<size_t>(column)] : 0.0,
                                case_.accumulate ? before_[at] : 0.0}) {
        sum += term;
        magnitude += std::abs(term);
      }
      expected[at] = sum;
      // Products, a scaling, a bias and an addend in fp32; then one rounding.
      const double before_rounding =
          SumError(k + 3, magnitude) + (IsFloat8(case_.a) ? Float8SumError(k, largest) : 0.0);
      bound[at] = before_rounding + RoundingError(case_.out, std::abs(sum) + before_rounding);
    }
  }
  ExpectWithin(Result(), expected, bound, "product");
}

class GemmTest : public KernelTest {
 protected:
  void RunCase(const GemmCase& c) {
    SCOPED_TRACE(c);
    Problem problem(rig_, random_, c);
    backend().Gemm(stream(), problem.args());
    rig_.Finish();
    problem.ExpectRight();
  }
};

const GemmShape kShapes[] = {{1, 1, 1}, {3, 5, 7}, {65, 130, 33}, {130, 70, 300}, {520, 40, 24}};

TEST_P(GemmTest, EveryOrientationOfF32) {
  for (const GemmShape& shape : kShapes) {
    for (const bool a_transposed : {false, true}) {
      for (const bool b_transposed : {false, true}) {
        RunCase({.shape = shape, .a_transposed = a_transposed, .b_transposed = b_transposed});
      }
    }
  }
}

TEST_P(GemmTest, EveryOrientationOfBFloat16) {
  for (const GemmShape& shape : kShapes) {
    for (const bool a_transposed : {false, true}) {
      for (const bool b_transposed : {false, true}) {
        for (const DType out : {DType::kBF16, DType::kF32}) {
          RunCase({.shape = shape,
                   .a = DType::kBF16,
                   .b = DType::kBF16,
                   .out = out,
                   .a_transposed = a_transposed,
                   .b_transposed = b_transposed});
        }
      }
    }
  }
}

TEST_P(GemmTest, Float8WithScales) {
  for (const GemmShape& shape : {GemmShape{1, 16, 16}, {70, 48, 96}, {130, 144, 272}}) {
    for (const DType out : {DType::kBF16, DType::kF32}) {
      RunCase({.shape = shape, .a = DType::kF8E4M3, .b = DType::kF8E4M3, .out = out});
      RunCase({.shape = shape, .a = DType::kF8E5M2, .b = DType::kF8E4M3, .out = out});
      RunCase({.shape = shape, .a = DType::kF8E4M3, .b = DType::kF8E5M2, .out = out});
    }
  }
}

TEST_P(GemmTest, BiasAndAddend) {
  for (const DType operand : {DType::kF32, DType::kBF16}) {
    for (const DType out : {DType::kF32, DType::kBF16}) {
      for (const int kind : {1, 2, 3}) {
        RunCase({.shape = {75, 50, 90},
                 .a = operand,
                 .b = operand,
                 .out = out,
                 .bias = (kind & 1) != 0,
                 .accumulate = (kind & 2) != 0});
      }
    }
  }
}

// Defect: a bias multiplied by the operands' scales, as if it had been quantised with them.
TEST_P(GemmTest, BiasOfFloat8IsAddedAfterDescaling) {
  RunCase({.shape = {33, 64, 32},
           .a = DType::kF8E4M3,
           .b = DType::kF8E4M3,
           .out = DType::kBF16,
           .bias = true,
           .accumulate = true});
}

// More columns than are converted at a time (4 Mi elements of b), and more than one tile each way.
TEST_P(GemmTest, SeveralPanels) {
  RunCase({.shape = {70, 700, 8192},
           .a = DType::kBF16,
           .b = DType::kBF16,
           .out = DType::kBF16,
           .bias = true});
}

TEST_P(GemmTest, AddendOfAnotherType) {
  const GemmCase c{.shape = {40, 30, 20}, .a = DType::kBF16, .b = DType::kBF16};
  Problem problem(rig_, random_, c);
  DeviceTensor addend = NormalTensor(DType::kBF16, {40, 30});
  GemmArgs args = problem.args();
  backend().Gemm(stream(), args);
  const std::vector<double> without = problem.Result();
  args.addend = addend;
  backend().Gemm(stream(), args);
  const std::vector<double> with = problem.Result();
  const std::vector<double> added = addend.Get();
  for (size_t i = 0; i < with.size(); ++i) {
    EXPECT_EQ(static_cast<float>(with[i]),
              static_cast<float>(without[i]) + static_cast<float>(added[i]));
  }
}

TEST_P(GemmTest, NanAndInfinityReachTheirRowsOnly) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    Problem problem(rig_, random_, {.shape = {70, 66, 40}, .a = type, .b = type, .out = type});
    std::vector<double> a = problem.a().Get();
    a[3 * 40 + 39] = std::nan("");
    a[69 * 40] = INFINITY;
    problem.a().Set(a);
    backend().Gemm(stream(), problem.args());
    const std::vector<double> out = problem.Result();
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t row = i / 66;
      EXPECT_EQ(std::isnan(out[i]), row == 3) << i;
      EXPECT_EQ(std::isinf(out[i]), row == 69) << i;
    }
  }
}

TEST_P(GemmTest, NoRows) {
  Problem problem(rig_, random_, {.shape = {0, 16, 16}, .bias = true});
  backend().Gemm(stream(), problem.args());
  rig_.Finish();
  EXPECT_TRUE(problem.Result().empty());
}

TEST_P(GemmTest, SameBitsForAnyNumberOfThreadsAndEveryRun) {
  for (const GemmCase& c :
       {GemmCase{.shape = {600, 390, 130}, .a_transposed = true},
        GemmCase{.shape = {600, 390, 130}, .a = DType::kBF16, .b = DType::kBF16, .bias = true},
        GemmCase{.shape = {300, 400, 512}, .a = DType::kF8E4M3, .b = DType::kF8E5M2}}) {
    SCOPED_TRACE(c);
    std::vector<uint8_t> first;
    for (const int threads : {1, 2, 3, 3}) {
      Rig rig(GetParam(), threads);
      Random random;  // the same draws each time
      Problem problem(rig, random, c);
      rig.backend().Gemm(rig.stream(), problem.args());
      const std::vector<uint8_t> bytes = problem.ResultBytes();
      if (first.empty()) first = bytes;
      EXPECT_TRUE(bytes == first) << threads << " threads";
    }
  }
}

TEST_P(GemmTest, TwoStreamsAtOnce) {
  const GemmCase c{.shape = {200, 160, 96}, .a = DType::kBF16, .b = DType::kBF16};
  Problem first(rig_, random_, c);
  Problem second(rig_, random_, c);
  auto other = backend().device().CreateStream("other");
  for (int i = 0; i < 20; ++i) {
    backend().Gemm(stream(), first.args());
    backend().Gemm(*other, second.args());
  }
  other->Synchronize(std::chrono::seconds(60));
  rig_.Finish();
  first.ExpectRight();
  second.ExpectRight();
}

// Defect: 32-bit element indices, which would fold the last rows of a onto others. The rows before
// them are never written, so they take address space and no memory.
TEST_P(GemmTest, ElementsBeyondTwoToTheThirtyOne) {
  if (GetParam() != "cpu") GTEST_SKIP() << "needs 4.3 GB of device memory";
  if (UnderSanitizer()) GTEST_SKIP() << "too many checked accesses";
  const int64_t k = 32'768;
  const int64_t m = 65'536 + 70;
  ASSERT_GT((m - 70) * k, (int64_t{1} << 31) - 1);
  Buffer memory = backend().device().Allocate(m * k * 2, MemoryKind::kDevice);
  const TensorView a = memory.View(0, DType::kBF16, {m, k});
  DeviceTensor last_row = NormalTensor(DType::kBF16, {1, k});
  DeviceTensor b = NormalTensor(DType::kBF16, {1, k});
  DeviceTensor out(rig_, DType::kF32, {m, 1});
  Buffer workspace = backend().device().Allocate(GemmWorkspaceBytes(), MemoryKind::kDevice);
  backend().Copy(stream(), {.source = last_row, .destination = a.Rows(m - 1, 1)});
  backend().Gemm(stream(), {.a = a,
                            .b = b,
                            .out = out,
                            .workspace = workspace.View(0, DType::kU8, {workspace.bytes()})});
  const std::vector<double> result = out.Get();
  const std::vector<double> x = last_row.Get();
  const std::vector<double> y = b.Get();
  double expected = 0;
  double magnitude = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    expected += x[i] * y[i];
    magnitude += std::abs(x[i] * y[i]);
  }
  ExpectWithin({result.back()}, {expected}, {SumError(k, magnitude)}, "last row");
  for (size_t row = 0; row + 1 < result.size(); ++row) ASSERT_EQ(result[row], 0.0) << row;
}

TEST_P(GemmTest, RefusesWhatNoBackendSupports) {
  const GemmCase f8{.shape = {32, 32, 32}, .a = DType::kF8E4M3, .b = DType::kF8E4M3};
  Problem valid(rig_, random_, f8);
  EXPECT_NO_THROW(Validate(valid.args()));
  const auto refused = [](GemmArgs args, const std::function<void(GemmArgs&)>& change) {
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refused(valid.args(), [](GemmArgs& args) { args.a_scale = {}; });
  refused(valid.args(), [](GemmArgs& args) { args.a_transposed = true; });
  refused(valid.args(), [](GemmArgs& args) { args.workspace = {}; });
  refused(valid.args(), [](GemmArgs& args) { args.out = {}; });
  refused(valid.args(), [](GemmArgs& args) { args.out = args.out.Rows(0, 31); });
  refused(valid.args(), [](GemmArgs& args) { args.bias = args.out; });
  refused(valid.args(), [](GemmArgs& args) {
    // Misaligned by 4 bytes.
    args.a_scale = TensorView(args.a_scale.as<float>() + 1, Shape{4});
  });
  // E5M2 times E5M2, and k or n that is no multiple of 16.
  for (const GemmCase& c :
       {GemmCase{.shape = {32, 32, 32}, .a = DType::kF8E5M2, .b = DType::kF8E5M2},
        GemmCase{.shape = {32, 32, 40}, .a = DType::kF8E4M3, .b = DType::kF8E4M3},
        GemmCase{.shape = {32, 40, 32}, .a = DType::kF8E4M3, .b = DType::kF8E4M3},
        GemmCase{.shape = {32, 32, 32}, .a = DType::kF32, .b = DType::kBF16},
        GemmCase{.shape = {32, 32, 32}, .a = DType::kBF16, .b = DType::kF8E4M3}}) {
    Problem problem(rig_, random_, c);
    EXPECT_THROW(Validate(problem.args()), CheckError) << c;
  }
  Problem f32(rig_, random_, {.shape = {32, 32, 32}});
  refused(f32.args(), [&](GemmArgs& args) {
    args.b = args.b.Rows(0, 31);
    args.b_transposed = true;
  });
  refused(f32.args(), [&](GemmArgs& args) { args.a_scale = valid.args().a_scale; });
  refused(f32.args(), [](GemmArgs& args) { args.out = args.a; });
  refused(f32.args(), [](GemmArgs& args) { args.addend = args.out.Reshape({16, 64}); });
}

INSTANTIATE_TEST_SUITE_P(Backends, GemmTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
