// Ordered, exact and column sums, and the clip factor.
#include "kernels/api/reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "kernels/api/adamw.h"
#include "kernels/api/workspace.h"
#include "tests/support/kernel_test.h"
#include "tests/support/partial_sum_rows.h"

namespace hearth::test {
namespace {

__extension__ using Int128 = __int128;

// A sum as an integer in units of 2^-64, from terms that are whole multiples of 2^-60.
Int128 Exact(const std::vector<double>& terms) {
  Int128 sum = 0;
  for (const double term : terms) sum += static_cast<Int128>(std::ldexp(term, 60)) * 16;
  return sum;
}

Int128 ToInteger(const FixedPointSum& sum) {
  Int128 value = 0;
  for (int i = 3; i >= 0; --i)
    value = value * (Int128{1} << 32) + sum.limbs[static_cast<size_t>(i)];
  return value;
}

void ExpectNormalized(const FixedPointSum& sum) {
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_GE(sum.limbs[i], 0);
    EXPECT_LT(sum.limbs[i], int64_t{1} << 32);
  }
}

FixedPointSum SumOf(const std::vector<double>& terms) {
  FixedPointSum sum;
  for (const double term : terms) AddTerm(sum, static_cast<float>(term));
  return sum;
}

// fp32 terms of both signs between 2^-36 and 2^40: multiples of 2^-60.
std::vector<double> WideTerms(Random& random, int64_t count) {
  std::vector<double> terms;
  for (int64_t i = 0; i < count; ++i) {
    const double term =
        std::ldexp(random.Uniform(-1.0, 1.0), static_cast<int>(random.Integer(-36, 40)));
    terms.push_back(static_cast<double>(
        static_cast<float>(std::abs(term) < 0x1p-36 ? std::copysign(0x1p-36, term) : term)));
  }
  return terms;
}

TEST(FixedPointTest, SumsAreExactInEveryOrderAndPartition) {
  Random random;
  std::vector<double> terms = WideTerms(random, 5000);
  const FixedPointSum sum = SumOf(terms);
  ExpectNormalized(sum);
  EXPECT_TRUE(ToInteger(sum) == Exact(terms));
  for (int trial = 0; trial < 5; ++trial) {
    const auto cut = static_cast<std::ptrdiff_t>(random.Integer(0, 5000));
    std::rotate(terms.begin(), terms.begin() + cut, terms.end());
    FixedPointSum parts = SumOf({terms.begin(), terms.begin() + cut});
    AddSum(parts, SumOf({terms.begin() + cut, terms.end()}));
    ExpectNormalized(parts);
    EXPECT_EQ(parts.limbs, sum.limbs);
  }
}

// As an all-reduce does: words added without a carry.
TEST(FixedPointTest, RecordsAddWordByWord) {
  Random random;
  const std::vector<double> terms = WideTerms(random, 800);
  FixedPointSum words;
  for (size_t rank = 0; rank < 8; ++rank) {
    const auto begin = terms.begin() + static_cast<std::ptrdiff_t>(100 * rank);
    const FixedPointSum part = SumOf({begin, begin + 100});
    for (size_t i = 0; i < 4; ++i) words.limbs[i] += part.limbs[i];
  }
  EXPECT_EQ(ToDouble(words), ToDouble(SumOf(terms)));
  FixedPointSum carried;
  AddSum(carried, words);
  ExpectNormalized(carried);
  EXPECT_EQ(carried.limbs, SumOf(terms).limbs);
}

TEST(FixedPointTest, ToDoubleRoundsCorrectly) {
  Random random;
  for (int trial = 0; trial < 2000; ++trial) {
    const std::vector<double> terms = WideTerms(random, random.Integer(1, 40));
    const Int128 exact = Exact(terms);
    // A conversion of an integer rounds to nearest; the scaling is exact.
    EXPECT_EQ(ToDouble(SumOf(terms)), std::ldexp(static_cast<double>(exact), -64));
  }
  EXPECT_EQ(ToDouble(FixedPointSum{}), 0.0);
  EXPECT_EQ(ToDouble(SumOf({-1.0})), -1.0);
  EXPECT_EQ(ToDouble(SumOf({1.0, 0x1p-60})), 1.0);  // a tie far below the last place
  EXPECT_EQ(ToDouble(SumOf({0x1p61, 0x1p61})), 0x1p62);
}

// 2^31 times nearly 2^62: the top limb has room.
TEST(FixedPointTest, LargeTotalsDoNotOverflow) {
  FixedPointSum sum = SumOf({0x1.fffffep61});
  double expected = 0x1.fffffep61;
  for (int doubling = 0; doubling < 31; ++doubling) {
    AddSum(sum, FixedPointSum(sum));
    expected *= 2;
  }
  EXPECT_EQ(ToDouble(sum), expected);
  EXPECT_EQ(sum.not_representable, 0);
}

TEST(FixedPointTest, SmallBitsAreCutTowardsMinusInfinity) {
  EXPECT_EQ(SumOf({0x1p-64}).limbs, (std::array<int64_t, 4>{1, 0, 0, 0}));
  EXPECT_EQ(SumOf({0x1.8p-64}).limbs, (std::array<int64_t, 4>{1, 0, 0, 0}));
  EXPECT_EQ(SumOf({0x1p-65}).limbs, (std::array<int64_t, 4>{0, 0, 0, 0}));
  EXPECT_EQ(SumOf({0x1p-149}).limbs, (std::array<int64_t, 4>{0, 0, 0, 0}));
  const std::array<int64_t, 4> minus_unit = {0xffffffff, 0xffffffff, 0xffffffff, -1};
  EXPECT_EQ(SumOf({-0x1p-65}).limbs, minus_unit);
  EXPECT_EQ(SumOf({-0x1p-149}).limbs, minus_unit);
  EXPECT_EQ(SumOf({-0.0, 0.0}).limbs, (std::array<int64_t, 4>{0, 0, 0, 0}));
}

TEST(FixedPointTest, CountsWhatItCannotHold) {
  const FixedPointSum sum =
      SumOf({1.0, INFINITY, -INFINITY, NAN, 0x1p62, -0x1p62, 3e38, 0x1.fffffep61, 2.0});
  EXPECT_EQ(sum.not_representable, 6);
  EXPECT_TRUE(std::isnan(ToDouble(sum)));
  FixedPointSum other;
  AddSum(other, sum);
  EXPECT_EQ(other.not_representable, 6);
}

class ReduceTest : public KernelTest {
 protected:
  DeviceTensor NewSum() { return {rig_, DType::kI64, {kFixedPointWords}, {0, 0, 0, 0, 0}}; }
  static FixedPointSum Read(const DeviceTensor& tensor) {
    const std::vector<uint8_t> bytes = tensor.GetBytes();
    FixedPointSum sum;
    std::memcpy(&sum, bytes.data(), bytes.size());
    return sum;
  }
};

TEST_P(ReduceTest, AddsElementsExactly) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const int64_t count : {0, 1, 1023, 16384, 50'001}) {
      SCOPED_TRACE(count);
      const DeviceTensor input(rig_, storage, {count}, WideTerms(random_, count));
      const DeviceTensor sum = NewSum();
      backend().AddFixedPoint(stream(), {.input = input, .sum = sum});
      EXPECT_TRUE(ToInteger(Read(sum)) == Exact(input.Get()));
      backend().AddFixedPoint(stream(), {.input = input, .sum = sum});
      EXPECT_TRUE(ToInteger(Read(sum)) == 2 * Exact(input.Get()));
      ExpectNormalized(Read(sum));
    }
  }
}

