#include "runtime/telemetry/plot_scale.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace hearth {

namespace {

// The smallest of 1, 2 and 5 times a power of ten that is at least `minimum`.
double RoundStepSize(double minimum) {
  const double power = std::pow(10.0, std::floor(std::log10(minimum)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= minimum * (1 - 1e-9)) return factor * power;
  }
  return 10.0 * power;
}

std::vector<AxisTick> MakeTicks(double low, double high, double step_size) {
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step_size) + 1e-9)));
  std::vector<AxisTick> ticks;
  const double first = std::ceil(low / step_size - 1e-9);
  const double last = std::floor(high / step_size + 1e-9);
  for (double k = first; k <= last; ++k) {
    const double value = k * step_size + 0.0;  // + 0.0: never "-0"
    ticks.push_back({.value = value, .label = fmt::format("{:.{}f}", value, decimals)});
  }
  return ticks;
}

}  // namespace

Axis MakeAxis(double low, double high, int tick_count) {
  // Neighbours in double precision cannot be told apart on paper, and have no ticks between them.
  const double least = std::max(std::fabs(low), std::fabs(high)) * 1e-6 + 1e-9;
  if (high - low < least) {
    low -= least;
    high += least;
  }
  const double step_size = RoundStepSize((high - low) / tick_count);
  return {.low = low, .high = high, .ticks = MakeTicks(low, high, step_size)};
}

Axis MakeStepAxis(int64_t low, int64_t high, int tick_count) {
  if (high == low) ++high;
  const auto from = static_cast<double>(low);
  const auto to = static_cast<double>(high);
  const double step_size = std::max(1.0, RoundStepSize((to - from) / tick_count));
  return {.low = from, .high = to, .ticks = MakeTicks(from, to, step_size)};
}

std::vector<LossPoint> FinitePoints(const std::vector<LossPoint>& points) {
  std::vector<LossPoint> finite;
  std::copy_if(points.begin(), points.end(), std::back_inserter(finite),
               [](const LossPoint& point) { return std::isfinite(point.loss); });
  return finite;
}

bool FitAxes(const LossCurve& curve, int step_ticks, int loss_ticks, Axis* steps, Axis* losses) {
  std::vector<LossPoint> points = FinitePoints(curve.train);
  const std::vector<LossPoint> eval = FinitePoints(curve.eval);
  points.insert(points.end(), eval.begin(), eval.end());
  if (points.empty()) return false;
  const auto [first, last] = std::minmax_element(
      points.begin(), points.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  const auto [lowest, highest] = std::minmax_element(
      points.begin(), points.end(), [](const auto& a, const auto& b) { return a.loss < b.loss; });
  *steps = MakeStepAxis(first->step, last->step, step_ticks);
  const double margin = 0.03 * (highest->loss - lowest->loss);
  *losses = MakeAxis(lowest->loss - margin, highest->loss + margin, loss_ticks);
  return true;
}

}  // namespace hearth
