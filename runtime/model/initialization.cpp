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

// Without branches, calls or comparisons of floating-point values: so every compiler makes vector
// code of a loop over them.

// A whole number below 2^51 in magnitude as a double: the last bits of 1.5 * 2^52 are its units.
[[gnu::always_inline]] inline double WholeNumber(int64_t value) {
  constexpr double kUnits = 0x1.8p52;
  return std::bit_cast<double>(std::bit_cast<uint64_t>(kUnits) + static_cast<uint64_t>(value)) -
         kUnits;
}

[[gnu::always_inline]] inline double Log(double value) {
  // value = significand * 2^exponent with the significand within a factor sqrt(2) of one.
  constexpr uint64_t kOne = std::bit_cast<uint64_t>(1.0);
  constexpr int kFraction = 52;
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  const uint64_t whole = (bits & ((uint64_t{1} << kFraction) - 1)) | kOne;
  const uint64_t halved = (std::bit_cast<uint64_t>(std::numbers::sqrt2) - whole) >> 63;
  const double significand = std::bit_cast<double>(whole - (halved << kFraction));
  const double exponent = WholeNumber(static_cast<int64_t>((bits >> kFraction) + halved)) - 1023.0;
  // ln m = 2 artanh(s), s = (m - 1)/(m + 1), |s| < 0.172: the 12th term is below 1e-18.
  const double s = (significand - 1.0) / (significand + 1.0);
  const double square = s * s;
  double series = 0.0;
  for (int term = 23; term >= 1; term -= 2) series = series * square + 1.0 / term;
  return exponent * std::numbers::ln2 + 2.0 * s * series;
}

[[gnu::always_inline]] inline SineCosine SineCosineOf(uint32_t turns) {
  // The nearest quarter turn is taken off exactly; the rest lies within pi/4.
  const uint64_t quarter = (uint64_t{turns} + (1u << 29)) >> 30;
  const int64_t rest = static_cast<int64_t>(uint64_t{turns} - (quarter << 30));
  const double angle = 2.0 * std::numbers::pi * (WholeNumber(rest) * 0x1p-32);
  const double square = angle * angle;
  double sine = 0.0;
  double cosine = 0.0;
  for (int k = kTaylorTerms - 1; k >= 0; --k) {
    cosine = cosine * square + kCosineTerms[static_cast<size_t>(k)];
    sine = sine * square + kSineTerms[static_cast<size_t>(k)];
  }
  sine *= angle;
  // Each quarter turn makes the cosine the sine, and the sine, negative, the cosine.
  const uint64_t swapped = 0 - (quarter & 1);
  const uint64_t difference =
      (std::bit_cast<uint64_t>(sine) ^ std::bit_cast<uint64_t>(cosine)) & swapped;
  const uint64_t sine_sign = (quarter & 2) << 62;
  const uint64_t cosine_sign = ((quarter + 1) & 2) << 62;
  return {std::bit_cast<double>((std::bit_cast<uint64_t>(sine) ^ difference) ^ sine_sign),
          std::bit_cast<double>((std::bit_cast<uint64_t>(cosine) ^ difference) ^ cosine_sign)};
}

}  // namespace

double PortableLog(double value) { return Log(value); }
SineCosine PortableSineCosine(uint32_t turns) { return SineCosineOf(turns); }

}  // namespace internal

namespace {

// Groups of four values that are drawn together: in loops without a branch, one for each stage.
constexpr size_t kBatchGroups = 64;
constexpr size_t kBatchPairs = 2 * kBatchGroups;
using NormalBatch = std::array<float, 4 * kBatchGroups>;

// The values of groups `first` to `first` + kBatchGroups - 1, times std. Draws 0 and 1 of a group
// make its values 0 and 1, draws 2 and 3 the other two.
void DrawNormal(const RandomStream& stream, uint64_t first, double std, NormalBatch& out) {
  constexpr double kUnit = 0x1p-32;
  std::array<uint32_t, kBatchPairs> lengths;
  std::array<uint32_t, kBatchPairs> directions;
  for (size_t group = 0; group < kBatchGroups; ++group) {
    const Philox4 draws = stream.Draw(first + group);
    for (size_t pair = 0; pair < 2; ++pair) {
      lengths[2 * group + pair] = draws[2 * pair];
      directions[2 * group + pair] = draws[2 * pair + 1];
    }
  }
  std::array<double, kBatchPairs> radii;
  for (size_t i = 0; i < kBatchPairs; ++i) {
    radii[i] = -2.0 * internal::Log((internal::WholeNumber(lengths[i]) + 0.5) * kUnit);
  }
  for (double& radius : radii) radius = std::sqrt(radius);
  for (size_t i = 0; i < kBatchPairs; ++i) {
    const internal::SineCosine direction = internal::SineCosineOf(directions[i]);
    out[2 * i] = static_cast<float>(std * (radii[i] * direction.cosine));
    out[2 * i + 1] = static_cast<float>(std * (radii[i] * direction.sine));
  }
}

void FillNormal(const RandomStream& stream, double std, int64_t begin, std::span<float> out) {
  NormalBatch batch;
  auto element = static_cast<uint64_t>(begin);
  while (!out.empty()) {
    DrawNormal(stream, element / 4, std, batch);
    const size_t skipped = element % 4;
    const size_t count = std::min(out.size(), batch.size() - skipped);
    std::copy_n(batch.data() + skipped, count, out.data());
    out = out.subspan(count);
    element += count;
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
