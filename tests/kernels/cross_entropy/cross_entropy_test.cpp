#include "kernels/api/cross_entropy.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tests/support/kernel_test.h"

namespace hearth::test {
namespace {

struct CrossEntropyCase {
  int64_t tokens = 0;
  int64_t stored = 0;  // columns of the logits
  int64_t vocab = 0;
  double z_loss = 0;
  DType dtype = DType::kF32;
};

// ---- The gradient in FP8 ----

// The E5M2 number nearest to a value, ties to even, saturating: among all of them.
double NearestE5M2(double value) {
  static const std::vector<double> numbers = [] {
    std::vector<double> all;
    for (int bits = 0; bits <= 0x7b; ++bits) {
      const int exponent = bits >> 2, mantissa = bits & 3;
      all.push_back(exponent == 0 ? mantissa * 0x1p-16
                                  : std::ldexp(1.0 + mantissa / 4.0, exponent - 15));
    }
    return all;
  }();
  const double magnitude = std::min(std::abs(value), numbers.back());
  const auto above = std::lower_bound(numbers.begin(), numbers.end(), magnitude);
  double nearest = *above;
  if (above != numbers.begin()) {
    const double below = *(above - 1), middle = (below + *above) / 2;
    const bool above_is_even = (above - numbers.begin()) % 2 == 0;
    if (magnitude < middle || (magnitude == middle && !above_is_even)) nearest = below;
  }
  return value < 0 ? -nearest : nearest;
}

class Tensors {
 public:
  Tensors(Rig& rig, Random& random, const CrossEntropyCase& c, double deviation = 4.0)
      : case_(c),
        logits(rig, c.dtype, {c.tokens, c.stored}, random.Normals(c.tokens * c.stored, deviation)),
        targets(rig, DType::kI32, {c.tokens}),
        losses(rig, DType::kF32, {c.tokens}),
        gradient_scale(rig, DType::kF32, {1}, {1.0 / 37}),
        d_logits(rig, c.dtype, {c.tokens, c.stored}),
        d_logits_fp8(rig, DType::kF8E5M2, {c.tokens, c.stored}),
        d_logits_scale(rig, DType::kF32, {4}) {
    std::vector<double> values;
    for (int64_t i = 0; i < c.tokens; ++i) {
      // Every fifth token is masked; both ends of the vocabulary occur.
      const int64_t drawn = i == 1 ? 0 : (i == 2 ? c.vocab - 1 : random.Integer(0, c.vocab - 1));
      values.push_back(static_cast<double>(i % 5 == 4 ? -100 : drawn));
    }
    targets.Set(values);
  }

  CrossEntropyArgs args() const {
    return {.logits = logits,
            .targets = targets,
            .vocab = case_.vocab,
            .z_loss = static_cast<float>(case_.z_loss),
            .losses = losses,
            .gradient_scale = gradient_scale,
            .d_logits = d_logits};
  }
  CrossEntropyArgs fp8_args() const {
    CrossEntropyArgs changed = args();
    changed.d_logits = d_logits_fp8;
    changed.d_logits_scale = d_logits_scale;
    return changed;
  }

 private:
  CrossEntropyCase case_;

 public:
  DeviceTensor logits, targets, losses, gradient_scale, d_logits, d_logits_fp8, d_logits_scale;
};

// One row in double.
struct Row {
  Row(const double* logits, int64_t vocab) : first(logits), count(vocab) {
    largest = *std::max_element(logits, logits + vocab);
    double sum = 0;
    for (int64_t i = 0; i < vocab; ++i) sum += std::exp(logits[i] - largest);
    log_sum_exp = largest + std::log(sum);
  }
  double Loss(int64_t target, double z_loss) const {
    return log_sum_exp - first[target] + z_loss * log_sum_exp * log_sum_exp;
  }
  const double* first;
  int64_t count;
  double largest;
  double log_sum_exp;
};

class CrossEntropyTest : public KernelTest {
 protected:
  // Of the exponentials' share: the exponent's rounding, the exponential, sums over blocks of 4096.
  static double RelativeError(const Row& row) {
    const double spread = row.largest - *std::min_element(row.first, row.first + row.count);
    return spread * 0x1p-24 + 0x1p-20 + SumError(std::min<int64_t>(row.count, 4096), 1);
  }

