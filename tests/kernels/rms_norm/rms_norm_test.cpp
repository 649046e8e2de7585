// RMSNorm against a loop in double precision, its gradient against finite differences.
#include "kernels/api/rms_norm.h"

#include <cmath>
#include <functional>

#include "kernels/api/workspace.h"
#include "tests/support/kernel_test.h"
#include "tests/support/partial_sum_rows.h"
#include "tests/support/quantized_oracle.h"

namespace hearth::test {
namespace {

constexpr float kEpsilon = 1e-5f;

struct NormCase {
  int64_t rows;
  int64_t columns;
  DType storage;
};

std::ostream& operator<<(std::ostream& out, const NormCase& c) {
  return out << c.rows << " x " << c.columns << ' ' << Name(c.storage);
}

std::vector<NormCase> Cases() {
  std::vector<NormCase> cases;
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const auto& [rows, columns] : std::vector<std::pair<int64_t, int64_t>>{
             {1, 1}, {3, 7}, {64, 16}, {65, 129}, {131, 48}, {2, 1025}}) {
      cases.push_back({rows, columns, storage});
    }
    // Around the sizes where a partial sum of the weight's gradient gets more rows, in columns that
    // one team of threads takes, several, and a team of a whole block.
    for (const int64_t rows : RowsAroundPartialSums()) cases.push_back({rows, 5, storage});
    for (const auto& [rows, columns] :
         std::vector<std::pair<int64_t, int64_t>>{{5, 264}, {1025, 48}, {12, 2056}, {9, 8200}}) {
      cases.push_back({rows, columns, storage});
    }
  }
  return cases;
}

size_t At(int64_t index) { return static_cast<size_t>(index); }

// 1 / rms of a row.
double Rstd(const std::vector<double>& x, int64_t row, int64_t columns) {
  double sum = 0;
  for (int64_t i = 0; i < columns; ++i) {
    sum += x[At(row * columns + i)] * x[At(row * columns + i)];
  }
  return 1.0 / std::sqrt(sum / static_cast<double>(columns) + static_cast<double>(kEpsilon));
}

// Relative error of rstd in fp32: the mean, under a root.
double RstdError(int64_t columns) { return 0.5 * SumError(columns, 1.0) + 0x1p-22; }

class RmsNormTest : public KernelTest {};

TEST_P(RmsNormTest, ForwardMatchesDoublePrecision) {
  for (const NormCase& c : Cases()) {
    SCOPED_TRACE(c);
    const DeviceTensor x = NormalTensor(c.storage, {c.rows, c.columns}, 2.0);
    const DeviceTensor weight = NormalTensor(c.storage, {c.columns});
    const DeviceTensor out(rig_, c.storage, {c.rows, c.columns});
    const DeviceTensor rstd(rig_, DType::kF32, {c.rows});
    backend().RmsNormForward(
        stream(), {.x = x, .weight = weight, .epsilon = kEpsilon, .out = out, .rstd = rstd});
    const std::vector<double> xs = x.Get();
    const std::vector<double> weights = weight.Get();
    std::vector<double> expected(xs.size()), bound(xs.size()), rstds(At(c.rows)),
        rstd_bound(At(c.rows));
    for (int64_t row = 0; row < c.rows; ++row) {
      rstds[At(row)] = Rstd(xs, row, c.columns);
      rstd_bound[At(row)] = RstdError(c.columns) * rstds[At(row)];
      for (int64_t i = 0; i < c.columns; ++i) {
        const size_t at = At(row * c.columns + i);
        const double normalized = xs[at] * rstds[At(row)];
        const double error = std::abs(normalized) * (RstdError(c.columns) + 0x1p-24);
        const double rounded_error = error + RoundingError(c.storage, std::abs(normalized) + error);
        expected[at] = normalized * weights[At(i)];
        bound[at] = rounded_error * std::abs(weights[At(i)]);
        bound[at] += 2 * RoundingError(c.storage, std::abs(expected[at]) + bound[at]);
      }
    }
    ExpectWithin(rstd.Get(), rstds, rstd_bound, "rstd");
    ExpectWithin(out.Get(), expected, bound, "out");
  }
}

