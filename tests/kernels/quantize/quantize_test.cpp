#include "kernels/api/quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/core/check.h"
#include "tests/support/kernel_test.h"
#include "tests/support/rounding_oracle.h"

namespace hearth::test {
namespace {

constexpr DType kFormats[] = {DType::kF8E4M3, DType::kF8E5M2};
constexpr DType kInputs[] = {DType::kF32, DType::kBF16};

const FormatOracle& OracleOf(DType format) {
  return format == DType::kF8E4M3 ? E4M3Oracle() : E5M2Oracle();
}

// The byte of a value that was multiplied by the scale in fp32.
uint8_t ExpectedByte(DType format, double value, float scale) {
  const float scaled = static_cast<float>(value) * scale;
  if (std::isnan(scaled)) return std::signbit(scaled) ? 0xff : 0x7f;
  return static_cast<uint8_t>(OracleOf(format).Nearest(static_cast<double>(scaled)));
}

struct Outputs {
  Outputs(Rig& rig, Shape shape, DType format)
      : rows(shape[0]),
        columns(shape[1]),
        values(rig, format, shape),
        transposed(rig, format, {columns, rows}),
        scale(rig, DType::kF32, {4}) {}

  QuantizedOutput Current() const {
    return {.values = values, .transposed = transposed, .scale = scale};
  }

  void ExpectBytes(DType format, const std::vector<double>& input, float factor) const {
    const std::vector<uint8_t> plain = values.GetBytes();
    const std::vector<uint8_t> turned = transposed.GetBytes();
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column) {
        const auto at = static_cast<size_t>(row * columns + column);
        uint8_t expected = ExpectedByte(format, input[at], factor);
        // Both signs of NaN are NaN.
        const uint8_t mask = std::isnan(static_cast<float>(input[at]) * factor) ? 0x7f : 0xff;
        expected &= mask;
        ASSERT_EQ(plain[at] & mask, expected) << row << ", " << column << ": " << input[at];
        ASSERT_EQ(turned[static_cast<size_t>(column * rows + row)] & mask, expected)
            << "transposed " << row << ", " << column;
      }
    }
  }

  int64_t rows;
  int64_t columns;
  DeviceTensor values, transposed, scale;
};

class QuantizeTest : public KernelTest {
 protected:
  // Quantises with the tensor's own scale and checks record and bytes.
  void ExpectCurrent(DType type, DType format, Shape shape, const std::vector<double>& values) {
    SCOPED_TRACE(testing::Message() << Name(type) << " to " << Name(format) << ' ' << shape);
    DeviceTensor input(rig_, type, shape, values);
    Outputs outputs(rig_, shape, format);
    backend().Quantize(stream(), {.input = input, .output = outputs.Current()});
    const std::vector<double> stored = input.Get();
    double amax = 0;
    for (const double value : stored) amax = std::max(amax, std::abs(value));
    const std::vector<double> record = outputs.scale.Get();
    const double largest = OracleOf(format).largest_value();
    const float scale =
        amax == 0 ? 1.0f
                  : std::min(static_cast<float>(largest) / static_cast<float>(amax), 0x1p126f);
    EXPECT_EQ(record[1], static_cast<double>(scale));
    EXPECT_EQ(record[0], static_cast<double>(1.0f / scale));
    EXPECT_EQ(record[2], amax);
    outputs.ExpectBytes(format, stored, scale);
  }
};

TEST_P(QuantizeTest, CurrentScale) {
  for (const DType type : kInputs) {
    for (const DType format : kFormats) {
      for (const Shape& shape : {Shape{1, 1}, Shape{3, 5}, Shape{16, 16}, Shape{67, 130},
                                 Shape{1, 40'000}, Shape{40'000, 1}, Shape{300, 257}}) {
        const double deviation = std::exp(random_.Uniform(-8, 8));
        ExpectCurrent(type, format, shape, random_.Normals(shape.elements(), deviation));
      }
    }
  }
}

TEST_P(QuantizeTest, ZerosAndTinyTensors) {
  for (const DType format : kFormats) {
    ExpectCurrent(DType::kF32, format, {4, 4}, std::vector<double>(16, 0.0));
    // 448 / amax overflows: the scale stops at 2^126 and its inverse is a normal number.
    ExpectCurrent(DType::kF32, format, {2, 2}, {1e-42, 0, -3e-43, 2e-44});
    ExpectCurrent(DType::kF32, format, {1, 3}, {3e38, -1e30, 0});
  }
}

