// The course of a run's losses and its pictures: loss.svg and a curve of characters for a terminal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hearth {

struct LossPoint {
  int64_t step = 0;
  double loss = 0.0;
};

// Steps rise within a series. Losses that are not finite are gaps.
struct LossCurve {
  std::string title;
  std::vector<LossPoint> train;
  std::vector<LossPoint> eval;
};

// The picture as a whole SVG file: training loss as measured (pale) and smoothed, evaluation loss
// with a dot for each evaluation, axes with ticks, a legend.
std::string LossCurveSvg(const LossCurve& curve);

// The picture in Braille characters, `columns` wide and `rows` high with its axes, lines ended by
// "\n". Training loss is a line (the mean of the steps that share a dot), evaluations are 'o'.
// Empty when there is nothing to draw or no room (below 24 x 5).
std::string LossCurveText(const LossCurve& curve, int columns, int rows);

}  // namespace hearth
