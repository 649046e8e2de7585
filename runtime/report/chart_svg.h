// A chart as a picture, as it is before any script runs, and its numbers for the script.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/report/charts.h"

namespace hearth {

// An inline <svg> element; lines have at most `most_points` points. `index`: of the page's charts.
std::string ChartSvg(const Chart& chart, size_t index, int64_t most_points);

// Numbers for page_script.cpp: {"grids": [...], "charts": [...]} without the braces. Curves have at
// most `most_buckets` points. Curves of a run with the same steps share a grid.
std::string ChartsJson(const std::vector<Chart>& charts, int64_t most_buckets);

// Means, smoothed by a bell of that width (standard deviation) in steps; as they are for 0. A
// bucket without values has none: NaN.
std::vector<double> SmoothedMeans(const Series& series, double steps);

// The share of a run's steps that smoothing begins with.
inline constexpr double kFirstSmoothing = 0.01;

}  // namespace hearth