// Both roundings of transformers' formula: in bf16 the result is exactly that of rounding x * rstd
// before the weight is multiplied.
TEST_P(RmsNormTest, RoundsBeforeTheWeight) {
  const int64_t columns = 256;
  const DeviceTensor x = NormalTensor(DType::kBF16, {5, columns});
  const DeviceTensor weight = NormalTensor(DType::kBF16, {columns});
  const DeviceTensor out(rig_, DType::kBF16, {5, columns});
  const DeviceTensor rstd(rig_, DType::kF32, {5});
  backend().RmsNormForward(
      stream(), {.x = x, .weight = weight, .epsilon = kEpsilon, .out = out, .rstd = rstd});
  const std::vector<double> xs = x.Get();
  const std::vector<double> weights = weight.Get();
  const std::vector<double> rstds = rstd.Get();
  std::vector<double> expected(xs.size());
  for (size_t i = 0; i < xs.size(); ++i) {
    const float normalized = static_cast<float>(xs[i]) * static_cast<float>(rstds[i / columns]);
    expected[i] = static_cast<double>(ToFloat(
        ToBFloat16(ToFloat(ToBFloat16(normalized)) * static_cast<float>(weights[i % columns]))));
  }
  ExpectSame(out.Get(), expected, "out");
}

TEST_P(RmsNormTest, QuantizedOutputIsThatOfTheResult) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const DType format : {DType::kF8E4M3, DType::kF8E5M2}) {
      SCOPED_TRACE(Format("{} {}", Name(storage), Name(format)));
      const Shape shape = {48, 80};
      const DeviceTensor x = NormalTensor(storage, shape);
      const DeviceTensor weight = NormalTensor(storage, {80});
      const DeviceTensor out(rig_, storage, shape);
      const DeviceTensor rstd(rig_, DType::kF32, {48});
      QuantizedTensors quantized(rig_, shape, format);
      RmsNormForwardArgs args{
          .x = x, .weight = weight, .out = out, .quantized = quantized.Current(), .rstd = rstd};
      backend().RmsNormForward(stream(), args);
      const std::vector<double> produced = out.Get();
      quantized.ExpectCurrent(produced);
      // The same without keeping the result itself.
      args.out = {};
      quantized.Poison();
      backend().RmsNormForward(stream(), args);
      quantized.ExpectCurrent(produced);
      args.quantized = quantized.Given(37.5f);
      backend().RmsNormForward(stream(), args);
      quantized.ExpectGiven(produced, 37.5f);
    }
  }
}

TEST_P(RmsNormTest, VerifiedScaleHoldsOrIsRepaired) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const DType format : {DType::kF8E4M3, DType::kF8E5M2}) {
      for (const Shape& shape : {Shape{48, 80}, Shape{5, 7}, Shape{33, 1024}, Shape{272, 48}}) {
        SCOPED_TRACE(Format("{} {} {}", Name(storage), Name(format), shape));
        const DeviceTensor x = NormalTensor(storage, shape);
        const DeviceTensor weight = NormalTensor(storage, {shape[1]});
        const DeviceTensor out(rig_, storage, shape);
        const DeviceTensor rstd(rig_, DType::kF32, {shape[0]});
        QuantizedTensors quantized(rig_, shape, format);
        RmsNormForwardArgs args{.x = x, .weight = weight, .out = out, .rstd = rstd};
        backend().RmsNormForward(stream(), args);
        for (const bool keep : {true, false}) {
          for (const int power : {-9, 0, 9}) {  // the middle one is likely to fit
            const float scale = std::ldexp(format == DType::kF8E4M3 ? 32.0f : 4096.0f, power);
            quantized.Poison();
            args.out = keep ? out.view() : TensorView{};
            args.quantized = quantized.Verified(scale);
            backend().RmsNormForward(stream(), args);
            quantized.ExpectVerified(out.Get(), scale);
          }
        }
      }
    }
  }
}

// The loss sum(d_out * norm(x) * weight) in double.
double Loss(const std::vector<double>& x, const std::vector<double>& weight,
            const std::vector<double>& d_out, int64_t columns) {
  double loss = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto row = static_cast<int64_t>(i) / columns;
    loss += d_out[i] * x[i] * Rstd(x, row, columns) * weight[i % At(columns)];
  }
  return loss;
}

