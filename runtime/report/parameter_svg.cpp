#include "runtime/report/parameter_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "runtime/config/scalar_text.h"
#include "runtime/report/chart_axis.h"
#include "runtime/report/html_text.h"
#include "runtime/report/sections.h"

namespace hearth {

namespace {

constexpr double kWidth = 540;
constexpr double kHeight = 260;
constexpr double kRight = 24;
constexpr double kTop = 12;
constexpr double kBottom = 30;
constexpr double kLabelWidth = 7;  // of a character
constexpr size_t kMostKeys = 12;
constexpr size_t kMostCategories = 24;
constexpr double kLogSpan = 8;  // beyond this ratio an axis is logarithmic

struct Point {
  size_t run = 0;
  double position = 0;  // 0 to 1 along the axis
  double value = 0;
  std::string text;  // of the key
};

struct Label {
  double position = 0;
  std::string text;
};

struct Panel {
  std::vector<Point> points;
  std::vector<Label> labels;
};

std::optional<double> NumberOf(const std::string& text) {
  const std::optional<double> number = ParseNumber(text).value;
  return number && std::isfinite(*number) ? number : std::nullopt;
}

// Values side by side, numbers in their order.
void PlaceCategories(Panel* panel) {
  std::vector<std::string> values;
  for (const Point& point : panel->points) {
    if (std::find(values.begin(), values.end(), point.text) == values.end()) {
      values.push_back(point.text);
    }
  }
  std::sort(values.begin(), values.end(), [](const std::string& a, const std::string& b) {
    const std::optional<double> x = NumberOf(a);
    const std::optional<double> y = NumberOf(b);
    if (x && y && *x != *y) return *x < *y;
    return x.has_value() != y.has_value() ? x.has_value() : a < b;
  });
  const double count = static_cast<double>(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    panel->labels.push_back({(static_cast<double>(i) + 0.5) / count, values[i]});
  }
  for (Point& point : panel->points) {
    const auto found = std::find(values.begin(), values.end(), point.text);
    point.position = panel->labels[static_cast<size_t>(found - values.begin())].position;
  }
}

void PlaceNumbers(const std::set<double>& values, Panel* panel) {
  const double low = *values.begin();
  const double high = *values.rbegin();
  const bool logarithmic = low > 0 && high / low >= kLogSpan;
  const double margin = 0.05 * (high - low);
  const ChartAxis axis =
      logarithmic ? LogAxis(low / std::pow(high / low, 0.05), high * std::pow(high / low, 0.05))
                  : LinearAxis(low - margin, high + margin, 6);
  for (Point& point : panel->points) point.position = axis.Position(*NumberOf(point.text));
  constexpr size_t kFewValues = 10;
  if (values.size() > kFewValues) {
    for (const ChartTick& tick : axis.ticks) {
      panel->labels.push_back({axis.Position(tick.value), tick.label});
    }
    return;
  }
  for (const double value : values) {
    panel->labels.push_back({axis.Position(value), fmt::format("{:.4g}", value)});
  }
}

Panel MakePanel(const SweepData& sweep, const std::string& key, int64_t most_runs) {
  Panel panel;
  std::set<double> numbers;
  bool all_numbers = true;
  std::set<std::string> texts;
  for (size_t i = 0; i < sweep.runs.size() && static_cast<int64_t>(i) < most_runs; ++i) {
    const std::string& text = sweep.runs[i].run.ConfigValue(key);
    if (!sweep.runs[i].value || text.empty()) continue;
    panel.points.push_back({.run = i, .value = *sweep.runs[i].value, .text = text});
    texts.insert(text);
    const std::optional<double> number = NumberOf(text);
    all_numbers &= number.has_value();
    if (number) numbers.insert(*number);
  }
  if (all_numbers && numbers.size() > 2) {
    PlaceNumbers(numbers, &panel);
  } else if (texts.size() <= kMostCategories) {
    PlaceCategories(&panel);
  } else {
    panel.points.clear();
  }
  return panel;
}

// The best value at each place of the axis.
std::map<double, double> BestByPosition(const Panel& panel, bool minimize) {
  std::map<double, double> best;
  for (const Point& point : panel.points) {
    const auto [found, is_new] = best.emplace(point.position, point.value);
    if (!is_new && (minimize ? point.value < found->second : point.value > found->second)) {
      found->second = point.value;
    }
  }
  return best;
}

class Drawing {
 public:
  Drawing(const SweepData& sweep, const Panel& panel) : sweep_(sweep), panel_(panel) {
    double low = panel.points[0].value;
    double high = low;
    for (const Point& point : panel.points) {
      low = std::min(low, point.value);
      high = std::max(high, point.value);
    }
    const double margin = 0.06 * (high - low);
    axis_ = LinearAxis(low - margin, high + margin, 5);
    size_t longest = 1;
    for (const ChartTick& tick : axis_.ticks) longest = std::max(longest, tick.label.size());
    left_ = 16 + 6.6 * static_cast<double>(longest);
  }

