#include "runtime/report/chart_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "runtime/report/chart_axis.h"
#include "runtime/report/html_text.h"

namespace hearth {

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kRight = 14;  // margins
constexpr double kTop = 10;
constexpr double kBottom = 26;
constexpr size_t kMostDots = 80;
constexpr size_t kFewCurves = 4;

double MiddleStep(const SeriesBucket& bucket) {
  return (static_cast<double>(bucket.first_step) + static_cast<double>(bucket.last_step)) / 2;
}

// Values beyond the axis: a few that would press everything else flat.
double HighEnd(std::vector<double> highs, double low) {
  std::sort(highs.begin(), highs.end());
  const double most = highs.back();
  const double usual = highs[static_cast<size_t>(0.98 * static_cast<double>(highs.size() - 1))];
  return most - low > 4 * (usual - low) && usual > low ? low + 1.25 * (usual - low) : most;
}

struct ValueRange {
  ChartAxis axis;
  double highest = 0;  // of all values, which may lie beyond the axis
};

ValueRange FindValueRange(const Chart& chart) {
  std::vector<double> highs;
  double low = kNone;
  for (const ChartCurve& curve : chart.curves) {
    for (const SeriesBucket& bucket : curve.series->buckets()) {
      if (bucket.count == 0) continue;
      const double least = bucket.min / chart.divisor;
      if (chart.logarithmic && least <= 0) continue;
      low = low <= least ? low : least;
      highs.push_back(bucket.max / chart.divisor);
    }
  }
  if (highs.empty()) return {.axis = chart.logarithmic ? LogAxis(1, 10) : LinearAxis(0, 1, 5)};
  const double highest = *std::max_element(highs.begin(), highs.end());
  if (chart.logarithmic) return {.axis = LogAxis(low, highest), .highest = highest};
  double high = chart.is_smoothed ? HighEnd(highs, low) : highest;
  if (chart.from_zero && low > 0) low = 0;
  if (chart.from_zero && high < 0) high = 0;
  const double margin = 0.04 * (high - low);
  if (high > low) high += margin;
  if (!chart.from_zero) low -= margin;
  return {.axis = LinearAxis(low, high, 5), .highest = highest};
}

ChartAxis StepAxis(const Chart& chart) {
  double first = kNone;
  double last = kNone;
  for (const ChartCurve& curve : chart.curves) {
    const std::vector<SeriesBucket>& buckets = curve.series->buckets();
    const auto begin = static_cast<double>(buckets.front().first_step);
    const auto end = static_cast<double>(buckets.back().last_step);
    first = first <= begin ? first : begin;
    last = last >= end ? last : end;
  }
  if (first < 0.02 * last) first = 0;
  return CountAxis(first, last, 6);
}

class Picture {
 public:
  Picture(const Chart& chart, double width, double height)
      : chart_(chart), width_(width), height_(height), steps_(StepAxis(chart)) {
    ValueRange range = FindValueRange(chart);
    values_ = std::move(range.axis);
    highest_ = range.highest;
    size_t longest = 1;
    for (const ChartTick& tick : values_.ticks) longest = std::max(longest, tick.label.size());
    left_ = 16 + 6.6 * static_cast<double>(longest);
  }

  // `name`: unique in the page.
  std::string Draw(const std::string& name, int64_t most_points) {
    DrawAxes();
    body_ += fmt::format(
        "<clipPath id=\"{0}\"><rect x=\"{1:.1f}\" y=\"{2:.1f}\" width=\"{3:.1f}\" "
        "height=\"{4:.1f}\"/></clipPath><g clip-path=\"url(#{0})\">",
        name, left_ - 3, kTop - 4, width_ - kRight - left_ + 6, height_ - kTop - kBottom + 8);
    // Raw values first, so that no curve hides behind another's.
    std::vector<Series> drawn;
    for (const ChartCurve& curve : chart_.curves) {
      drawn.push_back(*curve.series);
      drawn.back().Coarsen(most_points);
    }
    for (size_t i = 0; i < drawn.size(); ++i) DrawRaw(chart_.curves[i], drawn[i]);
    for (size_t i = 0; i < drawn.size(); ++i) DrawCurve(chart_.curves[i], drawn[i]);
    return fmt::format(
        "<svg viewBox=\"0 0 {0:.0f} {1:.0f}\" role=\"img\" aria-label=\"{2}\">{3}</g></svg>",
        width_, height_, EscapeHtml(chart_.title), body_);
  }