TEST_P(ReduceTest, AddsSquaredBlocks) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const int64_t count : {1, 1023, 1024, 1025, 40'000}) {
      const DeviceTensor input = NormalTensor(storage, {count});
      const DeviceTensor sum = NewSum();
      backend().AddFixedPoint(stream(),
                              {.input = input, .terms = SumTerms::kSquaredBlocks, .sum = sum});
      const std::vector<double> values = input.Get();
      FixedPointSum expected;
      double exact = 0;
      for (int64_t begin = 0; begin < count; begin += kSquareBlock) {
        float squares = 0;
        for (int64_t i = begin; i < std::min(count, begin + kSquareBlock); ++i) {
          const double value = values[static_cast<size_t>(i)];
          squares = std::fma(static_cast<float>(value), static_cast<float>(value), squares);
          exact += value * value;
        }
        AddTerm(expected, squares);
      }
      EXPECT_EQ(Read(sum).limbs, expected.limbs) << count;
      EXPECT_LE(std::abs(ToDouble(Read(sum)) - exact), SumError(kSquareBlock, exact)) << count;
    }
  }
}

// The norm of a whole tensor and of its shards, cut at multiples of the block, are the same bits.
TEST_P(ReduceTest, SumOfSquaresDoesNotDependOnThePartition) {
  const int64_t count = 30 * kSquareBlock + 77;
  const DeviceTensor input = NormalTensor(DType::kBF16, {count});
  const DeviceTensor whole = NewSum();
  const DeviceTensor parts = NewSum();
  const auto add = [&](const TensorView& view, const DeviceTensor& sum) {
    backend().AddFixedPoint(stream(),
                            {.input = view, .terms = SumTerms::kSquaredBlocks, .sum = sum});
  };
  add(input, whole);
  for (const int64_t begin : {20, 3, 0, 4}) {
    const int64_t blocks = begin == 20 ? 0 : begin == 3 ? 1 : begin == 0 ? 3 : 16;
    const int64_t elements = blocks == 0 ? count - 20 * kSquareBlock : blocks * kSquareBlock;
    add(input.view().Flat(begin * kSquareBlock, elements), parts);
  }
  EXPECT_EQ(parts.GetBytes(), whole.GetBytes());
}

