#include "runtime/report/chart_axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace hearth {

namespace {

double TickDistance(double least) {
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

// "3e-05" without the zeros of its exponent.
std::string ExponentText(double value) {
  if (value >= 1e-4 && value < 1e6) return fmt::format("{:.7g}", value);
  std::string text = fmt::format("{:.3g}", value);
  const size_t e = text.find('e');
  if (e == std::string::npos) return text;
  const bool is_negative = text[e + 1] == '-';
  const size_t digits = std::min(text.find_first_not_of("0", e + 2), text.size());
  return text.substr(0, e + 1) + (is_negative ? "-" : "") + text.substr(digits);
}

std::string TickText(double value, double distance, double largest) {
  if (value == 0) return "0";
  if (largest >= 1e6 || largest < 2e-3) {
    std::string text = fmt::format("{:.2e}", value);
    // "1.50e-05" to "1.5e-5"
    const size_t e = text.find('e');
    std::string mantissa = text.substr(0, e);
    mantissa.erase(mantissa.find_last_not_of('0') + 1);
    if (mantissa.back() == '.') mantissa.pop_back();
    return fmt::format("{}e{}", mantissa, std::stoi(text.substr(e + 1)));
  }
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(distance) + 1e-9)));
  return fmt::format("{:.{}f}", value, decimals);
}

std::string CountText(double value) {
  constexpr const char* kUnits[] = {"", "k", "M", "G", "T"};
  size_t unit = 0;
  while (std::abs(value) >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.4g}{}", value, kUnits[unit]);
}

}  // namespace

double ChartAxis::Position(double value) const {
  constexpr double kBelow = -3;
  constexpr double kAbove = 4;
  if (!logarithmic) return std::clamp((value - low) / (high - low), kBelow, kAbove);
  if (value <= 0) return kBelow;
  return std::clamp(std::log(value / low) / std::log(high / low), kBelow, kAbove);
}

ChartAxis LinearAxis(double low, double high, int tick_count) {
  // Neighbours in double precision cannot be told apart on paper.
  const double least = std::max(std::abs(low), std::abs(high)) * 1e-6 + 1e-12;
  if (high - low < least) {
    low -= least;
    high += least;
  }
  ChartAxis axis{.low = low, .high = high};
  const double distance = TickDistance((high - low) / tick_count);
  const double largest = std::max(std::abs(low), std::abs(high));
  for (double k = std::ceil(low / distance - 1e-9); k <= std::floor(high / distance + 1e-9); ++k) {
    const double value = k * distance + 0.0;  // + 0.0: never "-0"
    axis.ticks.push_back({.value = value, .label = TickText(value, distance, largest)});
  }
  return axis;
}

ChartAxis LogAxis(double low, double high) {
  if (high / low < 1.02) {
    low /= 1.2;
    high *= 1.2;
  }
  ChartAxis axis{.low = low, .high = high, .logarithmic = true};
  const double decades = std::log10(high / low);
  const int every = std::max(1, static_cast<int>(std::ceil(decades / 8)));
  for (int power = static_cast<int>(std::floor(std::log10(low)));
       power <= static_cast<int>(std::ceil(std::log10(high))); ++power) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && decades > 2.5) continue;
      if (factor == 1 && power % every != 0) continue;
      const double value = factor * std::pow(10.0, power);
      if (value < low * (1 - 1e-9) || value > high * (1 + 1e-9)) continue;
      axis.ticks.push_back({.value = value, .label = ExponentText(value)});
    }
  }
  // A stretch within one decade.
  if (axis.ticks.size() < 2) {
    axis.ticks = LinearAxis(low, high, 4).ticks;
    std::erase_if(axis.ticks, [](const ChartTick& tick) { return tick.value <= 0; });
  }
  return axis;
}

ChartAxis CountAxis(double low, double high, int tick_count) {
  if (high <= low) high = low + 1;
  ChartAxis axis{.low = low, .high = high};
  const double distance = std::max(1.0, TickDistance((high - low) / tick_count));
  for (double k = std::ceil(low / distance - 1e-9); k <= std::floor(high / distance + 1e-9); ++k) {
    const double value = k * distance + 0.0;  // + 0.0: never "-0"
    axis.ticks.push_back({.value = value, .label = CountText(value)});
  }
  return axis;
}

}  // namespace hearth
