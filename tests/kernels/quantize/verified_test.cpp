// ScaleMode::kVerified, and the scales from one step to the next.
#include <array>
#include <cmath>
#include <limits>

#include "kernels/core/check.h"
#include "tests/support/kernel_test.h"
#include "tests/support/quantized_oracle.h"

namespace hearth::test {
namespace {

constexpr DType kFormats[] = {DType::kF8E4M3, DType::kF8E5M2};

double Largest(DType format) { return format == DType::kF8E4M3 ? 448.0 : 57344.0; }

class VerifiedTest : public KernelTest {
 protected:
  // Quantises with that scale on entry and checks record and bytes; whether it was repaired.
  bool Repaired(DType type, DType format, Shape shape, const std::vector<double>& values,
                float scale) {
    SCOPED_TRACE(testing::Message() << Name(type) << " to " << Name(format) << ' ' << shape
                                    << " with scale " << scale);
    const DeviceTensor input(rig_, type, shape, values);
    QuantizedTensors outputs(rig_, shape, format);
    backend().Quantize(stream(), {.input = input, .output = outputs.Verified(scale)});
    outputs.ExpectVerified(input.Get(), scale);
    return outputs.repaired();
  }
};

TEST_P(VerifiedTest, ScaleHeldTooLargeAndTooSmall) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const DType format : kFormats) {
      for (const Shape& shape : {Shape{1, 1}, Shape{3, 5}, Shape{16, 16}, Shape{67, 130},
                                 Shape{1, 9000}, Shape{9000, 1}, Shape{304, 272}}) {
        const std::vector<double> values =
            random_.Normals(shape.elements(), std::exp(random_.Uniform(-8, 8)));
        double amax = 0;
        for (const double value : Rounded(values, type)) amax = std::max(amax, std::abs(value));
        const float own = PowerScaleOracle(amax, format);
        EXPECT_FALSE(Repaired(type, format, shape, values, own));
        EXPECT_TRUE(Repaired(type, format, shape, values, own * 8));
        EXPECT_TRUE(Repaired(type, format, shape, values, own / 16));
        EXPECT_TRUE(Repaired(type, format, shape, values, own * 0x1p30f));
        EXPECT_TRUE(Repaired(type, format, shape, values, own * 0x1p-30f));
      }
    }
  }
}

// The largest number of the format, a 16th of it, and their neighbours.
TEST_P(VerifiedTest, BoundariesOfWhatHolds) {
  for (const DType format : kFormats) {
    const auto largest = static_cast<float>(Largest(format));
    const auto repaired = [&](float amax, float scale) {
      const double value = static_cast<double>(amax / scale);
      return Repaired(DType::kF32, format, {2, 3}, {0, value / 3, -value, 0, value, 1e-20}, scale);
    };
    for (const float scale : {1.0f, 0x1p-20f, 0x1p17f}) {
      EXPECT_FALSE(repaired(largest, scale));
      EXPECT_TRUE(repaired(std::nextafter(largest, 1e9f), scale));
      EXPECT_FALSE(repaired(largest / 16, scale));
      EXPECT_TRUE(repaired(std::nextafter(largest / 16, 0.0f), scale));
    }
  }
}

TEST_P(VerifiedTest, ZerosAndTheEndsOfTheRange) {
  for (const DType format : kFormats) {
    EXPECT_FALSE(Repaired(DType::kF32, format, {4, 4}, std::vector<double>(16, 0.0), 0x1p7f));
    // Its own scale would be beyond 2^126, which is what it has.
    EXPECT_FALSE(Repaired(DType::kF32, format, {1, 3}, {1e-42, 0, -3e-43}, 0x1p126f));
    EXPECT_TRUE(Repaired(DType::kF32, format, {1, 3}, {1e-42, 0, -3e-43}, 1.0f));
    EXPECT_TRUE(Repaired(DType::kF32, format, {1, 3}, {3e38, -1e30, 0}, 1.0f));
  }
}