 private:
  double X(double step) const { return left_ + (width_ - kRight - left_) * steps_.Position(step); }
  double Y(double value) const {
    return height_ - kBottom - (height_ - kBottom - kTop) * values_.Position(value);
  }

  void DrawAxes() {
    const double bottom = height_ - kBottom;
    for (const ChartTick& tick : values_.ticks) {
      const double y = Y(tick.value);
      body_ += fmt::format("<path class=\"grid\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>", left_, y,
                           width_ - kRight);
      body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"end\">{}</text>", left_ - 7,
                           y + 3.8, tick.label);
    }
    body_ += fmt::format("<path class=\"axis\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>", left_, bottom,
                         width_ - kRight);
    for (const ChartTick& tick : steps_.ticks) {
      const double x = X(tick.value);
      body_ += fmt::format("<path class=\"axis\" d=\"M{:.1f} {:.1f}v4\"/>", x, bottom);
      body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"middle\">{}</text>", x,
                           bottom + 17, tick.label);
    }
    if (highest_ > values_.high) {
      body_ += fmt::format("<text x=\"{:.1f}\" y=\"6\" class=\"beyond\">\u25b2 up to {:.4g}</text>",
                           width_ - kRight, highest_);
    }
  }

  // Means as one path, begun anew behind what has no value.
  std::string Path(const Series& series, const std::vector<double>& values) const {
    std::string path;
    bool is_drawing = false;
    for (size_t i = 0; i < values.size(); ++i) {
      const double value = values[i] / chart_.divisor;
      const bool is_drawable = std::isfinite(value) && (!chart_.logarithmic || value > 0);
      if (is_drawable) {
        path += fmt::format("{}{:.1f} {:.1f}", is_drawing ? 'L' : 'M',
                            X(MiddleStep(series.buckets()[i])), Y(value));
      }
      is_drawing = is_drawable;
    }
    return path;
  }

  void Line(const ChartCurve& curve, const std::string& path, const char* style) {
    if (path.empty()) return;
    body_ += fmt::format("<path class=\"{}\" style=\"stroke:var({})\" d=\"{}\"/>", style,
                         curve.color, path);
  }

  // The extremes of merged records as a band; where nothing is merged, the values.
  void DrawRaw(const ChartCurve& curve, const Series& series) {
    const char* few = chart_.curves.size() > kFewCurves ? " many" : "";
    if (series.IsExact()) {
      if (!chart_.is_smoothed || curve.has_dots) return;
      Line(curve, Path(series, SmoothedMeans(series, 0)), fmt::format("raw{}", few).c_str());
      return;
    }
    std::string forth;
    std::string back;
    for (const SeriesBucket& bucket : series.buckets()) {
      if (bucket.count == 0) continue;
      const double x = X(MiddleStep(bucket));
      forth += fmt::format("{}{:.1f} {:.1f}", forth.empty() ? 'M' : 'L', x,
                           Y(bucket.max / chart_.divisor));
      back = fmt::format("L{:.1f} {:.1f}", x, Y(bucket.min / chart_.divisor)) + back;
    }
    body_ += fmt::format("<path class=\"band{}\" style=\"fill:var({})\" d=\"{}{}Z\"/>", few,
                         curve.color, forth, back);
  }

  void DrawCurve(const ChartCurve& curve, const Series& series) {
    const std::vector<SeriesBucket>& buckets = series.buckets();
    const double steps = static_cast<double>(buckets.back().last_step - buckets.front().first_step);
    const bool is_smoothed = chart_.is_smoothed && !curve.has_dots;
    Line(curve, Path(series, SmoothedMeans(series, is_smoothed ? kFirstSmoothing * steps : 0)),
         "line");
    if (buckets.size() > 1 && !(curve.has_dots && buckets.size() <= kMostDots)) return;
    for (const SeriesBucket& bucket : buckets) {
      if (bucket.count == 0) continue;
      body_ += fmt::format("<circle r=\"2.6\" style=\"fill:var({})\" cx=\"{:.1f}\" cy=\"{:.1f}\"/>",
                           curve.color, X(MiddleStep(bucket)), Y(bucket.Mean() / chart_.divisor));
    }
  }

  const Chart& chart_;
  double width_;
  double height_;
  ChartAxis values_;
  ChartAxis steps_;
  double highest_ = 0;
  double left_ = 0;
  std::string body_;
};

