#include "runtime/model/initialization.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>

#include "kernels/core/check.h"
#include "kernels/core/philox.h"

namespace hearth {

namespace internal {

namespace {

// (-1)^k / (2k)! and (-1)^k / (2k+1)!: at pi/4 the first term left out is below 1e-20.
constexpr int kTaylorTerms = 10;
using TaylorSeries = std::array<double, kTaylorTerms>;
constexpr TaylorSeries MakeTaylorSeries(int first_power) {
  TaylorSeries series{};
  double factorial = 1.0;  // exact up to 22!
  for (int k = 0; k < kTaylorTerms; ++k) {
    series[static_cast<size_t>(k)] = (k % 2 == 0 ? 1.0 : -1.0) / factorial;
    const int power = 2 * k + first_power;
    factorial *= (power + 1) * (power + 2);
  }
  return series;
}
constexpr TaylorSeries kCosineTerms = MakeTaylorSeries(0);
constexpr TaylorSeries kSineTerms = MakeTaylorSeries(1);

}  // namespace

double PortableLog(double value) {
  // value = significand * 2^exponent with the significand within a factor sqrt(2) of one.
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double significand = std::bit_cast<double>((bits & 0xfffffffffffffull) | 0x3ff0000000000000ull);
  if (significand > std::numbers::sqrt2) {
    significand *= 0.5;
    exponent += 1;
  }
  // ln m = 2 artanh(s), s = (m - 1)/(m + 1), |s| < 0.172: the 12th term is below 1e-18.
  const double s = (significand - 1.0) / (significand + 1.0);
  const double square = s * s;
  double series = 0.0;
  for (int term = 23; term >= 1; term -= 2) series = series * square + 1.0 / term;
  return static_cast<double>(exponent) * std::numbers::ln2 + 2.0 * s * series;
}

SineCosine PortableSineCosine(double turns) {
  // The nearest quarter turn is taken off exactly; the rest lies within pi/4.
  const int quarter = static_cast<int>(turns * 4.0 + 0.5);
  const double angle = 2.0 * std::numbers::pi * (turns - 0.25 * quarter);
  const double square = angle * angle;
  double sine = 0.0;
  double cosine = 0.0;
  for (int k = kTaylorTerms - 1; k >= 0; --k) {
    cosine = cosine * square + kCosineTerms[static_cast<size_t>(k)];
    sine = sine * square + kSineTerms[static_cast<size_t>(k)];
  }
  sine *= angle;
  switch (quarter % 4) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

}  // namespace internal

namespace {

using Normal4 = std::array<double, 4>;

// Draws 0 and 1 make values 0 and 1, draws 2 and 3 the other two.
Normal4 NormalValues(const RandomStream& stream, uint64_t group) {
  constexpr double kUnit = 0x1p-32;
  const Philox4 draws = stream.Draw(group);
  Normal4 values;
  for (size_t pair = 0; pair < 4; pair += 2) {
    const double uniform = (static_cast<double>(draws[pair]) + 0.5) * kUnit;
    const double radius = std::sqrt(-2.0 * internal::PortableLog(uniform));
    const internal::SineCosine direction =
        internal::PortableSineCosine(static_cast<double>(draws[pair + 1]) * kUnit);
    values[pair] = radius * direction.cosine;
    values[pair + 1] = radius * direction.sine;
  }
  return values;
}

void FillNormal(const RandomStream& stream, double std, int64_t begin, std::span<float> out) {
  auto element = static_cast<uint64_t>(begin);
  const uint64_t end = element + out.size();
  while (element < end) {
    const uint64_t group = element / 4;
    const Normal4 values = NormalValues(stream, group);
    const uint64_t group_end = std::min(end, 4 * (group + 1));
    for (; element < group_end; ++element) {
      out[element - static_cast<uint64_t>(begin)] = static_cast<float>(std * values[element % 4]);
    }
  }
}

}  // namespace

void InitialValues(const ParameterSpec& parameter, uint64_t seed, int64_t begin,
                   std::span<float> out) {
  const auto count = static_cast<int64_t>(out.size());
  CHECK(begin >= 0 && count <= parameter.stored_elements - begin, "elements {} to {} of {} with {}",
        begin, begin + count, parameter.name, parameter.stored_elements);
  const int64_t logical = std::clamp<int64_t>(parameter.elements() - begin, 0, count);
  const std::span<float> values = out.first(static_cast<size_t>(logical));
  std::ranges::fill(out.subspan(values.size()), 0.0f);
  switch (parameter.init.kind) {
    case Init::Kind::kNormal: {
      const RandomStream stream{.seed = seed,
                                .step = 0,
                                .tensor_id = static_cast<uint32_t>(parameter.tensor_id),
                                .use = RandomUse::kInitialization,
                                .micro_batch = 0};
      FillNormal(stream, parameter.init.std, begin, values);
      break;
    }
    case Init::Kind::kOnes:
      std::ranges::fill(values, 1.0f);
      break;
    case Init::Kind::kZeros:
      std::ranges::fill(values, 0.0f);
      break;
  }
}

}  // namespace hearth