struct BackwardTensors {
  BackwardTensors(Rig& rig, Random& random, const NormCase& c, DType accumulator)
      : x(rig, c.storage, {c.rows, c.columns}, random.Normals(c.rows * c.columns)),
        d_out(rig, c.storage, {c.rows, c.columns}, random.Normals(c.rows * c.columns)),
        d_residual(rig, c.storage, {c.rows, c.columns}, random.Normals(c.rows * c.columns)),
        weight(rig, c.storage, {c.columns}, random.Normals(c.columns)),
        out(rig, c.storage, {c.rows, c.columns}),
        rstd(rig, DType::kF32, {c.rows}),
        d_x(rig, c.storage, {c.rows, c.columns}),
        d_weight(rig, accumulator, {c.columns}, random.Normals(c.columns)),
        workspace(rig, DType::kU8, {RmsNormBackwardWorkspaceBytes(c.rows, c.columns)}) {
    rig.backend().RmsNormForward(
        rig.stream(), {.x = x, .weight = weight, .epsilon = kEpsilon, .out = out, .rstd = rstd});
  }
  RmsNormBackwardArgs args() const {
    return {.d_out = d_out,
            .x = x,
            .weight = weight,
            .rstd = rstd,
            .d_residual = d_residual,
            .d_x = d_x,
            .d_weight = d_weight,
            .workspace = workspace};
  }
  DeviceTensor x, d_out, d_residual, weight, out, rstd, d_x, d_weight, workspace;
};

TEST_P(RmsNormTest, BackwardMatchesFiniteDifferences) {
  const NormCase c{3, 9, DType::kF32};
  const BackwardTensors t(rig_, random_, c, DType::kF32);
  const std::vector<double> before = t.d_weight.Get();
  RmsNormBackwardArgs args = t.args();
  args.d_residual = {};
  backend().RmsNormBackward(stream(), args);
  const std::vector<double> x = t.x.Get();
  const std::vector<double> weight = t.weight.Get();
  const std::vector<double> d_out = t.d_out.Get();
  const auto slope = [&](std::vector<double> values, size_t i,
                         const std::function<double(const std::vector<double>&)>& loss) {
    constexpr double kStep = 1e-5;
    values[i] += kStep;
    const double above = loss(values);
    values[i] -= 2 * kStep;
    return (above - loss(values)) / (2 * kStep);
  };
  std::vector<double> d_x(x.size()), d_weight(weight.size());
  for (size_t i = 0; i < x.size(); ++i) {
    d_x[i] =
        slope(x, i, [&](const auto& values) { return Loss(values, weight, d_out, c.columns); });
  }
  for (size_t i = 0; i < weight.size(); ++i) {
    d_weight[i] = before[i] + slope(weight, i, [&](const auto& values) {
                    return Loss(x, values, d_out, c.columns);
                  });
  }
  // Differences of a loss of about 30 in steps of 1e-5, third derivatives of about 100.
  ExpectWithin(t.d_x.Get(), d_x, std::vector<double>(d_x.size(), 2e-5), "d_x");
  ExpectWithin(t.d_weight.Get(), d_weight, std::vector<double>(d_weight.size(), 2e-5), "d_weight");
}

TEST_P(RmsNormTest, BackwardMatchesDoublePrecision) {
  for (const NormCase& c : Cases()) {
    for (const DType accumulator : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(c);
      const BackwardTensors t(rig_, random_, c, accumulator);
      const std::vector<double> before = t.d_weight.Get();
      backend().RmsNormBackward(stream(), t.args());
      const auto x = t.x.Get(), d_out = t.d_out.Get(), weight = t.weight.Get(),
                 residual = t.d_residual.Get();
      std::vector<double> d_x(x.size()), bound(x.size()),
          d_weight = before, magnitude(before.size()), input_error(before.size());
      for (int64_t row = 0; row < c.rows; ++row) {
        const double rstd = Rstd(x, row, c.columns);
        double mean = 0, mean_magnitude = 0;
        for (int64_t i = 0; i < c.columns; ++i) {
          const size_t at = At(row * c.columns + i);
          const double term = d_out[at] * weight[At(i)] * x[at] * rstd / double(c.columns);
          mean += term;
          mean_magnitude += std::abs(term);
          const double normalized = x[at] * rstd;
          d_weight[At(i)] += d_out[at] * normalized;
          magnitude[At(i)] += std::abs(d_out[at] * normalized);
          input_error[At(i)] += std::abs(d_out[at]) * RoundingError(c.storage, normalized) * 1.01;
        }
        for (int64_t i = 0; i < c.columns; ++i) {
          const size_t at = At(row * c.columns + i);
          const double g = d_out[at] * weight[At(i)];
          const double n = x[at] * rstd;
          d_x[at] = rstd * (g - n * mean) + residual[at];
          // The mean as a sum; each of the other factors a few roundings, rstd as in forward.
          bound[at] = rstd * (std::abs(g) + std::abs(n) * mean_magnitude) *
                          (SumError(c.columns, 1.0) + 4 * RstdError(c.columns)) +
                      0x1p-23 * std::abs(residual[at]);
          bound[at] += RoundingError(c.storage, std::abs(d_x[at]) + bound[at]);
        }
      }
      std::vector<double> weight_bound(before.size());
      for (size_t i = 0; i < before.size(); ++i) {
        weight_bound[i] = input_error[i] + magnitude[i] * 2 * RstdError(c.columns) +
                          SumError(c.rows + 1, magnitude[i] + std::abs(before[i]));
        weight_bound[i] += RoundingError(accumulator, std::abs(d_weight[i]) + weight_bound[i]);
      }
      ExpectWithin(t.d_x.Get(), d_x, bound, "d_x");
      ExpectWithin(t.d_weight.Get(), d_weight, weight_bound, "d_weight");
    }
  }
}