  // Every number is what some value within the bound of the exact one is rounded to: rounding keeps
  // the order.
  void ExpectRightFp8(const CrossEntropyCase& c, const std::vector<double>& logits,
                      const Tensors& tensors, double scale) {
    const std::vector<double> targets = tensors.targets.Get();
    const std::vector<double> found = tensors.d_logits_fp8.Get();
    const double z = static_cast<double>(static_cast<float>(c.z_loss));
    for (int64_t i = 0; i < c.tokens; ++i) {
      const Row row(&logits[static_cast<size_t>(i * c.stored)], c.vocab);
      const auto target = static_cast<int64_t>(targets[static_cast<size_t>(i)]);
      const double slope = 1 + 2 * z * row.log_sum_exp;
      const double relative = 3 * RelativeError(row) + 0x1p-23;
      for (int64_t j = 0; j < c.stored; ++j) {
        const double value = found[static_cast<size_t>(i * c.stored + j)];
        if (target < 0 || j >= c.vocab) {
          ASSERT_EQ(value, 0) << i << ' ' << j;
          continue;
        }
        const double p = std::exp(row.first[j] - row.log_sum_exp) * slope;
        const double exact = scale * (p - (j == target ? 1 : 0));
        const double error = scale * relative * (std::abs(p) + (j == target ? 1 : 0));
        const double low = NearestE5M2(exact - error), high = NearestE5M2(exact + error);
        ASSERT_FALSE(!(value >= low && value <= high))
            << i << ' ' << j << ": " << value << " for " << exact;
      }
    }
  }

  void ExpectRight(const CrossEntropyCase& c, const std::vector<double>& logits,
                   const Tensors& tensors, const std::vector<double>& d_logits) {
    const std::vector<double> targets = tensors.targets.Get();
    const double scale = tensors.gradient_scale.Get()[0];
    const double z = static_cast<double>(static_cast<float>(c.z_loss));
    std::vector<double> losses;
    std::vector<double> loss_bounds;
    std::vector<double> gradients;
    std::vector<double> gradient_bounds;
    for (int64_t i = 0; i < c.tokens; ++i) {
      const Row row(&logits[static_cast<size_t>(i * c.stored)], c.vocab);
      const auto target = static_cast<int64_t>(targets[static_cast<size_t>(i)]);
      const double relative = RelativeError(row);
      const double slope = 1 + 2 * z * row.log_sum_exp;
      losses.push_back(target < 0 ? 0 : row.Loss(target, z));
      loss_bounds.push_back(
          target < 0 ? 0 : relative * std::abs(slope) + RoundingError(DType::kF32, losses.back()));
      for (int64_t j = 0; j < c.stored; ++j) {
        const bool inside = target >= 0 && j < c.vocab;
        const double p = inside ? std::exp(row.first[j] - row.log_sum_exp) : 0;
        const double exact = inside ? scale * (p * slope - (j == target ? 1 : 0)) : 0;
        const double error = inside ? 3 * relative * scale * p * std::abs(slope) : 0;
        gradients.push_back(exact);
        gradient_bounds.push_back(inside ? error + RoundingError(c.dtype, std::abs(exact) + error)
                                         : 0);
      }
    }
    ExpectWithin(tensors.losses.Get(), losses, loss_bounds, "losses");
    ExpectWithin(d_logits, gradients, gradient_bounds, "d_logits");
  }

  void RunCase(const CrossEntropyCase& c) {
    SCOPED_TRACE(testing::Message() << Name(c.dtype) << " tokens " << c.tokens << " vocab "
                                    << c.vocab << " of " << c.stored << " z " << c.z_loss);
    Tensors tensors(rig_, random_, c);
    const std::vector<double> logits = tensors.logits.Get();
    backend().CrossEntropy(stream(), tensors.args());
    ExpectRight(c, logits, tensors, tensors.d_logits.Get());
    EXPECT_TRUE(logits == tensors.logits.Get()) << "the logits were changed";
    // In place.
    CrossEntropyArgs args = tensors.args();
    args.d_logits = args.logits;
    tensors.losses.Poison();
    backend().CrossEntropy(stream(), args);
    ExpectRight(c, logits, tensors, tensors.logits.Get());
  }
};

TEST_P(CrossEntropyTest, EqualsTheFormulas) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const double z_loss : {0.0, 1e-2}) {
      RunCase({.tokens = 7, .stored = 1, .vocab = 1, .z_loss = z_loss, .dtype = dtype});
      RunCase({.tokens = 23, .stored = 48, .vocab = 37, .z_loss = z_loss, .dtype = dtype});
      RunCase({.tokens = 6, .stored = 9008, .vocab = 9001, .z_loss = z_loss, .dtype = dtype});
      // A row beyond what a block of threads keeps at hand.
      RunCase({.tokens = 2, .stored = 152064, .vocab = 151936, .z_loss = z_loss, .dtype = dtype});
    }
  }
}