// The steps of the buckets, once for all curves that have the same.
class Grids {
 public:
  size_t Index(const Series& series) {
    std::string first = "[";
    std::string last = "[";
    bool is_exact = true;
    for (const SeriesBucket& bucket : series.buckets()) {
      const char* comma = first.size() > 1 ? "," : "";
      first += fmt::format("{}{}", comma, bucket.first_step);
      last += fmt::format("{}{}", comma, bucket.last_step);
      is_exact &= bucket.first_step == bucket.last_step;
    }
    const std::string text = is_exact ? fmt::format("{{\"a\":{}]}}", first)
                                      : fmt::format("{{\"a\":{}],\"b\":{}]}}", first, last);
    const auto [found, is_new] = indices_.emplace(text, order_.size());
    if (is_new) order_.push_back(text);
    return found->second;
  }

  std::string Json() const { return fmt::format("[{}]", fmt::join(order_, ",\n")); }

 private:
  std::map<std::string, size_t> indices_;
  std::vector<std::string> order_;
};

std::string CurveJson(const ChartCurve& curve, const Series& series, size_t grid) {
  constexpr int kDigits = 6;
  std::string mean;
  std::string low;
  std::string high;
  for (const SeriesBucket& bucket : series.buckets()) {
    const char* comma = mean.empty() ? "" : ",";
    const bool has_value = bucket.count > 0;
    mean += comma;
    mean += ScriptNumber(has_value ? bucket.Mean() : kNone, kDigits);
    low += comma;
    low += ScriptNumber(has_value ? bucket.min : kNone, kDigits);
    high += comma;
    high += ScriptNumber(has_value ? bucket.max : kNone, kDigits);
  }
  std::string json = fmt::format(
      "{{\"run\":{},\"metric\":{},\"label\":{},\"color\":\"{}\",\"dots\":{},\"grid\":{},"
      "\"y\":[{}]",
      curve.run, ScriptString(curve.metric), ScriptString(curve.label), curve.color, curve.has_dots,
      grid, mean);
  if (!series.IsExact()) json += fmt::format(",\"lo\":[{}],\"hi\":[{}]", low, high);
  return json + "}";
}

}  // namespace

std::vector<double> SmoothedMeans(const Series& series, double steps) {
  const std::vector<SeriesBucket>& buckets = series.buckets();
  std::vector<double> means;
  for (const SeriesBucket& bucket : buckets)
    means.push_back(bucket.count > 0 ? bucket.Mean() : kNone);
  if (steps <= 0) return means;
  std::vector<double> smoothed(means.size(), kNone);
  size_t begin = 0;
  for (size_t i = 0; i < means.size(); ++i) {
    if (std::isnan(means[i])) continue;
    const double here = MiddleStep(buckets[i]);
    while (MiddleStep(buckets[begin]) < here - 3 * steps) ++begin;
    double sum = 0;
    double weights = 0;
    for (size_t k = begin; k < means.size(); ++k) {
      const double distance = (MiddleStep(buckets[k]) - here) / steps;
      if (distance > 3) break;
      if (std::isnan(means[k])) continue;
      const double weight =
          static_cast<double>(buckets[k].count) * std::exp(-0.5 * distance * distance);
      sum += weight * means[k];
      weights += weight;
    }
    smoothed[i] = sum / weights;
  }
  return smoothed;
}

std::string ChartSvg(const Chart& chart, size_t index, int64_t most_points) {
  return Picture(chart, chart.is_wide ? 1100 : 540, chart.is_tall ? 340 : 240)
      .Draw(fmt::format("still{}", index), most_points);
}

std::string ChartsJson(const std::vector<Chart>& charts, int64_t most_buckets) {
  Grids grids;
  std::vector<std::string> parts;
  for (const Chart& chart : charts) {
    std::vector<std::string> curves;
    for (const ChartCurve& curve : chart.curves) {
      Series series = *curve.series;
      series.Coarsen(most_buckets);
      curves.push_back(CurveJson(curve, series, grids.Index(series)));
    }
    parts.push_back(fmt::format(
        "{{\"title\":{},\"unit\":{},\"div\":{},\"log\":{},\"zero\":{},\"smooth\":{},\"tall\":{},"
        "\"curves\":[\n{}]}}",
        ScriptString(chart.title), ScriptString(chart.unit), ScriptNumber(chart.divisor, 17),
        chart.logarithmic, chart.from_zero, chart.is_smoothed, chart.is_tall,
        fmt::join(curves, ",\n")));
  }
  return fmt::format("\"grids\":{},\n\"charts\":[{}]", grids.Json(), fmt::join(parts, ",\n"));
}

}  // namespace hearth