  std::string Draw(const std::string& key) {
    DrawAxes();
    std::string best;
    for (const auto& [position, value] : BestByPosition(panel_, sweep_.minimize)) {
      best += fmt::format("{}{:.1f} {:.1f}", best.empty() ? 'M' : 'L', X(position), Y(value));
    }
    body_ += fmt::format("<path class=\"best\" d=\"{}\"/>", best);
    // The best run is drawn last, above the others.
    for (size_t i = panel_.points.size(); i > 0; --i) DrawPoint(panel_.points[i - 1], key);
    return fmt::format(
        "<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{} over {}\">{}"
        "</svg>",
        kWidth, kHeight, EscapeHtml(sweep_.metric), EscapeHtml(key), body_);
  }

 private:
  double X(double position) const { return left_ + (kWidth - kRight - left_) * position; }
  double Y(double value) const {
    return kHeight - kBottom - (kHeight - kBottom - kTop) * axis_.Position(value);
  }

  void DrawAxes() {
    const double bottom = kHeight - kBottom;
    for (const ChartTick& tick : axis_.ticks) {
      const double y = Y(tick.value);
      body_ += fmt::format("<path class=\"grid\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>", left_, y,
                           kWidth - kRight);
      body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"end\">{}</text>", left_ - 7,
                           y + 3.8, tick.label);
    }
    body_ += fmt::format("<path class=\"axis\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>", left_, bottom,
                         kWidth - kRight);
    double free_from = 0;  // where no label stands yet
    for (const Label& label : panel_.labels) {
      const double x = X(label.position);
      body_ += fmt::format("<path class=\"axis\" d=\"M{:.1f} {:.1f}v4\"/>", x, bottom);
      const std::string text = Shortened(label.text, 18);
      const double half = kLabelWidth * static_cast<double>(text.size()) / 2;
      if (x - half < free_from) continue;
      free_from = x + half + 4;
      body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"middle\">{}</text>", x,
                           bottom + 18, EscapeHtml(text));
    }
  }

  void DrawPoint(const Point& point, const std::string& key) {
    const SweepRunData& run = sweep_.runs[point.run];
    const std::string tip = fmt::format("{}\n{} {:.6g}\n{} {}", Shortened(run.run.name, 60),
                                        sweep_.metric, point.value, key, Shortened(point.text, 60));
    const bool is_whole = run.run.state == RunState::kFinished;
    body_ += fmt::format(
        "<circle class=\"dot{}\" r=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" style=\"{}:var(--r{})\" "
        "data-run=\"{}\" data-tip=\"{}\"><title>{}</title></circle>",
        is_whole ? "" : " open", point.run == 0 ? 6 : 4.5, X(point.position), Y(point.value),
        is_whole ? "fill" : "stroke", point.run, point.run, EscapeHtml(tip), EscapeHtml(tip));
  }

  const SweepData& sweep_;
  const Panel& panel_;
  ChartAxis axis_;
  double left_ = 0;
  std::string body_;
};

}  // namespace

std::string ParameterFigures(const SweepData& sweep, int64_t most_runs) {
  std::string html;
  for (size_t i = 0; i < sweep.keys.size() && i < kMostKeys; ++i) {
    const Panel panel = MakePanel(sweep, sweep.keys[i], most_runs);
    if (panel.points.empty()) continue;
    const std::string key = ShortKeyName(sweep.keys, sweep.keys[i]);
    html += fmt::format(
        "<figure class=\"chart\"><figcaption><b>{}</b><span class=\"unit\">over {}"
        "</span></figcaption><div class=\"plot\">{}</div></figure>\n",
        EscapeHtml(sweep.metric), EscapeHtml(key), Drawing(sweep, panel).Draw(key));
  }
  return html;
}

}  // namespace hearth