TEST_P(CrossEntropyTest, GradientInFp8) {
  // The largest power of two with which the bound 1 + 2 * z * 4096 stays below 57344.
  const std::vector<std::pair<double, double>> scales = {
      {0.0, 0x1p15}, {1e-5, 0x1p15}, {1e-4, 0x1p14}, {1e-2, 0x1p9}, {1.0, 0x1p2}};
  for (const auto& [z_loss, scale] : scales) {
    EXPECT_EQ(static_cast<double>(LogitGradientScale(static_cast<float>(z_loss))), scale) << z_loss;
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const auto& [tokens, stored, vocab] : {std::array<int64_t, 3>{7, 1, 1},
                                                  {23, 48, 37},
                                                  {5, 37, 37},
                                                  {2, 9008, 9001},
                                                  {1, 152064, 151936}}) {
        SCOPED_TRACE(testing::Message() << Name(dtype) << " vocab " << vocab << " z " << z_loss);
        const CrossEntropyCase c{
            .tokens = tokens, .stored = stored, .vocab = vocab, .z_loss = z_loss, .dtype = dtype};
        Tensors tensors(rig_, random_, c);
        const std::vector<double> logits = tensors.logits.Get();
        backend().CrossEntropy(stream(), tensors.args());
        const std::vector<uint8_t> losses = tensors.losses.GetBytes();
        tensors.losses.Poison();
        backend().CrossEntropy(stream(), tensors.fp8_args());
        EXPECT_TRUE(losses == tensors.losses.GetBytes());
        EXPECT_TRUE(logits == tensors.logits.Get()) << "the logits were changed";
        ExpectRightFp8(c, logits, tensors, scale);
        const float per_target = static_cast<float>(tensors.gradient_scale.Get()[0]);
        const auto power = static_cast<float>(scale);
        const std::vector<double> record = {static_cast<double>(per_target / power),
                                            static_cast<double>(power / per_target), 0, 0};
        EXPECT_EQ(tensors.d_logits_scale.Get(), record);
      }
    }
  }
}

// The number of targets is in the record alone; one that is no number reaches every gradient there.
TEST_P(CrossEntropyTest, BytesOfFp8DoNotDependOnTheNumberOfTargets) {
  const CrossEntropyCase c{.tokens = 5, .stored = 96, .vocab = 90, .dtype = DType::kBF16};
  Tensors tensors(rig_, random_, c);
  std::vector<uint8_t> first;
  for (const double scale : {1.0, 1e-6, std::nan("")}) {
    tensors.gradient_scale.Set({scale});
    tensors.d_logits_fp8.Poison();
    backend().CrossEntropy(stream(), tensors.fp8_args());
    const std::vector<uint8_t> bytes = tensors.d_logits_fp8.GetBytes();
    if (first.empty()) first = bytes;
    EXPECT_TRUE(bytes == first);
    const double inverse = tensors.d_logits_scale.Get()[0];
    EXPECT_EQ(std::isnan(inverse), std::isnan(scale));
  }
}

TEST_P(CrossEntropyTest, GradientIsTheDerivativeOfTheLoss) {
  const CrossEntropyCase c{.tokens = 4, .stored = 12, .vocab = 11, .z_loss = 0.1};
  Tensors tensors(rig_, random_, c, 1.0);
  backend().CrossEntropy(stream(), tensors.args());
  const std::vector<double> logits = tensors.logits.Get();
  const std::vector<double> gradient = tensors.d_logits.Get();
  const std::vector<double> targets = tensors.targets.Get();
  const double scale = tensors.gradient_scale.Get()[0];
  const double z = static_cast<double>(0.1f);
  for (int64_t i = 0; i < c.tokens; ++i) {
    for (int64_t j = 0; j < c.vocab; ++j) {
      std::vector<double> row(logits.begin() + i * c.stored, logits.begin() + (i + 1) * c.stored);
      const auto target = static_cast<int64_t>(targets[static_cast<size_t>(i)]);
      const double step = 1e-5;
      const double middle = row[static_cast<size_t>(j)];
      row[static_cast<size_t>(j)] = middle + step;
      const double above = Row(row.data(), c.vocab).Loss(target, z);
      row[static_cast<size_t>(j)] = middle - step;
      const double below = Row(row.data(), c.vocab).Loss(target, z);
      const double quotient = scale * (above - below) / (2 * step);
      EXPECT_TRUE(std::abs(quotient - gradient[static_cast<size_t>(i * c.stored + j)]) <= 1e-7)
          << i << ' ' << j;
    }
  }
}

TEST_P(CrossEntropyTest, LossOnlyGivesTheSameLosses) {
  const CrossEntropyCase c{.tokens = 9, .stored = 64, .vocab = 50, .dtype = DType::kBF16};
  Tensors tensors(rig_, random_, c);
  backend().CrossEntropy(stream(), tensors.args());
  const std::vector<uint8_t> losses = tensors.losses.GetBytes();
  tensors.losses.Poison();
  tensors.d_logits.Poison();
  CrossEntropyArgs args = tensors.args();
  args.gradient_scale = {};
  args.d_logits = {};
  backend().CrossEntropy(stream(), args);
  EXPECT_TRUE(losses == tensors.losses.GetBytes());
  for (const double value : tensors.d_logits.Get()) ASSERT_TRUE(std::isnan(value));
}