// With rstd = 1 the weight's gradient is a sum of products of integers, exact in any order, so that
// a row left out or added twice shows.
TEST_P(RmsNormTest, BackwardTakesEveryRowOnce) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const int64_t columns : {1, 40, 257}) {
      for (const int64_t rows : RowsAroundPartialSums()) {
        if (rows * columns > 1 << 20) continue;
        const NormCase c{rows, columns, storage};
        SCOPED_TRACE(c);
        BackwardTensors t(rig_, random_, c, DType::kF32);
        const std::vector<double> x = SmallIntegers(random_, rows * columns);
        const std::vector<double> d_out = SmallIntegers(random_, rows * columns);
        std::vector<double> expected = SmallIntegers(random_, columns);
        t.x.Set(x);
        t.d_out.Set(d_out);
        t.d_weight.Set(expected);
        t.rstd.Set(std::vector<double>(At(rows), 1.0));
        backend().RmsNormBackward(stream(), t.args());
        for (size_t i = 0; i < x.size(); ++i) expected[i % At(columns)] += d_out[i] * x[i];
        ExpectSame(t.d_weight.Get(), expected, "d_weight");
      }
    }
  }
}

TEST_P(RmsNormTest, TheResidualGradientMayBeTheResult) {
  const NormCase c{70, 33, DType::kBF16};
  const BackwardTensors t(rig_, random_, c, DType::kF32);
  RmsNormBackwardArgs args = t.args();
  backend().RmsNormBackward(stream(), args);
  args.d_x = t.d_residual;
  const std::vector<uint8_t> expected = t.d_x.GetBytes();
  backend().RmsNormBackward(stream(), args);
  EXPECT_EQ(t.d_residual.GetBytes(), expected);
}

// Padding: rows of zeros normalise to zeros, add nothing to the weight's gradient and pass the
// residual's gradient on.
TEST_P(RmsNormTest, RowsOfZeros) {
  const NormCase c{4, 24, DType::kBF16};
  BackwardTensors t(rig_, random_, c, DType::kF32);
  t.x.Set(std::vector<double>(96, 0.0));
  t.d_out.Set(std::vector<double>(96, 0.0));
  const std::vector<double> before = t.d_weight.Get();
  backend().RmsNormForward(
      stream(), {.x = t.x, .weight = t.weight, .epsilon = kEpsilon, .out = t.out, .rstd = t.rstd});
  backend().RmsNormBackward(stream(), t.args());
  ExpectSame(t.out.Get(), std::vector<double>(96, 0.0), "out");
  ExpectSame(t.d_x.Get(), t.d_residual.Get(), "d_x");
  ExpectSame(t.d_weight.Get(), before, "d_weight");
  for (const double rstd : t.rstd.Get()) {
    EXPECT_NEAR(rstd, 1 / std::sqrt(static_cast<double>(kEpsilon)), 1e-4);
  }
}

