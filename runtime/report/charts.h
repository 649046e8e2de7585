// Which charts a report has, and which curves they show.
#pragma once

#include <string>
#include <vector>

#include "runtime/report/run_data.h"

namespace hearth {

struct ChartCurve {
  size_t run = 0;         // of those shown
  std::string metric;     // as the log calls it
  std::string label;      // the metric's last part, or the run's name
  std::string color;      // the name of a property of the style sheet, "--s0" or "--r0"
  const Series* series;   // borrowed from the run
  bool has_dots = false;  // few points that each count, such as evaluations
};

struct Chart {
  std::string section;
  std::string title;
  std::string unit;    // of what is shown; "" for none
  double divisor = 1;  // from what is logged to what is shown
  bool logarithmic = false;
  bool from_zero = false;  // the linear axis begins there
  bool is_smoothed = false;
  bool is_wide = false;  // as wide as the page
  bool is_tall = false;
  std::vector<ChartCurve> curves;
  int64_t left_out = 0;  // metrics that found no room
};

// In the order of the page; a chart without values is left out. Of one run a chart may hold several
// metrics; of several runs it holds one, a curve for each run.
std::vector<Chart> MakeCharts(const std::vector<const RunData*>& runs);

}  // namespace hearth
