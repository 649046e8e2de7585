// SwiGLU against a loop in double precision, its gradient against finite differences.
#include "kernels/api/swiglu.h"

#include <cmath>
#include <functional>

#include "kernels/cpu/exp.h"
#include "tests/support/kernel_test.h"
#include "tests/support/quantized_oracle.h"

namespace hearth::test {
namespace {

double Silu(double x) { return x / (1 + std::exp(-x)); }

// Relative error of sigmoid in fp32: an exponential of a few units, a sum, a division.
constexpr double kSigmoidError = 0x1p-21;

class SwigluTest : public KernelTest {};

TEST_P(SwigluTest, ForwardMatchesDoublePrecision) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const auto& [rows, ffn] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 7}, {17, 64}, {65, 257}, {2, 1031}}) {
      SCOPED_TRACE(Format("{} x {} {}", rows, ffn, Name(storage)));
      const DeviceTensor gate_up = NormalTensor(storage, {rows, 2 * ffn}, 5.0);
      const DeviceTensor out(rig_, storage, {rows, ffn});
      backend().SwigluForward(stream(), {.gate_up = gate_up, .out = out});
      const std::vector<double> in = gate_up.Get();
      std::vector<double> expected, bound;
      for (int64_t i = 0; i < rows * ffn; ++i) {
        const auto at = static_cast<size_t>(i / ffn * 2 * ffn + i % ffn);
        expected.push_back(Silu(in[at]) * in[at + static_cast<size_t>(ffn)]);
        const double error = std::abs(expected.back()) * (kSigmoidError + 0x1p-22);
        bound.push_back(error + RoundingError(storage, std::abs(expected.back()) + error));
      }
      ExpectWithin(out.Get(), expected, bound, "out");
    }
  }
}

// The gates at which e^-x overflows or vanishes.
TEST_P(SwigluTest, ExtremeGates) {
  const std::vector<double> gates = {-1e38, -200, -104, -90, -88, -87, 0, -0.0, 80, 104, 200, 1e38};
  const auto count = static_cast<int64_t>(gates.size());
  std::vector<double> in = gates;
  in.resize(2 * gates.size(), 1.0);
  const DeviceTensor gate_up(rig_, DType::kF32, {1, 2 * count}, in);
  const DeviceTensor out(rig_, DType::kF32, {1, count});
  backend().SwigluForward(stream(), {.gate_up = gate_up, .out = out});
  std::vector<double> expected, bound;
  for (const double gate : Rounded(gates, DType::kF32)) {
    expected.push_back(gate < -1e6 ? 0.0 : Silu(gate));
    // A sigmoid below the smallest normal number has an absolute error.
    bound.push_back(std::abs(expected.back()) * kSigmoidError +
                    std::abs(gate < -1e6 ? 0 : gate) * 0x1p-126);
  }
  ExpectWithin(out.Get(), expected, bound, "out");
}

struct BackwardResult {
  std::vector<double> expected, bound;
};

// d_gate_up in double, and the bound of the same in fp32 with one rounding.
BackwardResult Backward(const std::vector<double>& in, const std::vector<double>& d_out,
                        int64_t ffn, DType storage) {
  BackwardResult result{std::vector<double>(in.size()), std::vector<double>(in.size())};
  for (size_t i = 0; i < d_out.size(); ++i) {
    const size_t width = static_cast<size_t>(ffn);
    const size_t gate_at = i / width * 2 * width + i % width;
    const size_t up_at = gate_at + width;
    const double gate = in[gate_at];
    const double sigmoid = 1 / (1 + std::exp(-gate));
    const double silu = gate * sigmoid;
    result.expected[gate_at] = d_out[i] * in[up_at] * (sigmoid + silu * (1 - sigmoid));
    result.expected[up_at] = d_out[i] * silu;
    // 1 - sigmoid has the absolute error of sigmoid, 2^-21 at most.
    result.bound[gate_at] =
        std::abs(d_out[i] * in[up_at]) * (sigmoid + std::abs(silu)) * 4 * kSigmoidError;
    result.bound[up_at] = std::abs(d_out[i] * silu) * 2 * kSigmoidError;
    for (const size_t at : {gate_at, up_at}) {
      result.bound[at] += RoundingError(storage, std::abs(result.expected[at]) + result.bound[at]);
    }
  }
  return result;
}

