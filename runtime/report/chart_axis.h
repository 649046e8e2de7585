// Axes of the report's charts, linear and logarithmic. page_script.cpp has the same rules.
#pragma once

#include <string>
#include <vector>

namespace hearth {

struct ChartTick {
  double value = 0;
  std::string label;
};

struct ChartAxis {
  double low = 0;
  double high = 1;
  bool logarithmic = false;
  std::vector<ChartTick> ticks;

  // 0 at low, 1 at high; not much more or less for what lies beyond.
  double Position(double value) const;
};

// About `tick_count` ticks at multiples of 1, 2 or 5 times a power of ten. low <= high, finite.
ChartAxis LinearAxis(double low, double high, int tick_count);

// Ticks at powers of ten, and at 2 and 5 times these where they are few. 0 < low <= high.
ChartAxis LogAxis(double low, double high);

// Of steps, tokens: "0", "500", "20k", "1.5M".
ChartAxis CountAxis(double low, double high, int tick_count);

}  // namespace hearth