TEST_P(ReduceTest, CountsNonFiniteTerms) {
  std::vector<double> values(5000, 0.5);
  values[17] = NAN;
  values[4000] = INFINITY;
  const DeviceTensor input(rig_, DType::kF32, {5000}, values);
  const DeviceTensor sum = NewSum();
  backend().AddFixedPoint(stream(), {.input = input, .sum = sum});
  EXPECT_EQ(Read(sum).not_representable, 2);
  backend().AddFixedPoint(stream(),
                          {.input = input, .terms = SumTerms::kSquaredBlocks, .sum = sum});
  EXPECT_EQ(Read(sum).not_representable, 4);
}

// The formula of ClipArgs, defect 1 (clip/norm^2) far outside its bound.
TEST_P(ReduceTest, ClipFactor) {
  for (const double norm : {0.0, 0.5, 0.999999, 1.0, 2.0, 3.0, 1e3}) {
    for (const double max_norm : {0.0, 0.25, 1.0, 7.0}) {
      SCOPED_TRACE(Format("norm {} max {}", norm, max_norm));
      FixedPointSum squares;
      AddTerm(squares, static_cast<float>(norm * norm));
      DeviceTensor sum = NewSum();
      std::vector<uint8_t> bytes(sizeof squares);
      std::memcpy(bytes.data(), &squares, bytes.size());
      sum.SetBytes(bytes);
      const DeviceTensor out(rig_, DType::kF32, {1});
      const DeviceTensor words(rig_, DType::kI32, {2});
      backend().Clip(
          stream(),
          {.sum = sum, .max_norm = static_cast<float>(max_norm), .norm = out, .control = words});
      UpdateControl control;
      std::memcpy(&control, words.GetBytes().data(), sizeof control);
      const double factor = max_norm == 0 ? 1.0 : std::min(1.0, max_norm / (norm + 1e-6));
      EXPECT_EQ(control.skip, 0u);
      EXPECT_NEAR(static_cast<double>(control.clip_factor), factor, factor * 1e-6);
      EXPECT_LE(control.clip_factor, 1.0f);
      EXPECT_NEAR(out.Get()[0], norm, norm * 1e-6);
    }
  }
}

TEST_P(ReduceTest, ClipSkipsWhatIsNotFinite) {
  const DeviceTensor sum(rig_, DType::kI64, {kFixedPointWords}, {0, 0, 5, 0, 1});
  const DeviceTensor norm(rig_, DType::kF32, {1});
  const DeviceTensor words(rig_, DType::kI32, {2});
  for (const float max_norm : {0.0f, 1.0f}) {
    backend().Clip(stream(), {.sum = sum, .max_norm = max_norm, .norm = norm, .control = words});
    EXPECT_EQ(words.Get()[1], 1.0);
    EXPECT_TRUE(std::isnan(norm.Get()[0]));
  }
  // A loss that is not finite, while the gradients are.
  const DeviceTensor squares(rig_, DType::kI64, {kFixedPointWords}, {0, 0, 4, 0, 0});
  backend().Clip(stream(), {.sum = squares, .max_norm = 1, .norm = norm, .control = words});
  EXPECT_EQ(words.Get()[1], 0.0);
  backend().Clip(stream(),
                 {.sum = squares, .losses = sum, .max_norm = 1, .norm = norm, .control = words});
  EXPECT_EQ(words.Get()[1], 1.0);
  EXPECT_EQ(norm.Get()[0], 2.0);
}