TEST_P(SwigluTest, BackwardMatchesDoublePrecision) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const auto& [rows, ffn] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 7}, {17, 64}, {65, 257}, {2, 1031}}) {
      SCOPED_TRACE(Format("{} x {} {}", rows, ffn, Name(storage)));
      const DeviceTensor gate_up = NormalTensor(storage, {rows, 2 * ffn}, 3.0);
      const DeviceTensor d_out = NormalTensor(storage, {rows, ffn});
      const DeviceTensor d_gate_up(rig_, storage, {rows, 2 * ffn});
      SwigluBackwardArgs args{.d_out = d_out, .gate_up = gate_up, .d_gate_up = d_gate_up};
      backend().SwigluBackward(stream(), args);
      const BackwardResult result = Backward(gate_up.Get(), d_out.Get(), ffn, storage);
      ExpectWithin(d_gate_up.Get(), result.expected, result.bound, "d_gate_up");
      // In place.
      args.d_gate_up = gate_up;
      const std::vector<uint8_t> bytes = d_gate_up.GetBytes();
      backend().SwigluBackward(stream(), args);
      EXPECT_EQ(gate_up.GetBytes(), bytes);
    }
  }
}

TEST_P(SwigluTest, BackwardMatchesFiniteDifferences) {
  const int64_t ffn = 5;
  const DeviceTensor gate_up = NormalTensor(DType::kF32, {3, 2 * ffn});
  const DeviceTensor d_out = NormalTensor(DType::kF32, {3, ffn});
  const DeviceTensor d_gate_up(rig_, DType::kF32, {3, 2 * ffn});
  backend().SwigluBackward(stream(), {.d_out = d_out, .gate_up = gate_up, .d_gate_up = d_gate_up});
  const std::vector<double> in = gate_up.Get();
  const std::vector<double> d = d_out.Get();
  const auto loss = [&](const std::vector<double>& values) {
    double sum = 0;
    for (size_t i = 0; i < d.size(); ++i) {
      const size_t at = i / 5 * 10 + i % 5;
      sum += d[i] * Silu(values[at]) * values[at + 5];
    }
    return sum;
  };
  std::vector<double> slopes;
  for (size_t i = 0; i < in.size(); ++i) {
    std::vector<double> values = in;
    values[i] += 1e-5;
    const double above = loss(values);
    values[i] -= 2e-5;
    slopes.push_back((above - loss(values)) / 2e-5);
  }
  ExpectWithin(d_gate_up.Get(), slopes, std::vector<double>(slopes.size(), 1e-5), "d_gate_up");
}

TEST_P(SwigluTest, QuantizedOutputIsThatOfTheResult) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const DType format : {DType::kF8E4M3, DType::kF8E5M2}) {
      SCOPED_TRACE(Format("{} {}", Name(storage), Name(format)));
      const DeviceTensor gate_up = NormalTensor(storage, {80, 96});
      const DeviceTensor d_out = NormalTensor(storage, {80, 48});
      const DeviceTensor out(rig_, storage, {80, 48});
      const DeviceTensor d_gate_up(rig_, storage, {80, 96});
      QuantizedTensors forward(rig_, {80, 48}, format);
      QuantizedTensors backward(rig_, {80, 96}, format);
      for (const bool keep : {true, false}) {
        SwigluForwardArgs args{.gate_up = gate_up, .quantized = forward.Current()};
        SwigluBackwardArgs back{
            .d_out = d_out, .gate_up = gate_up, .quantized = backward.Current()};
        if (keep) {
          args.out = out;
          back.d_gate_up = d_gate_up;
        }
        forward.Poison();
        backward.Poison();
        backend().SwigluForward(stream(), args);
        forward.ExpectCurrent(out.Get());
        args.quantized = forward.Given(11.0f);
        backend().SwigluForward(stream(), args);
        forward.ExpectGiven(out.Get(), 11.0f);
        backend().SwigluBackward(stream(), back);
        backward.ExpectCurrent(d_gate_up.Get());
        back.quantized = backward.Given(3.25f);
        backend().SwigluBackward(stream(), back);
        backward.ExpectGiven(d_gate_up.Get(), 3.25f);
        for (const int power : {-6, 0, 6}) {  // one of them fits
          const float scale =
              format == DType::kF8E4M3 ? std::ldexp(16.0f, power) : std::ldexp(2048.0f, power);
          args.quantized = forward.Verified(scale);
          backend().SwigluForward(stream(), args);
          forward.ExpectVerified(out.Get(), scale);
          back.quantized = backward.Verified(scale);
          backend().SwigluBackward(stream(), back);
          backward.ExpectVerified(d_gate_up.Get(), scale);
        }
      }
    }
  }
}