// Defect: E5M2 scaled to E4M3's largest number.
TEST_P(QuantizeTest, LargestElementBecomesTheLargestNumberOfItsFormat) {
  for (const DType format : kFormats) {
    DeviceTensor input = NormalTensor(DType::kF32, {8, 8});
    Outputs outputs(rig_, {8, 8}, format);
    backend().Quantize(stream(), {.input = input, .output = outputs.Current()});
    double largest = 0;
    for (const double value : outputs.values.Get()) largest = std::max(largest, std::abs(value));
    EXPECT_EQ(largest, format == DType::kF8E4M3 ? 448.0 : 57344.0);
  }
}

// Scale 1, so that the input's bits are what is converted.
TEST_P(QuantizeTest, EveryBFloat16) {
  std::vector<uint8_t> bytes;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    bytes.push_back(static_cast<uint8_t>(bits));
    bytes.push_back(static_cast<uint8_t>(bits >> 8));
  }
  DeviceTensor input(rig_, DType::kBF16, {256, 256});
  input.SetBytes(bytes);
  for (const DType format : kFormats) {
    Outputs outputs(rig_, {256, 256}, format);
    outputs.scale.Set({1, 1, 0, 0});
    QuantizedOutput output = outputs.Current();
    output.mode = ScaleMode::kGiven;
    backend().Quantize(stream(), {.input = input, .output = output});
    outputs.ExpectBytes(format, input.Get(), 1.0f);
  }
}

// Every number of the format, the middle between it and the next, and the fp32 numbers beside that.
TEST_P(QuantizeTest, EveryRoundingBoundary) {
  for (const DType format : kFormats) {
    const FormatOracle& oracle = OracleOf(format);
    std::vector<double> values;
    for (uint32_t bits = 0; bits <= oracle.largest(); ++bits) {
      const double low = oracle.Value(bits);
      const double high = bits < oracle.largest() ? oracle.Value(bits + 1) : low * 1.07;
      for (const double point : {low, (low + high) / 2}) {
        const auto center = static_cast<float>(point);
        for (const float value : {center, std::nextafter(center, -INFINITY),
                                  std::nextafter(center, static_cast<float>(INFINITY))}) {
          values.push_back(static_cast<double>(value));
          values.push_back(static_cast<double>(-value));
        }
      }
    }
    const Shape shape{static_cast<int64_t>(values.size()), 1};
    DeviceTensor input(rig_, DType::kF32, shape, values);
    Outputs outputs(rig_, shape, format);
    outputs.scale.Set({1, 1, 0, 0});
    QuantizedOutput output = outputs.Current();
    output.mode = ScaleMode::kGiven;
    backend().Quantize(stream(), {.input = input, .output = output});
    outputs.ExpectBytes(format, values, 1.0f);
  }
}

TEST_P(QuantizeTest, GivenScaleIsReadAndLeftAlone) {
  for (const DType type : kInputs) {
    for (const DType format : kFormats) {
      DeviceTensor input = NormalTensor(type, {33, 65}, 100.0);
      Outputs outputs(rig_, {33, 65}, format);
      const std::vector<double> record = {77, 3.25, 78, 79};
      outputs.scale.Set(record);
      QuantizedOutput output = outputs.Current();
      output.mode = ScaleMode::kGiven;
      backend().Quantize(stream(), {.input = input, .output = output});
      outputs.ExpectBytes(format, input.Get(), 3.25f);
      EXPECT_TRUE(outputs.scale.Get() == record);
    }
  }
}

TEST_P(QuantizeTest, OneOutputAlone) {
  DeviceTensor input = NormalTensor(DType::kBF16, {50, 70});
  Outputs both(rig_, {50, 70}, DType::kF8E4M3);
  backend().Quantize(stream(), {.input = input, .output = both.Current()});
  Outputs one(rig_, {50, 70}, DType::kF8E4M3);
  QuantizedOutput output = one.Current();
  output.transposed = {};
  backend().Quantize(stream(), {.input = input, .output = output});
  EXPECT_TRUE(one.values.GetBytes() == both.values.GetBytes());
  output = one.Current();
  output.values = {};
  one.values.Poison();
  backend().Quantize(stream(), {.input = input, .output = output});
  EXPECT_TRUE(one.transposed.GetBytes() == both.transposed.GetBytes());
  for (const double value : one.values.Get()) ASSERT_TRUE(std::isnan(value));
}