TEST_P(ReduceTest, OrderedSumKeepsTheOrder) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const DType out_type : {DType::kF32, DType::kBF16}) {
      for (const bool accumulate : {false, true}) {
        for (const float scale : {1.0f, 0.125f, 0.3f}) {
          for (const int64_t count : {1, 2049, 20'000}) {
            SCOPED_TRACE(Format("{} -> {} accumulate {} scale {} count {}", Name(storage),
                                Name(out_type), accumulate, scale, count));
            const DeviceTensor a = NormalTensor(storage, {count});
            const DeviceTensor b = NormalTensor(DType::kF32, {count}, 1e-3);
            const DeviceTensor c = NormalTensor(storage, {count}, 1e3);
            DeviceTensor out(rig_, out_type, {count});
            if (accumulate) out.Set(random_.Normals(count));
            const std::vector<double> before = out.Get();
            backend().OrderedSum(
                stream(),
                {.inputs = {a, b, c}, .out = out, .scale = scale, .accumulate = accumulate});
            const std::vector<std::vector<double>> inputs = {a.Get(), b.Get(), c.Get()};
            std::vector<double> expected(before.size());
            for (size_t i = 0; i < expected.size(); ++i) {
              float sum = accumulate ? static_cast<float>(before[i]) : 0.0f;
              for (const auto& input : inputs) {
                sum += accumulate ? scale * static_cast<float>(input[i])
                                  : static_cast<float>(input[i]);
              }
              expected[i] = static_cast<double>(accumulate ? sum : sum * scale);
            }
            ExpectSame(out.Get(), Rounded(expected, out_type), "out");
          }
        }
      }
    }
  }
}

TEST_P(ReduceTest, OrderedSumIntoAnInput) {
  const DeviceTensor a = NormalTensor(DType::kBF16, {5000});
  const DeviceTensor b = NormalTensor(DType::kBF16, {5000});
  const DeviceTensor out(rig_, DType::kBF16, {5000});
  backend().OrderedSum(stream(), {.inputs = {a, b}, .out = out});
  backend().OrderedSum(stream(), {.inputs = {a, b}, .out = b});
  EXPECT_EQ(b.GetBytes(), out.GetBytes());
}

TEST_P(ReduceTest, ColumnSumMatchesTheExactSum) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const DType out_type : {DType::kF32, DType::kBF16}) {
      std::vector<std::pair<int64_t, int64_t>> shapes = {
          {1, 1}, {64, 5}, {65, 300}, {1000, 17}, {1025, 40}};
      for (const int64_t rows : RowsAroundPartialSums()) shapes.emplace_back(rows, 3);
      for (const auto& [rows, columns] : shapes) {
        SCOPED_TRACE(Format("{} x {} {} -> {}", rows, columns, Name(storage), Name(out_type)));
        const DeviceTensor input = NormalTensor(storage, {rows, columns});
        const DeviceTensor out = NormalTensor(out_type, {columns});
        const DeviceTensor workspace(rig_, DType::kU8, {ColumnSumWorkspaceBytes(rows, columns)});
        std::vector<double> expected = out.Get(), magnitude(expected.size()), bound;
        for (double& value : magnitude) value = 0;
        for (size_t i = 0; i < expected.size(); ++i) magnitude[i] = std::abs(expected[i]);
        backend().ColumnSum(stream(), {.input = input, .out = out, .workspace = workspace});
        const std::vector<double> values = input.Get();
        for (size_t i = 0; i < values.size(); ++i) {
          expected[i % static_cast<size_t>(columns)] += values[i];
          magnitude[i % static_cast<size_t>(columns)] += std::abs(values[i]);
        }
        for (size_t i = 0; i < expected.size(); ++i) {
          const double error = SumError(rows + 1, magnitude[i]);
          bound.push_back(error + RoundingError(out_type, std::abs(expected[i]) + error));
        }
        ExpectWithin(out.Get(), expected, bound, "out");
      }
    }
  }
}

// Sums of integers are exact in any order, so that a row left out or added twice shows.
TEST_P(ReduceTest, ColumnSumTakesEveryRowOnce) {
  for (const DType storage : {DType::kF32, DType::kBF16}) {
    for (const int64_t columns : {1, 8, 35}) {
      for (const int64_t rows : RowsAroundPartialSums()) {
        SCOPED_TRACE(Format("{} x {} {}", rows, columns, Name(storage)));
        const std::vector<double> values = SmallIntegers(random_, rows * columns);
        std::vector<double> expected = SmallIntegers(random_, columns);
        const DeviceTensor input(rig_, storage, {rows, columns}, values);
        const DeviceTensor out(rig_, DType::kF32, {columns}, expected);
        const DeviceTensor workspace(rig_, DType::kU8, {ColumnSumWorkspaceBytes(rows, columns)});
        backend().ColumnSum(stream(), {.input = input, .out = out, .workspace = workspace});
        for (size_t i = 0; i < values.size(); ++i) {
          expected[i % static_cast<size_t>(columns)] += values[i];
        }
        ExpectSame(out.Get(), expected, "out");
      }
    }
  }
}