// The repair reads the result, where the result took the place of the input.
TEST_P(SwigluTest, VerifiedScaleIsRepairedInPlace) {
  for (const int64_t ffn : {16, 48, 37}) {
    for (const float scale : {0x1p-8f, 0x1p5f, 0x1p20f}) {
      const DeviceTensor gate_up = NormalTensor(DType::kBF16, {272, 2 * ffn});
      const DeviceTensor d_out = NormalTensor(DType::kBF16, {272, ffn});
      const DeviceTensor expected(rig_, DType::kBF16, {272, 2 * ffn});
      backend().SwigluBackward(stream(),
                               {.d_out = d_out, .gate_up = gate_up, .d_gate_up = expected});
      QuantizedTensors quantized(rig_, {272, 2 * ffn}, DType::kF8E4M3);
      backend().SwigluBackward(stream(), {.d_out = d_out,
                                          .gate_up = gate_up,
                                          .d_gate_up = gate_up,
                                          .quantized = quantized.Verified(scale)});
      EXPECT_EQ(gate_up.GetBytes(), expected.GetBytes());
      quantized.ExpectVerified(expected.Get(), scale);
    }
  }
}

TEST_P(SwigluTest, NothingDependsOnTheNumberOfThreads) {
  const std::vector<double> in = random_.Normals(301 * 2 * 112);
  const std::vector<double> d = random_.Normals(301 * 112);
  std::vector<std::vector<uint8_t>> first;
  for (const int threads : {1, 2, 3}) {
    Rig rig(GetParam(), threads);
    const DeviceTensor gate_up(rig, DType::kBF16, {301, 224}, in);
    const DeviceTensor d_out(rig, DType::kBF16, {301, 112}, d);
    const DeviceTensor out(rig, DType::kBF16, {301, 112});
    const DeviceTensor d_gate_up(rig, DType::kBF16, {301, 224});
    rig.backend().SwigluForward(rig.stream(), {.gate_up = gate_up, .out = out});
    rig.backend().SwigluBackward(rig.stream(),
                                 {.d_out = d_out, .gate_up = gate_up, .d_gate_up = d_gate_up});
    std::vector<std::vector<uint8_t>> results = {out.GetBytes(), d_gate_up.GetBytes()};
    if (first.empty()) first = results;
    EXPECT_EQ(results, first) << threads << " threads";
  }
}

TEST_P(SwigluTest, RefusesWrongArguments) {
  const DeviceTensor gate_up = NormalTensor(DType::kBF16, {8, 32});
  const DeviceTensor d_out = NormalTensor(DType::kBF16, {8, 16});
  const DeviceTensor wide(rig_, DType::kF32, {8, 16});
  const SwigluForwardArgs good{.gate_up = gate_up, .out = d_out};
  EXPECT_NO_THROW(Validate(good));
  const auto refuses = [&](const std::function<void(SwigluForwardArgs&)>& change) {
    SwigluForwardArgs args = good;
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refuses([](auto& args) { args.gate_up = {}; });
  refuses([](auto& args) { args.out = {}; });
  refuses([&](auto& args) { args.out = wide; });
  refuses([&](auto& args) { args.out = gate_up.view().Flat(0, 128).Reshape({8, 16}); });
  refuses([&](auto& args) { args.gate_up = gate_up.view().Flat(0, 248).Reshape({8, 31}); });
  refuses([&](auto& args) { args.gate_up = gate_up.view().Reshape({256}); });
  const SwigluBackwardArgs good_back{.d_out = d_out, .gate_up = gate_up, .d_gate_up = gate_up};
  EXPECT_NO_THROW(Validate(good_back));
  const auto refuses_back = [&](const std::function<void(SwigluBackwardArgs&)>& change) {
    SwigluBackwardArgs args = good_back;
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refuses_back([](auto& args) { args.d_out = {}; });
  refuses_back([](auto& args) { args.d_gate_up = {}; });
  refuses_back([&](auto& args) { args.d_out = wide; });
  refuses_back([&](auto& args) { args.d_gate_up = d_out; });
}

// The shared exponential: within two units of 2^-23 of the true value over all normal results.
TEST(ExpTest, IsAccurate) {
  Random random;
  double worst = 0;
  for (int i = 0; i < 2'000'000; ++i) {
    const auto x = static_cast<float>(random.Uniform(-87.3, 88.7));
    const double expected = std::exp(static_cast<double>(x));
    const double error = std::abs(static_cast<double>(Exp(x)) - expected) / expected;
    if (!(error <= worst)) worst = error;
  }
  EXPECT_LE(worst, 0x1p-22);
  EXPECT_EQ(Exp(0.0f), 1.0f);
  EXPECT_EQ(Exp(-INFINITY), 0.0f);
  EXPECT_EQ(Exp(-105.0f), 0.0f);
  EXPECT_EQ(Exp(INFINITY), INFINITY);
  EXPECT_EQ(Exp(88.8f), INFINITY);
  EXPECT_TRUE(std::isnan(Exp(NAN)));
  EXPECT_NEAR(Exp(-95.0f) / std::exp(-95.0), 1.0, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Backends, SwigluTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
