// Small floating-point formats by enumeration: every number a format has, as a double, from the
// format's definition; rounding is a search among them. Independent of kernels/core.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace hearth::test {

class FormatOracle {
 public:
  // `largest`: the bits of the largest finite number, without sign.
  FormatOracle(int mantissa_bits, int bias, uint32_t largest, bool has_infinity, int total_bits)
      : largest_(largest), has_infinity_(has_infinity), sign_bit_(1u << (total_bits - 1)) {
    const uint32_t one = 1u << mantissa_bits;
    for (uint32_t bits = 0; bits <= largest; ++bits) {
      const int exponent = static_cast<int>(bits >> mantissa_bits);
      const uint32_t fraction = bits & (one - 1);
      // Exponent field 0: no implicit bit, and the spacing of exponent field 1.
      const uint32_t significand = exponent == 0 ? fraction : fraction + one;
      values_.push_back(
          std::ldexp(significand, (exponent == 0 ? 1 : exponent) - bias - mantissa_bits));
    }
  }

  double Value(uint32_t bits) const {
    const double sign = (bits & sign_bit_) != 0 ? -1.0 : 1.0;
    const uint32_t magnitude = bits & (sign_bit_ - 1);
    if (magnitude <= largest_) return sign * values_[magnitude];
    return has_infinity_ && magnitude == largest_ + 1 ? sign * HUGE_VAL : std::nan("");
  }

  // The two numbers of the format, as magnitude bits, with low <= |value| <= high; both the largest
  // when |value| lies beyond it.
  std::pair<uint32_t, uint32_t> Neighbours(double value) const {
    const auto above = std::lower_bound(values_.begin(), values_.end(), std::abs(value));
    if (above == values_.end()) return {largest_, largest_};
    const auto high = static_cast<uint32_t>(above - values_.begin());
    return {*above == std::abs(value) ? high : high - 1, high};
  }

  // Nearest, ties to even bits, saturating at the largest; not for NaN.
  uint32_t Nearest(double value) const {
    const auto [low, high] = Neighbours(value);
    const double down = std::abs(value) - values_[low];
    const double up = values_[high] - std::abs(value);
    const uint32_t magnitude = down < up ? low : (up < down ? high : (low % 2 == 0 ? low : high));
    return magnitude | (std::signbit(value) ? sign_bit_ : 0);
  }

  uint32_t largest() const { return largest_; }
  uint32_t sign_bit() const { return sign_bit_; }
  double largest_value() const { return values_.back(); }

 private:
  std::vector<double> values_;  // by magnitude bits
  uint32_t largest_;
  bool has_infinity_;
  uint32_t sign_bit_;
};

inline const FormatOracle& E4M3Oracle() {
  static const FormatOracle oracle(3, 7, 0x7e, false, 8);
  return oracle;
}
inline const FormatOracle& E5M2Oracle() {
  static const FormatOracle oracle(2, 15, 0x7b, true, 8);
  return oracle;
}
inline const FormatOracle& BFloat16Oracle() {
  static const FormatOracle oracle(7, 127, 0x7f7f, true, 16);
  return oracle;
}

}  // namespace hearth::test
