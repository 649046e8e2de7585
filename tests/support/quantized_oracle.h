// What the FP8 outputs of a producer must be, from the values it produced.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/api/quantize.h"
#include "tests/support/kernel_test.h"

namespace hearth::test {

// 2^floor(log2(largest / (2 * amax))), at most 2^126.
inline float PowerScaleOracle(double amax, DType format) {
  if (amax == 0) return 1.0f;
  const double largest = format == DType::kF8E4M3 ? 448.0 : 57344.0;
  int power = 126;
  while (std::ldexp(2 * amax, power) > largest) --power;
  return static_cast<float>(std::ldexp(1.0, power));
}

// A QuantizedOutput in guarded, poisoned memory.
class QuantizedTensors {
 public:
  QuantizedTensors(Rig& rig, Shape shape, DType format)
      : shape_(shape),
        format_(format),
        values_(rig, format, shape),
        transposed_(rig, format, {shape[1], shape[0]}),
        scale_(rig, DType::kF32, {4}) {}

  QuantizedOutput Current() {
    return {.values = values_, .transposed = transposed_, .scale = scale_};
  }
  QuantizedOutput Given(float scale) {
    scale_.Set({1.0 / static_cast<double>(scale), static_cast<double>(scale), 77.0, 78.0});
    return {
        .values = values_, .transposed = transposed_, .scale = scale_, .mode = ScaleMode::kGiven};
  }
  QuantizedOutput Verified(float scale) {
    scale_.Set({1.0 / static_cast<double>(scale), static_cast<double>(scale), 0.0, 0.0});
    return {.values = values_,
            .transposed = transposed_,
            .scale = scale_,
            .mode = ScaleMode::kVerified};
  }
  void Poison() {
    values_.Poison();
    transposed_.Poison();
    scale_.Poison();
  }
  std::vector<uint8_t> bytes() const { return values_.GetBytes(); }

  // produced: what was quantised, in its storage type.
  void ExpectCurrent(const std::vector<double>& produced) const {
    double amax = 0;
    for (const double value : produced) amax = std::max(amax, std::abs(value));
    const std::vector<double> record = scale_.Get();
    const float largest = format_ == DType::kF8E4M3 ? 448.0f : 57344.0f;
    const float scale = amax == 0 ? 1.0f : largest / static_cast<float>(amax);
    EXPECT_EQ(record[1], static_cast<double>(scale)) << "scale";
    EXPECT_EQ(record[0], static_cast<double>(1.0f / scale)) << "inverse";
    EXPECT_EQ(record[2], amax) << "amax";
    ExpectBytes(produced, scale);
  }
  // The record is unchanged and the bytes are those of the scale.
  void ExpectGiven(const std::vector<double>& produced, float scale) const {
    const std::vector<double> record = scale_.Get();
    EXPECT_EQ(record[1], static_cast<double>(scale));
    EXPECT_EQ(record[2], 77.0);
    EXPECT_EQ(record[3], 78.0);
    ExpectBytes(produced, scale);
  }

  // What becomes of the record Verified(scale) made: kept where nothing is clipped and the largest
  // element is above a 16th of the format's largest number, else the tensor's own.
  void ExpectVerified(const std::vector<double>& produced, float scale) const {
    double amax = 0;
    for (const double value : produced) amax = std::max(amax, std::abs(value));
    const double largest = format_ == DType::kF8E4M3 ? 448.0 : 57344.0;
    const double scaled = amax * static_cast<double>(scale);
    const float own = PowerScaleOracle(amax, format_);
    const bool held = amax == 0 || (scaled <= largest && scaled >= largest / 16) || own == scale;
    const float expected = held ? scale : own;
    const std::vector<double> record = scale_.Get();
    EXPECT_EQ(record[1], static_cast<double>(expected)) << "scale";
    EXPECT_EQ(record[0], 1.0 / static_cast<double>(expected)) << "inverse";
    EXPECT_EQ(record[2], amax) << "amax";
    EXPECT_EQ(record[3], held ? 0.0 : 1.0) << "repairs";
    ExpectBytes(produced, expected);
  }
  bool repaired() const { return scale_.Get()[3] != 0; }
  std::vector<uint8_t> transposed_bytes() const { return transposed_.GetBytes(); }
  std::vector<float> record() const {
    const std::vector<double> words = scale_.Get();
    return {words.begin(), words.end()};
  }

 private:
  void ExpectBytes(const std::vector<double>& produced, float scale) const {
    const std::vector<uint8_t> plain = values_.GetBytes();
    const std::vector<uint8_t> turned = transposed_.GetBytes();
    const int64_t rows = shape_[0];
    const int64_t columns = shape_[1];
    for (int64_t i = 0; i < rows * columns; ++i) {
      const float scaled = static_cast<float>(produced[static_cast<size_t>(i)]) * scale;
      const uint8_t expected =
          format_ == DType::kF8E4M3 ? ToE4M3(scaled).bits : ToE5M2(scaled).bits;
      ASSERT_EQ(plain[static_cast<size_t>(i)], expected) << "element " << i;
      ASSERT_EQ(turned[static_cast<size_t>(i % columns * rows + i / columns)], expected)
          << "transposed element " << i;
    }
  }

  Shape shape_;
  DType format_;
  DeviceTensor values_;
  DeviceTensor transposed_;
  DeviceTensor scale_;
};

}  // namespace hearth::test