TEST_P(QuantizeTest, NanAndInfinityShow) {
  for (const DType type : kInputs) {
    for (const double bad : {std::nan(""), -std::nan("")}) {
      std::vector<double> values = random_.Normals(3000);
      values[2345] = bad;
      values[17] = static_cast<double>(INFINITY);
      DeviceTensor input(rig_, type, {30, 100}, values);
      Outputs outputs(rig_, {30, 100}, DType::kF8E4M3);
      backend().Quantize(stream(), {.input = input, .output = outputs.Current()});
      const std::vector<double> record = outputs.scale.Get();
      for (const size_t word : {0, 1, 2}) EXPECT_TRUE(std::isnan(record[word])) << word;
      for (const double value : outputs.values.Get()) ASSERT_TRUE(std::isnan(value));
    }
    std::vector<double> values = random_.Normals(64);
    values[40] = -static_cast<double>(INFINITY);
    DeviceTensor input(rig_, type, {8, 8}, values);
    Outputs outputs(rig_, {8, 8}, DType::kF8E4M3);
    backend().Quantize(stream(), {.input = input, .output = outputs.Current()});
    EXPECT_EQ(outputs.scale.Get()[2], static_cast<double>(INFINITY));
    EXPECT_TRUE(std::isnan(outputs.values.Get()[40]));
  }
}

TEST_P(QuantizeTest, Transpose) {
  for (const Shape& shape :
       {Shape{1, 1}, Shape{16, 16}, Shape{64, 65}, Shape{130, 67}, Shape{5, 300}}) {
    DeviceTensor input(rig_, DType::kF8E5M2, shape);
    std::vector<uint8_t> bytes(static_cast<size_t>(shape.elements()));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random_.Integer(0, 255));
    input.SetBytes(bytes);
    DeviceTensor output(rig_, DType::kF8E5M2, {shape[1], shape[0]});
    backend().Transpose(stream(), {.input = input, .output = output});
    const std::vector<uint8_t> turned = output.GetBytes();
    for (int64_t row = 0; row < shape[0]; ++row) {
      for (int64_t column = 0; column < shape[1]; ++column) {
        ASSERT_EQ(turned[static_cast<size_t>(column * shape[0] + row)],
                  bytes[static_cast<size_t>(row * shape[1] + column)]);
      }
    }
  }
}

TEST_P(QuantizeTest, AmaxAloneAndAccumulated) {
  for (const DType type : kInputs) {
    for (const int64_t count : {1, 15, 70'000, 200'001}) {
      std::vector<double> values = random_.Normals(count);
      const auto place = static_cast<size_t>(random_.Integer(0, count - 1));
      values[place] = -64;
      DeviceTensor input(rig_, type, {count}, values);
      DeviceTensor amax(rig_, DType::kF32, {1});  // poisoned: NaN must not survive
      backend().Amax(stream(), {.input = input, .amax = amax});
      EXPECT_EQ(amax.Get()[0], 64.0);
      amax.Set({100});
      backend().Amax(stream(), {.input = input, .amax = amax, .accumulate = true});
      EXPECT_EQ(amax.Get()[0], 100.0);
      amax.Set({1});
      backend().Amax(stream(), {.input = input, .amax = amax, .accumulate = true});
      EXPECT_EQ(amax.Get()[0], 64.0);
      values[place] = std::nan("");
      input.Set(values);
      amax.Set({INFINITY});
      backend().Amax(stream(), {.input = input, .amax = amax, .accumulate = true});
      EXPECT_TRUE(std::isnan(amax.Get()[0]));
    }
  }
}