TEST_P(VerifiedTest, OwnScaleIsThePowerOfTwoBelow) {
  for (const DType format : kFormats) {
    const bool e5m2 = format == DType::kF8E5M2;
    for (int exponent = -148; exponent < 128; ++exponent) {
      const float power = std::ldexp(1.0f, exponent);
      for (const float amax :
           {power, power * 1.5f, power * 1.75f, power * std::nextafter(1.75f, 2.0f),
            power * std::nextafter(2.0f, 1.0f)}) {
        if (!std::isfinite(amax)) continue;
        const ScaleRecord record = MakePowerScale(amax, e5m2);
        const float expected = PowerScaleOracle(static_cast<double>(amax), format);
        ASSERT_EQ(record.scale, expected) << amax;
        ASSERT_EQ(record.inverse * record.scale, 1.0f) << amax;
        ASSERT_TRUE(std::isnormal(record.inverse));
        ASSERT_TRUE(ScaleHolds(amax, record.scale, e5m2));
      }
    }
  }
}

TEST_P(VerifiedTest, OneOutputAlone) {
  for (const float scale : {0x1p5f, 0x1p15f}) {
    for (const Shape& shape : {Shape{48, 64}, Shape{50, 70}}) {
      const DeviceTensor input = NormalTensor(DType::kBF16, shape);
      QuantizedTensors both(rig_, shape, DType::kF8E4M3);
      backend().Quantize(stream(), {.input = input, .output = both.Verified(scale)});
      QuantizedTensors one(rig_, shape, DType::kF8E4M3);
      QuantizedOutput output = one.Verified(scale);
      output.transposed = {};
      backend().Quantize(stream(), {.input = input, .output = output});
      EXPECT_EQ(one.bytes(), both.bytes());
      EXPECT_EQ(one.record(), both.record());
      one.Poison();
      output = one.Verified(scale);
      output.values = {};
      backend().Quantize(stream(), {.input = input, .output = output});
      EXPECT_EQ(one.transposed_bytes(), both.transposed_bytes());
      EXPECT_EQ(one.record(), both.record());
      for (const uint8_t byte : one.bytes()) ASSERT_EQ(byte, 0xff);
    }
  }
}

TEST_P(VerifiedTest, NanAndInfinityShow) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType format : kFormats) {
    for (const double bad : {std::nan(""), infinity, -infinity}) {
      std::vector<double> values = random_.Normals(3000);
      values[2345] = bad;
      const DeviceTensor input(rig_, DType::kBF16, {30, 100}, values);
      QuantizedTensors outputs(rig_, {30, 100}, format);
      backend().Quantize(stream(), {.input = input, .output = outputs.Verified(4.0f)});
      const std::vector<float> record = outputs.record();
      EXPECT_TRUE(std::isnan(record[0]) && std::isnan(record[1]));
      EXPECT_TRUE(std::isnan(bad) ? std::isnan(record[2]) : std::isinf(record[2]));
      EXPECT_EQ(record[3], 1.0f);
      for (const uint8_t byte : outputs.bytes()) ASSERT_EQ(byte & 0x7f, 0x7f);
      for (const uint8_t byte : outputs.transposed_bytes()) ASSERT_EQ(byte & 0x7f, 0x7f);
    }
  }
}

TEST_P(VerifiedTest, RecomputeWithTheRecordGivesTheSameBytes) {
  for (const float scale : {0x1p5f, 0x1p15f}) {
    const DeviceTensor input = NormalTensor(DType::kBF16, {64, 80});
    QuantizedTensors outputs(rig_, {64, 80}, DType::kF8E4M3);
    QuantizedOutput output = outputs.Verified(scale);
    backend().Quantize(stream(), {.input = input, .output = output});
    const std::vector<uint8_t> bytes = outputs.bytes();
    const std::vector<float> record = outputs.record();
    output.mode = ScaleMode::kGiven;
    backend().Quantize(stream(), {.input = input, .output = output});
    EXPECT_EQ(outputs.bytes(), bytes);
    EXPECT_EQ(outputs.record(), record);
  }
}

TEST_P(VerifiedTest, NothingDependsOnTheNumberOfThreads) {
  const std::vector<double> values = random_.Normals(700 * 300);
  for (const float scale : {0x1p4f, 0x1p15f}) {
    std::vector<uint8_t> first;
    for (const int threads : {1, 2, 3}) {
      Rig rig(GetParam(), threads);
      const DeviceTensor input(rig, DType::kBF16, {700, 300}, values);
      QuantizedTensors outputs(rig, {700, 300}, DType::kF8E4M3);
      rig.backend().Quantize(rig.stream(), {.input = input, .output = outputs.Verified(scale)});
      const std::vector<uint8_t> bytes = outputs.transposed_bytes();
      if (first.empty()) first = bytes;
      EXPECT_EQ(bytes, first) << threads << " threads";
    }
  }
}