TEST_P(RmsNormTest, NothingDependsOnTheNumberOfThreads) {
  std::vector<std::vector<uint8_t>> first;
  const std::vector<double> x = random_.Normals(197 * 130);
  const std::vector<double> weight = random_.Normals(130);
  for (const int threads : {1, 2, 3}) {
    Rig rig(GetParam(), threads);
    const NormCase c{197, 130, DType::kBF16};
    BackwardTensors t(rig, random_, c, DType::kBF16);
    t.x.Set(x);
    t.d_out.Set(x);
    t.d_residual.Set(x);
    t.weight.Set(weight);
    t.d_weight.Set(weight);
    rig.backend().RmsNormForward(
        rig.stream(),
        {.x = t.x, .weight = t.weight, .epsilon = kEpsilon, .out = t.out, .rstd = t.rstd});
    rig.backend().RmsNormBackward(rig.stream(), t.args());
    std::vector<std::vector<uint8_t>> results = {t.out.GetBytes(), t.rstd.GetBytes(),
                                                 t.d_x.GetBytes(), t.d_weight.GetBytes()};
    if (first.empty()) first = results;
    EXPECT_EQ(results, first) << threads << " threads";
  }
}

TEST_P(RmsNormTest, RefusesWrongForwardArguments) {
  const DeviceTensor x = NormalTensor(DType::kBF16, {8, 16});
  const DeviceTensor weight = NormalTensor(DType::kBF16, {16});
  const DeviceTensor out(rig_, DType::kBF16, {8, 16});
  const DeviceTensor rstd(rig_, DType::kF32, {8});
  const DeviceTensor wrong(rig_, DType::kF32, {8, 16});
  const RmsNormForwardArgs good{.x = x, .weight = weight, .out = out, .rstd = rstd};
  EXPECT_NO_THROW(Validate(good));
  const auto refuses = [&](const std::function<void(RmsNormForwardArgs&)>& change) {
    RmsNormForwardArgs args = good;
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refuses([](auto& args) { args.x = {}; });
  refuses([](auto& args) { args.weight = {}; });
  refuses([](auto& args) { args.rstd = {}; });
  refuses([](auto& args) { args.out = {}; });
  refuses([](auto& args) { args.epsilon = 0; });
  refuses([](auto& args) { args.epsilon = std::nanf(""); });
  refuses([&](auto& args) { args.x = x.view().Reshape({16, 8}); });
  refuses([&](auto& args) { args.x = x.view().Reshape({128}); });
  refuses([&](auto& args) { args.x = wrong; });
  refuses([&](auto& args) { args.out = wrong; });
  refuses([&](auto& args) { args.out = x; });
  refuses([&](auto& args) {
    args.weight = x.view().Flat(0, 16);
    args.out = x;
  });
  refuses([&](auto& args) { args.rstd = wrong.view().Flat(0, 7); });
  refuses([&](auto& args) { args.x = TensorView(x.view().data(), DType::kF8E4M3, {8, 16}); });
  refuses([&](auto& args) { args.quantized.scale = wrong.view().Flat(0, 4); });
}

TEST_P(RmsNormTest, RefusesWrongBackwardArguments) {
  const BackwardTensors t(rig_, random_, {8, 16, DType::kBF16}, DType::kF32);
  const DeviceTensor other(rig_, DType::kF32, {8, 16});
  EXPECT_NO_THROW(Validate(t.args()));
  const auto refuses = [&](const std::function<void(RmsNormBackwardArgs&)>& change) {
    RmsNormBackwardArgs args = t.args();
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refuses([](auto& args) { args.d_out = {}; });
  refuses([](auto& args) { args.x = {}; });
  refuses([](auto& args) { args.weight = {}; });
  refuses([](auto& args) { args.rstd = {}; });
  refuses([](auto& args) { args.d_x = {}; });
  refuses([](auto& args) { args.d_weight = {}; });
  refuses([](auto& args) { args.workspace = {}; });
  refuses([](auto& args) { args.workspace = args.workspace.Flat(0, 16); });
  refuses([&](auto& args) { args.d_out = other; });
  refuses([&](auto& args) { args.d_residual = other; });
  refuses([&](auto& args) { args.d_x = other; });
  refuses([&](auto& args) { args.d_x = args.x; });
  refuses([&](auto& args) { args.d_x = args.d_out; });
  refuses([&](auto& args) { args.d_weight = other.view().Flat(0, 15); });
  refuses([&](auto& args) { args.d_weight = args.weight; });
}

INSTANTIATE_TEST_SUITE_P(Backends, RmsNormTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