TEST_P(CrossEntropyTest, ExtremeLogits) {
  const CrossEntropyCase c{.tokens = 1, .stored = 3, .vocab = 3};
  Tensors tensors(rig_, random_, c);
  tensors.targets.Set({1});
  tensors.logits.Set({1e30, -1e30, 0});
  backend().CrossEntropy(stream(), tensors.args());
  EXPECT_EQ(tensors.losses.Get()[0], static_cast<double>(2e30f));
  const double scale = tensors.gradient_scale.Get()[0];
  ExpectWithin(tensors.d_logits.Get(), {scale, -scale, 0}, {1e-8, 1e-8, 0}, "d_logits");
}

TEST_P(CrossEntropyTest, NanShowsInItsRowOnly) {
  const CrossEntropyCase c{.tokens = 3, .stored = 40, .vocab = 40};
  Tensors tensors(rig_, random_, c);
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
    std::vector<double> logits = random_.Normals(120);
    logits[40 + 17] = bad;
    tensors.logits.Set(logits);
    backend().CrossEntropy(stream(), tensors.args());
    const std::vector<double> losses = tensors.losses.Get();
    EXPECT_TRUE(std::isfinite(losses[0]));
    EXPECT_FALSE(std::isfinite(losses[1]));
    EXPECT_TRUE(std::isfinite(losses[2]));
    const std::vector<double> d_logits = tensors.d_logits.Get();
    EXPECT_TRUE(std::isnan(d_logits[40 + 17]));
    EXPECT_TRUE(std::isfinite(d_logits[39]));
    EXPECT_TRUE(std::isfinite(d_logits[80]));
  }
}

TEST_P(CrossEntropyTest, SameBitsForAnyNumberOfThreads) {
  std::vector<uint8_t> first;
  for (const int threads : {1, 2, 3}) {
    Rig rig(GetParam(), threads);
    Random random;
    Tensors tensors(rig, random, {.tokens = 50, .stored = 2048, .vocab = 2000, .z_loss = 1e-4});
    rig.backend().CrossEntropy(rig.stream(), tensors.args());
    std::vector<uint8_t> bytes = tensors.d_logits.GetBytes();
    const std::vector<uint8_t> losses = tensors.losses.GetBytes();
    bytes.insert(bytes.end(), losses.begin(), losses.end());
    if (first.empty()) first = bytes;
    EXPECT_TRUE(bytes == first) << threads << " threads";
  }
}

TEST_P(CrossEntropyTest, TargetOutsideTheVocabularyFailsTheStream) {
  if (GetParam() != "cpu") GTEST_SKIP() << "a device does not report it";
  Tensors tensors(rig_, random_, {.tokens = 2, .stored = 16, .vocab = 10});
  tensors.targets.Set({3, 10});
  backend().CrossEntropy(stream(), tensors.args());
  EXPECT_THROW(rig_.Finish(), CheckError);
}

TEST_P(CrossEntropyTest, RefusesWrongArguments) {
  Tensors tensors(rig_, random_, {.tokens = 4, .stored = 16, .vocab = 10});
  EXPECT_NO_THROW(Validate(tensors.args()));
  const auto refused = [&](const auto& change) {
    CrossEntropyArgs args = tensors.args();
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refused([](auto& args) { args.vocab = 17; });
  refused([](auto& args) { args.vocab = 0; });
  refused([](auto& args) { args.z_loss = -1; });
  refused([](auto& args) { args.d_logits = {}; });
  refused([](auto& args) { args.gradient_scale = {}; });
  refused([](auto& args) { args.targets = args.targets.Rows(0, 3); });
  refused([](auto& args) { args.losses = {}; });
  refused([](auto& args) { args.d_logits = args.logits.Reshape({16, 4}); });
  EXPECT_NO_THROW(Validate(tensors.fp8_args()));
  refused([&](auto& args) { args.d_logits = tensors.d_logits_fp8; });
  refused([&](auto& args) { args.d_logits_scale = tensors.d_logits_scale; });
  refused([&](auto& args) {
    args = tensors.fp8_args();
    const TensorView& fp8 = args.d_logits;
    args.d_logits = TensorView(fp8.data(), DType::kF8E4M3, fp8.shape());
  });
  refused([&](auto& args) {
    args = tensors.fp8_args();
    args.d_logits = TensorView(args.logits.data(), DType::kF8E5M2, args.logits.shape());
  });
  refused([&](auto& args) {
    args = tensors.fp8_args();
    args.gradient_scale = args.d_logits = {};
  });
}

INSTANTIATE_TEST_SUITE_P(Backends, CrossEntropyTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
