// bf16 and FP8: every bit pattern and both roundings against formats built by enumeration.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <random>

#include "kernels/core/bfloat16.h"
#include "kernels/core/float8.h"
#include "tests/support/rounding_oracle.h"

namespace hearth::test {
namespace {

struct Format {
  const char* name;
  const FormatOracle& oracle;
  int random_bits;  // that its stochastic rounding consumes
  bool saturates;   // else infinity lies above the largest number
  std::function<float(uint32_t)> decode;
  std::function<uint32_t(float)> nearest;
  std::function<uint32_t(float, uint32_t)> stochastic;
};

const Format kFormats[] = {
    {"bf16", BFloat16Oracle(), 16, false,
     [](uint32_t bits) { return ToFloat(BFloat16{static_cast<uint16_t>(bits)}); },
     [](float value) -> uint32_t { return ToBFloat16(value).bits; },
     [](float value, uint32_t random) -> uint32_t {
       return ToBFloat16Stochastic(value, random).bits;
     }},
    {"e4m3", E4M3Oracle(), 32, true,
     [](uint32_t bits) { return ToFloat(Float8E4M3{static_cast<uint8_t>(bits)}); },
     [](float value) -> uint32_t { return ToE4M3(value).bits; },
     [](float value, uint32_t random) -> uint32_t { return ToE4M3Stochastic(value, random).bits; }},
    {"e5m2", E5M2Oracle(), 32, true,
     [](uint32_t bits) { return ToFloat(Float8E5M2{static_cast<uint8_t>(bits)}); },
     [](float value) -> uint32_t { return ToE5M2(value).bits; },
     [](float value, uint32_t random) -> uint32_t { return ToE5M2Stochastic(value, random).bits; }},
};

class FloatFormat : public testing::TestWithParam<size_t> {
 protected:
  const Format& format() const { return kFormats[GetParam()]; }

  // The rounding to nearest that the format promises for a number.
  uint32_t ExpectedNearest(float value) const {
    const FormatOracle& oracle = format().oracle;
    const double exact = static_cast<double>(value);
    const uint32_t bits = oracle.Nearest(exact);
    if (format().saturates || std::abs(exact) <= oracle.largest_value()) return bits;
    // Half a unit beyond the largest number the infinity begins.
    const double unit = oracle.largest_value() - oracle.Value(oracle.largest() - 1);
    return std::abs(exact) >= oracle.largest_value() + unit / 2 ? bits + 1 : bits;
  }

  uint32_t ExpectedStochastic(float value, uint32_t random) const {
    const FormatOracle& oracle = format().oracle;
    const double exact = std::abs(static_cast<double>(value));
    const auto [low, high] = oracle.Neighbours(exact);
    uint32_t bits = low;
    if (low != high) {
      const double fraction =
          (exact - oracle.Value(low)) / (oracle.Value(high) - oracle.Value(low));
      const uint32_t used = format().random_bits == 16 ? random & 0xffff : random;
      // Up when fraction + draw >= 1; written so that it is exact in double.
      if (fraction >= 1 - std::ldexp(used, -format().random_bits)) bits = high;
    }
    return bits | (std::signbit(value) ? oracle.sign_bit() : 0);
  }

  void ExpectBoth(float value) {
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(format().decode(format().nearest(value))));
      EXPECT_TRUE(std::isnan(format().decode(format().stochastic(value, 12345))));
      return;
    }
    ASSERT_EQ(format().nearest(value), ExpectedNearest(value)) << std::hexfloat << value;
    const auto drawn = static_cast<uint32_t>(engine_());
    for (const uint32_t random : {0u, 1u, drawn, 0x8000u, 0x80000000u, 0xfffffffeu, 0xffffffffu}) {
      if (std::isinf(value)) continue;
      ASSERT_EQ(format().stochastic(value, random), ExpectedStochastic(value, random))
          << std::hexfloat << value << " with " << random;
    }
  }

  std::mt19937_64 engine_{20261123};
};

