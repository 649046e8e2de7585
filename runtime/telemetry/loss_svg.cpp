#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "runtime/telemetry/loss_curve.h"
#include "runtime/telemetry/plot_scale.h"

namespace hearth {

namespace {

constexpr double kWidth = 800;
constexpr double kHeight = 460;
constexpr double kLeft = 70;
constexpr double kRight = 780;
constexpr double kTop = 48;
constexpr double kBottom = 400;
constexpr size_t kMaxPoints = 1400;  // about two to a pixel
constexpr const char* kTrainColor = "#1f5fa8";
constexpr const char* kTrainPaleColor = "#b9d0ea";
constexpr const char* kEvalColor = "#d1571b";
constexpr const char* kGridColor = "#e4e4e4";
constexpr const char* kTextColor = "#333333";

std::string EscapeXml(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '&':
        escaped += "&amp;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:  // XML has no form at all for control characters
        escaped += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return escaped;
}

// Neighbours are merged into their mean where there are more points than the paper can show.
std::vector<LossPoint> Thinned(const std::vector<LossPoint>& points) {
  const size_t group = (points.size() + kMaxPoints - 1) / kMaxPoints;
  if (group <= 1) return points;
  std::vector<LossPoint> thinned;
  for (size_t begin = 0; begin < points.size(); begin += group) {
    const size_t end = std::min(begin + group, points.size());
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += points[i].loss;
    thinned.push_back(
        {.step = points[end - 1].step, .loss = sum / static_cast<double>(end - begin)});
  }
  return thinned;
}

// The mean over about a fiftieth of the points, half of them on either side (fewer at the ends).
std::vector<LossPoint> Smoothed(const std::vector<LossPoint>& points) {
  const auto count = static_cast<int64_t>(points.size());
  std::vector<double> sums = {0.0};  // sums[i]: of the first i losses
  for (const LossPoint& point : points) sums.push_back(sums.back() + point.loss);
  std::vector<LossPoint> smoothed = points;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t reach = std::min({count / 100, i, count - 1 - i});
    const auto begin = static_cast<size_t>(i - reach);
    const auto end = static_cast<size_t>(i + reach + 1);
    smoothed[static_cast<size_t>(i)].loss =
        (sums[end] - sums[begin]) / static_cast<double>(end - begin);
  }
  return smoothed;
}

class SvgPlot {
 public:
  SvgPlot(Axis steps, Axis losses) : steps_(std::move(steps)), losses_(std::move(losses)) {}

  void DrawAxes(std::string_view title) {
    for (const AxisTick& tick : losses_.ticks) {
      const double y = Y(tick.value);
      Line(kLeft, y, kRight, y, kGridColor);
      Text(kLeft - 8, y + 4, "end", 12, tick.label);
    }
    for (const AxisTick& tick : steps_.ticks) {
      const double x = X(tick.value);
      Line(x, kBottom, x, kBottom + 5, kTextColor);
      Text(x, kBottom + 20, "middle", 12, tick.label);
    }
    Line(kLeft, kTop, kLeft, kBottom, kTextColor);
    Line(kLeft, kBottom, kRight, kBottom, kTextColor);
    Text(kLeft, kTop - 20, "start", 15, title);
    Text((kLeft + kRight) / 2, kBottom + 44, "middle", 13, "step");
    body_ += fmt::format(
        "<text transform=\"translate(20,{:.0f}) rotate(-90)\" text-anchor=\"middle\" "
        "font-size=\"13\" fill=\"{}\">loss (nats per token)</text>\n",
        (kTop + kBottom) / 2, kTextColor);
  }

  void DrawLine(const std::vector<LossPoint>& points, const char* color, double width) {
    if (points.size() < 2) return;
    body_ += fmt::format(
        "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\" "
        "points=\"",
        color, width);
    for (const LossPoint& point : points) {
      body_ += fmt::format("{:.1f},{:.1f} ", X(static_cast<double>(point.step)), Y(point.loss));
    }
    body_ += "\"/>\n";
  }

  void DrawDots(const std::vector<LossPoint>& points, const char* color) {
    for (const LossPoint& point : points) {
      body_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n",
                           X(static_cast<double>(point.step)), Y(point.loss), color);
    }
  }

  // One entry of the legend, in the upper right corner, from the top down.
  void DrawLegend(const char* color, std::string_view label) {
    const double y = kTop + 16 + 20 * legend_entries_++;
    body_ += fmt::format(
        "<line x1=\"{0}\" y1=\"{1}\" x2=\"{2}\" y2=\"{1}\" stroke=\"{3}\" stroke-width=\"3\"/>\n",
        kRight - 220, y - 4, kRight - 196, color);
    Text(kRight - 188, y, "start", 13, label);
  }

  std::string Finish() const {
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
        "height=\"{1}\" font-family=\"Helvetica, Arial, sans-serif\">\n"
        "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n{2}</svg>\n",
        kWidth, kHeight, body_);
  }

 private:
  double X(double step) const { return kLeft + (kRight - kLeft) * steps_.Position(step); }
  double Y(double loss) const { return kBottom - (kBottom - kTop) * losses_.Position(loss); }

  void Line(double x1, double y1, double x2, double y2, const char* color) {
    body_ += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1,
        x2, y2, color);
  }

  void Text(double x, double y, const char* anchor, int size, std::string_view text) {
    body_ += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\" fill=\"{}\">{}"
        "</text>\n",
        x, y, anchor, size, kTextColor, EscapeXml(text));
  }

  Axis steps_;
  Axis losses_;
  std::string body_;
  int legend_entries_ = 0;
};

}  // namespace

std::string LossCurveSvg(const LossCurve& curve) {
  Axis steps = MakeStepAxis(0, 1, 8);
  Axis losses = MakeAxis(0, 1, 7);
  const bool drawable = FitAxes(curve, 8, 7, &steps, &losses);
  SvgPlot plot(steps, losses);
  plot.DrawAxes(curve.title);
  if (!drawable) return plot.Finish();

  const std::vector<LossPoint> train = Thinned(FinitePoints(curve.train));
  const std::vector<LossPoint> eval = FinitePoints(curve.eval);
  plot.DrawLine(train, kTrainPaleColor, 1);
  plot.DrawLine(Smoothed(train), kTrainColor, 2);
  if (train.size() == 1) plot.DrawDots(train, kTrainColor);
  plot.DrawLine(eval, kEvalColor, 2);
  plot.DrawDots(eval, kEvalColor);
  if (!train.empty()) {
    plot.DrawLegend(kTrainColor, fmt::format("training, last {:.4f}", train.back().loss));
  }
  if (!eval.empty()) {
    plot.DrawLegend(kEvalColor, fmt::format("evaluation, last {:.4f}", eval.back().loss));
  }
  return plot.Finish();
}

}  // namespace hearth