TEST_P(VerifiedTest, CollectsFiniteAmaxesAndCountsRepairs) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const DeviceTensor records(rig_, DType::kF32, {5, 4}, {1, 1, 3,        0,  //
                                                         1, 1, 0.5,      1,  //
                                                         1, 1, nan,      1,  //
                                                         1, 1, infinity, 1,  //
                                                         1, 1, 0,        0});
  const DeviceTensor amax(rig_, DType::kF32, {5}, {1, 2, 3, 4, 0});
  const DeviceTensor repairs(rig_, DType::kI64, {1}, {7});
  backend().CollectAmax(stream(), {.records = records, .amax = amax, .repairs = repairs});
  EXPECT_EQ(amax.Get(), (std::vector<double>{3, 2, 3, 4, 0}));
  EXPECT_EQ(repairs.Get()[0], 10.0);
}

TEST_P(VerifiedTest, ScalesOfTheNextStep) {
  const int64_t count = 300;  // more than a block of threads
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(std::exp(random_.Uniform(-60, 60)));
  values[5] = 0;
  const DeviceTensor amax(rig_, DType::kF32, {count}, values);
  DeviceTensor history(rig_, DType::kF32, {count}), scales(rig_, DType::kF32, {count, 4});
  const std::array<DType, 3> formats = {DType::kF8E4M3, DType::kF8E5M2, DType::kF8E4M3};
  DeviceTensor control(rig_, DType::kI32, {2}, {1, 1});
  UpdateScalesArgs args{.amax = amax,
                        .control = control,
                        .formats = {formats.begin(), formats.end()},
                        .history = history,
                        .scales = scales};
  const std::vector<uint8_t> before = scales.GetBytes();
  backend().UpdateScales(stream(), args);  // a step that was skipped
  EXPECT_EQ(scales.GetBytes(), before);
  for (const double value : history.Get()) ASSERT_TRUE(std::isnan(value));
  control.Set({1, 0});
  backend().UpdateScales(stream(), args);
  EXPECT_EQ(history.Get(), amax.Get());
  const std::vector<double> records = scales.Get();
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    const auto expected =
        static_cast<double>(PowerScaleOracle(amax.Get()[i], formats[i % formats.size()]));
    ASSERT_EQ(records[4 * i + 1], expected) << i;
    ASSERT_EQ(records[4 * i], 1 / expected) << i;
    ASSERT_EQ(records[4 * i + 2], 0.0);
    ASSERT_EQ(records[4 * i + 3], 0.0);
  }
}

TEST_P(VerifiedTest, RefusesWrongArguments) {
  const DeviceTensor records(rig_, DType::kF32, {5, 4}), amax(rig_, DType::kF32, {5});
  const DeviceTensor repairs(rig_, DType::kI64, {1}), control(rig_, DType::kI32, {2});
  const DeviceTensor history(rig_, DType::kF32, {5});
  const CollectAmaxArgs collect{.records = records, .amax = amax, .repairs = repairs};
  EXPECT_NO_THROW(Validate(collect));
  EXPECT_THROW(Validate(CollectAmaxArgs{.records = records, .amax = repairs, .repairs = repairs}),
               CheckError);
  EXPECT_THROW(Validate(CollectAmaxArgs{.records = amax, .amax = amax, .repairs = repairs}),
               CheckError);
  UpdateScalesArgs update{.amax = amax,
                          .control = control,
                          .formats = {DType::kF8E4M3},
                          .history = history,
                          .scales = records};
  EXPECT_NO_THROW(Validate(update));
  update.formats = {DType::kBF16};
  EXPECT_THROW(Validate(update), CheckError);
  update.formats = {};
  EXPECT_THROW(Validate(update), CheckError);
  update.formats = {DType::kF8E4M3};
  update.history = amax;
  EXPECT_THROW(Validate(update), CheckError);
}

INSTANTIATE_TEST_SUITE_P(Backends, VerifiedTest, BackendsUnderTest());

}  // namespace
}  // namespace hearth::test