TEST_P(FloatFormat, EveryPatternDecodes) {
  const FormatOracle& oracle = format().oracle;
  for (uint32_t bits = 0; bits < 2 * oracle.sign_bit(); ++bits) {
    const double expected = oracle.Value(bits);
    const double actual = static_cast<double>(format().decode(bits));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(actual)) << bits;
    } else {
      EXPECT_EQ(actual, expected) << bits;
      EXPECT_EQ(std::signbit(actual), std::signbit(expected)) << bits;
    }
  }
}

TEST_P(FloatFormat, EveryPatternSurvivesBothRoundings) {
  const FormatOracle& oracle = format().oracle;
  for (uint32_t bits = 0; bits < 2 * oracle.sign_bit(); ++bits) {
    if ((bits & (oracle.sign_bit() - 1)) > oracle.largest()) continue;
    const float value = format().decode(bits);
    EXPECT_EQ(format().nearest(value), bits);
    for (const uint32_t random : {0u, 0xffffffffu, static_cast<uint32_t>(engine_())}) {
      EXPECT_EQ(format().stochastic(value, random), bits);
    }
  }
}

// Between each number and the next: the middle, its fp32 neighbours, both ends and random points.
TEST_P(FloatFormat, EveryGapRoundsAsDefined) {
  const FormatOracle& oracle = format().oracle;
  for (uint32_t bits = 0; bits < oracle.largest(); ++bits) {
    const double low = oracle.Value(bits);
    const double high = oracle.Value(bits + 1);
    const auto middle = static_cast<float>((low + high) / 2);
    const auto somewhere =
        static_cast<float>(std::uniform_real_distribution<double>(low, high)(engine_));
    for (const float value :
         {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, HUGE_VALF), somewhere,
          std::nextafter(static_cast<float>(low), HUGE_VALF),
          std::nextafter(static_cast<float>(high), 0.0f)}) {
      ExpectBoth(value);
      ExpectBoth(-value);
    }
  }
}

// Every float with 16 zero bits at its end, and a walk through all the others.
TEST_P(FloatFormat, FloatsOfEverySize) {
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 1 << 16) {
    ExpectBoth(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 65'521) {
    ExpectBoth(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
}

TEST_P(FloatFormat, BeyondTheLargestNumber) {
  const auto largest = static_cast<float>(format().oracle.largest_value());
  for (const float value : {largest, std::nextafter(largest, HUGE_VALF), 3.4e38f}) {
    ExpectBoth(value);
    ExpectBoth(-value);
    // Never infinite by chance.
    EXPECT_TRUE(std::isfinite(format().decode(format().stochastic(value, 0xffffffffu))));
  }
  const float infinite = format().decode(format().nearest(-HUGE_VALF));
  EXPECT_EQ(infinite, format().saturates ? -largest : -HUGE_VALF);
}

// The mean over all draws is the value itself: the property that training relies on.
TEST_P(FloatFormat, StochasticRoundingIsUnbiased) {
  for (int trial = 0; trial < 20; ++trial) {
    const float value =
        static_cast<float>(std::uniform_real_distribution<double>(0.01, 400)(engine_));
    double sum = 0;
    constexpr uint32_t kDraws = 1 << 16;
    for (uint32_t draw = 0; draw < kDraws; ++draw) {
      // Equally spaced over the random word, wherever the format takes its bits from.
      const uint32_t random = format().random_bits == 16 ? draw : draw << 16;
      sum += static_cast<double>(format().decode(format().stochastic(value, random)));
    }
    const auto [low, high] = format().oracle.Neighbours(static_cast<double>(value));
    const double gap = format().oracle.Value(high) - format().oracle.Value(low);
    EXPECT_TRUE(std::abs(sum / kDraws - static_cast<double>(value)) <= gap / kDraws) << value;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, FloatFormat, testing::Values(0, 1, 2),
                         [](const auto& tested) { return kFormats[tested.param].name; });

TEST(FloatFormats, LargestNumbers) {
  EXPECT_EQ(E4M3Oracle().largest_value(), static_cast<double>(kE4M3Max));
  EXPECT_EQ(E5M2Oracle().largest_value(), static_cast<double>(kE5M2Max));
}

}  // namespace
}  // namespace hearth::test
