// What the FP8 outputs of a producer must be, from the values it produced.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/api/quantize.h"
#include "tests/support/kernel_test.h"

namespace hearth::test {

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