TEST_P(QuantizeTest, ScalesFromAmax) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> words = {0.0f, 1.0f, 448.0f, 3e-3f, 1e-45f, nan};
  DeviceTensor amax(rig_, DType::kF32, {6}, {words.begin(), words.end()});
  DeviceTensor scales(rig_, DType::kF32, {6, 4});
  for (const DType format : kFormats) {
    const float largest = format == DType::kF8E4M3 ? 448.0f : 57344.0f;
    backend().ScaleFromAmax(stream(), {.amax = amax, .scales = scales, .format = format});
    const std::vector<double> records = scales.Get();
    for (size_t i = 0; i < words.size(); ++i) {
      const double scale = records[4 * i + 1];
      if (i == 5) {
        EXPECT_TRUE(std::isnan(scale) && std::isnan(records[4 * i]));
        continue;
      }
      const float expected = words[i] == 0 ? 1.0f : (i == 4 ? 0x1p126f : largest / words[i]);
      EXPECT_EQ(scale, static_cast<double>(expected)) << i;
      EXPECT_EQ(records[4 * i], static_cast<double>(1.0f / expected)) << i;
      EXPECT_EQ(records[4 * i + 2], static_cast<double>(words[i])) << i;
      EXPECT_EQ(records[4 * i + 3], 0.0) << i;
    }
  }
}

// Defect: 32-bit element indices. Pages that are only read take no memory.
TEST_P(QuantizeTest, ElementsBeyondTwoToTheThirtyOne) {
  if (GetParam() != "cpu") GTEST_SKIP() << "needs 4.3 GB of device memory";
  if (UnderSanitizer()) GTEST_SKIP() << "too many checked accesses";
  const int64_t count = (int64_t{1} << 31) + 100;
  Buffer memory = backend().device().Allocate(count * 2, MemoryKind::kDevice);
  const TensorView input = memory.View(0, DType::kBF16, {count});
  DeviceTensor one(rig_, DType::kBF16, {1}, {-5.0});
  DeviceTensor amax(rig_, DType::kF32, {1});
  backend().Copy(stream(), {.source = one, .destination = input.Rows(count - 1, 1)});
  backend().Amax(stream(), {.input = input, .amax = amax});
  EXPECT_EQ(amax.Get()[0], 5.0);
}

TEST_P(QuantizeTest, SameBytesForAnyNumberOfThreads) {
  std::vector<uint8_t> first;
  for (const int threads : {1, 2, 3}) {
    Rig rig(GetParam(), threads);
    Random random;
    DeviceTensor input(rig, DType::kBF16, {700, 300}, random.Normals(700 * 300));
    Outputs outputs(rig, {700, 300}, DType::kF8E4M3);
    rig.backend().Quantize(rig.stream(), {.input = input, .output = outputs.Current()});
    std::vector<uint8_t> bytes = outputs.transposed.GetBytes();
    const std::vector<uint8_t> record = outputs.scale.GetBytes();
    bytes.insert(bytes.end(), record.begin(), record.end());
    if (first.empty()) first = bytes;
    EXPECT_TRUE(bytes == first) << threads << " threads";
  }
}

TEST_P(QuantizeTest, RefusesWrongArguments) {
  DeviceTensor input = NormalTensor(DType::kF32, {8, 16});
  Outputs outputs(rig_, {8, 16}, DType::kF8E4M3);
  const auto refused = [&](const auto& change) {
    QuantizeArgs args{.input = input, .output = outputs.Current()};
    EXPECT_NO_THROW(Validate(args));
    change(args);
    EXPECT_THROW(Validate(args), CheckError);
  };
  refused([](auto& args) { args.output.scale = {}; });
  refused([](auto& args) { args.output.values = args.output.transposed; });
  refused([](auto& args) { args.output.values = {}, args.output.transposed = {}; });
  refused([](auto& args) {
    args.output.values = TensorView(args.output.values.data(), DType::kF8E5M2, Shape{8, 16});
  });
  refused([](auto& args) { args.input = args.output.values; });
  refused([](auto& args) { args.input = args.input.Reshape({128}); });
  EXPECT_THROW(Validate(TransposeArgs{.input = outputs.values, .output = outputs.values}),
               CheckError);
  EXPECT_THROW(Validate(AmaxArgs{.input = input, .amax = outputs.scale}), CheckError);
  EXPECT_THROW(Validate(ScaleFromAmaxArgs{.amax = outputs.scale, .scales = outputs.scale}),
               CheckError);
}

INSTANTIATE_TEST_SUITE_P(Backends, QuantizeTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