TEST_P(ReduceTest, NothingDependsOnTheNumberOfThreads) {
  const std::vector<double> values = random_.Normals(700 * 130);
  std::vector<std::vector<uint8_t>> first;
  for (const int threads : {1, 2, 3}) {
    Rig rig(GetParam(), threads);
    const DeviceTensor input(rig, DType::kF32, {700, 130}, values);
    const DeviceTensor columns(rig, DType::kF32, {130}, std::vector<double>(130, 1.0));
    const DeviceTensor workspace(rig, DType::kU8, {ColumnSumWorkspaceBytes(700, 130)});
    const DeviceTensor sum(rig, DType::kI64, {kFixedPointWords}, {0, 0, 0, 0, 0});
    const DeviceTensor ordered(rig, DType::kF32, {700, 130});
    rig.backend().ColumnSum(rig.stream(), {.input = input, .out = columns, .workspace = workspace});
    rig.backend().AddFixedPoint(
        rig.stream(),
        {.input = input.view().Flat(0, 700 * 130), .terms = SumTerms::kSquaredBlocks, .sum = sum});
    rig.backend().OrderedSum(rig.stream(),
                             {.inputs = {input, input, input}, .out = ordered, .scale = 0.7f});
    std::vector<std::vector<uint8_t>> results = {columns.GetBytes(), sum.GetBytes(),
                                                 ordered.GetBytes()};
    if (first.empty()) first = results;
    EXPECT_EQ(results, first) << threads << " threads";
  }
}

TEST_P(ReduceTest, RefusesWrongArguments) {
  const DeviceTensor a(rig_, DType::kF32, {16});
  const DeviceTensor b(rig_, DType::kBF16, {16});
  const DeviceTensor matrix(rig_, DType::kF32, {4, 16});
  const DeviceTensor workspace(rig_, DType::kU8, {ColumnSumWorkspaceBytes(4, 16)});
  const DeviceTensor sum = NewSum();
  const DeviceTensor words(rig_, DType::kI32, {2});
  const DeviceTensor norm(rig_, DType::kF32, {1});
  const auto refuses = [](const auto& args) { EXPECT_THROW(Validate(args), CheckError); };
  EXPECT_NO_THROW(Validate(OrderedSumArgs{.inputs = {a, b}, .out = a}));
  refuses(OrderedSumArgs{.inputs = {}, .out = a});
  refuses(OrderedSumArgs{.inputs = {a}, .out = {}});
  refuses(OrderedSumArgs{.inputs = {a, matrix}, .out = a});
  refuses(OrderedSumArgs{.inputs = {a, {}}, .out = a});
  refuses(OrderedSumArgs{.inputs = {words}, .out = words});
  refuses(OrderedSumArgs{.inputs = {a}, .out = a, .scale = INFINITY});
  refuses(OrderedSumArgs{.inputs = {matrix.view().Flat(0, 16)}, .out = matrix.view().Flat(8, 16)});
  // The same bytes as another type.
  refuses(OrderedSumArgs{.inputs = {b}, .out = TensorView(b.view().data(), DType::kF32, {16})});
  EXPECT_NO_THROW(Validate(ColumnSumArgs{.input = matrix, .out = b, .workspace = workspace}));
  refuses(ColumnSumArgs{.input = a, .out = b, .workspace = workspace});
  refuses(ColumnSumArgs{.input = matrix, .out = norm, .workspace = workspace});
  refuses(ColumnSumArgs{.input = matrix, .out = b, .workspace = {}});
  refuses(ColumnSumArgs{.input = matrix, .out = matrix.view().Flat(0, 16), .workspace = workspace});
  EXPECT_NO_THROW(Validate(FixedPointSumArgs{.input = a, .sum = sum}));
  refuses(FixedPointSumArgs{.input = matrix, .sum = sum});
  refuses(FixedPointSumArgs{.input = words, .sum = sum});
  refuses(FixedPointSumArgs{.input = a, .sum = a});
  const ClipArgs clip{.sum = sum, .max_norm = 1, .norm = norm, .control = words};
  EXPECT_NO_THROW(Validate(clip));
  refuses(ClipArgs{.sum = sum, .max_norm = -1, .norm = norm, .control = words});
  refuses(ClipArgs{.sum = sum, .max_norm = NAN, .norm = norm, .control = words});
  refuses(ClipArgs{.sum = sum, .max_norm = 1, .norm = a, .control = words});
  refuses(ClipArgs{.sum = sum, .max_norm = 1, .norm = norm, .control = {}});
  refuses(ClipArgs{.sum = sum, .losses = a, .max_norm = 1, .norm = norm, .control = words});
}

INSTANTIATE_TEST_SUITE_P(Backends, ReduceTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
