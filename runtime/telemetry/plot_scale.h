// Axes of the loss curves.
#pragma once

#include <string>
#include <vector>

#include "runtime/telemetry/loss_curve.h"

namespace hearth {

struct AxisTick {
  double value = 0.0;
  std::string label;
};

// A stretch of numbers with round ticks inside it.
struct Axis {
  double low = 0.0;
  double high = 1.0;
  std::vector<AxisTick> ticks;

  // 0 at low, 1 at high.
  double Position(double value) const { return (value - low) / (high - low); }
};

// An axis from `low` to `high` (finite, low <= high; widened where they are equal) with about
// `tick_count` ticks at multiples of 1, 2 or 5 times a power of ten.
Axis MakeAxis(double low, double high, int tick_count);

// The same at whole numbers.
Axis MakeStepAxis(int64_t low, int64_t high, int tick_count);

// The axes that hold every finite point of a curve; false when there is none.
bool FitAxes(const LossCurve& curve, int step_ticks, int loss_ticks, Axis* steps, Axis* losses);

// The points without those that are not finite.
std::vector<LossPoint> FinitePoints(const std::vector<LossPoint>& points);

}  // namespace hearth
