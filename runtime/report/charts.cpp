#include "runtime/report/charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string_view>
#include <utility>

namespace hearth {

namespace {

enum class Unit { kPlain, kTokensPerSecond, kBytes, kFraction, kMilliseconds, kNamed };

// A kind of chart: a metric, or with a star all that begin so.
struct ChartKind {
  std::string_view section;
  std::string_view title;
  std::array<std::string_view, 2> metrics;
  std::array<std::string_view, 2> titles;  // where each metric has a chart of its own
  Unit unit = Unit::kPlain;
  std::string_view unit_name;  // of kPlain and kNamed
  bool from_zero = true;
  bool logarithmic = false;
  bool is_smoothed = false;
  bool is_wide = false;
  bool only_if_varying = false;
};

constexpr size_t kMostCurves = 8;        // of metrics in a chart
constexpr size_t kMostOtherCharts = 24;  // of metrics we have no name for
constexpr size_t kPaletteSize = 8;       // colours in the style sheet

constexpr std::array kKinds = {
    ChartKind{.section = "Loss",
              .title = "Loss",
              .metrics = {"train/loss", "eval/loss"},
              .titles = {"Training loss", "Evaluation loss"},
              .unit_name = "nats per token",
              .from_zero = false,
              .is_smoothed = true,
              .is_wide = true},
    ChartKind{
        .section = "Optimization", .title = "Learning rate", .metrics = {"train/learning_rate"}},
    ChartKind{.section = "Optimization",
              .title = "Gradient norm",
              .metrics = {"train/grad_norm"},
              .unit_name = "before clipping",
              .is_smoothed = true},
    ChartKind{.section = "Optimization",
              .title = "FP8 scales repaired",
              .metrics = {"fp8/repairs"},
              .unit_name = "tensors of all ranks"},
    ChartKind{.section = "Optimization",
              .title = "FP8 amax",
              .metrics = {"fp8/amax/*"},
              .from_zero = false,
              .logarithmic = true},
    ChartKind{.section = "Speed",
              .title = "Throughput",
              .metrics = {"train/tokens_per_second"},
              .unit = Unit::kTokensPerSecond,
              .is_smoothed = true},
    ChartKind{.section = "Speed",
              .title = "Speed of light and MFU",
              .metrics = {"train/sol", "train/mfu"},
              .titles = {"Speed of light", "MFU"},
              .unit = Unit::kFraction,
              .is_smoothed = true},
    ChartKind{.section = "Speed",
              .title = "Step time",
              .metrics = {"train/step_time_ms/*"},
              .unit = Unit::kMilliseconds,
              .is_smoothed = true},
    ChartKind{.section = "Memory",
              .title = "Memory",
              .metrics = {"mem/*"},
              .unit = Unit::kBytes,
              .only_if_varying = true},
    ChartKind{.section = "Device",
              .title = "Clock",
              .metrics = {"gpu/clock_mhz", "gpu/memory_clock_mhz"},
              .titles = {"Clock", "Memory clock"},
              .unit_name = "MHz"},
    ChartKind{.section = "Device", .title = "Power", .metrics = {"gpu/power_w"}, .unit_name = "W"},
    ChartKind{.section = "Device",
              .title = "Temperature",
              .metrics = {"gpu/temperature_c"},
              .unit_name = "\u00b0C",
              .from_zero = false},
    ChartKind{.section = "Device",
              .title = "Device memory in use",
              .metrics = {"gpu/used_memory_bytes"},
              .unit = Unit::kBytes},
    ChartKind{.section = "Communication",
              .title = "Bytes sent",
              .metrics = {"comm/bytes/*"},
              .unit = Unit::kBytes},
};

struct Scale {
  double divisor = 1;
  std::string unit;
};

Scale ScaleFor(const ChartKind& kind, double largest) {
  switch (kind.unit) {
    case Unit::kTokensPerSecond:
      if (largest >= 2e6) return {1e6, "million tokens/s"};
      if (largest >= 2e3) return {1e3, "thousand tokens/s"};
      return {1, "tokens/s"};
    case Unit::kBytes: {
      constexpr std::array<const char*, 5> kUnits = {"bytes", "KiB", "MiB", "GiB", "TiB"};
      Scale scale{1, kUnits[0]};
      for (size_t i = 1; i < kUnits.size() && largest / scale.divisor >= 1024; ++i) {
        scale = {scale.divisor * 1024, kUnits[i]};
      }
      return scale;
    }
    case Unit::kFraction:
      return {0.01, "%"};
    case Unit::kMilliseconds:
      return largest >= 5e3 ? Scale{1e3, "s"} : Scale{1, "ms"};
    case Unit::kPlain:
    case Unit::kNamed:
      break;
  }
  return {1, std::string(kind.unit_name)};
}

bool Matches(std::string_view pattern, std::string_view metric) {
  if (pattern.empty()) return false;
  if (pattern.back() != '*') return metric == pattern;
  return metric.starts_with(pattern.substr(0, pattern.size() - 1));
}

bool BelongsTo(const ChartKind& kind, std::string_view metric) {
  return std::any_of(kind.metrics.begin(), kind.metrics.end(),
                     [&](std::string_view pattern) { return Matches(pattern, metric); });
}

std::string LastPart(const std::string& metric) { return metric.substr(metric.rfind('/') + 1); }

// What a curve among others of its kind is called: what the star stands for, else "train" of
// "train/loss" where the last parts are the same.
std::string CurveLabel(const ChartKind& kind, const std::string& metric) {
  for (const std::string_view pattern : kind.metrics) {
    if (!pattern.empty() && pattern.back() == '*' && Matches(pattern, metric)) {
      return metric.substr(pattern.size() - 1);
    }
  }
  if (kind.metrics[0] == "train/loss") return metric.substr(0, metric.find('/'));
  if (metric == "train/sol") return "speed of light";
  if (metric == "train/mfu") return "MFU";
  std::string label = LastPart(metric);
  std::replace(label.begin(), label.end(), '_', ' ');
  return label;
}

Chart EmptyChart(const ChartKind& kind) {
  return {.section = std::string(kind.section),
          .title = std::string(kind.title),
          .logarithmic = kind.logarithmic,
          .from_zero = kind.from_zero,
          .is_smoothed = kind.is_smoothed,
          .is_wide = kind.is_wide,
          .is_tall = kind.is_wide};
}

bool Finish(const ChartKind& kind, Chart* chart) {
  double largest = 0;
  bool varies = false;
  for (const ChartCurve& curve : chart->curves) {
    largest = std::max({largest, std::abs(curve.series->Min()), std::abs(curve.series->Max())});
    varies |= curve.series->Varies();
  }
  if (chart->curves.empty() || (kind.only_if_varying && !varies)) return false;
  const Scale scale = ScaleFor(kind, largest);
  chart->divisor = scale.divisor;
  chart->unit = scale.unit;
  return true;
}

bool IsEvaluation(std::string_view metric) { return metric.starts_with("eval/"); }

// The metrics of a kind that a run has, those named first in front; of too many the largest.
std::vector<std::string> MetricsOf(const ChartKind& kind, const RunData& run) {
  std::vector<std::string> metrics;
  for (const std::string_view pattern : kind.metrics) {
    for (const auto& [metric, series] : run.series) {
      if (Matches(pattern, metric) && series.count() > 0) metrics.push_back(metric);
    }
  }
  // The sum of parts that are drawn as well stands first.
  std::stable_partition(metrics.begin(), metrics.end(),
                        [](const std::string& metric) { return metric.ends_with("/total"); });
  return metrics;
}

void KeepLargest(const RunData& run, std::vector<std::string>* metrics, Chart* chart) {
  if (metrics->size() <= kMostCurves) return;
  chart->left_out = std::ssize(*metrics) - static_cast<int64_t>(kMostCurves);
  std::stable_sort(metrics->begin(), metrics->end(), [&](const auto& a, const auto& b) {
    return run.Find(a)->Max() > run.Find(b)->Max();
  });
  metrics->resize(kMostCurves);
}

void AddChartOfOne(const ChartKind& kind, const RunData& run, std::vector<Chart>* charts) {
  Chart chart = EmptyChart(kind);
  std::vector<std::string> metrics = MetricsOf(kind, run);
  KeepLargest(run, &metrics, &chart);
  for (const std::string& metric : metrics) {
    chart.curves.push_back({.run = 0,
                            .metric = metric,
                            .label = CurveLabel(kind, metric),
                            .color = fmt::format("--s{}", chart.curves.size() % kPaletteSize),
                            .series = run.Find(metric),
                            .has_dots = IsEvaluation(metric)});
  }
  if (Finish(kind, &chart)) charts->push_back(std::move(chart));
}

// One metric of all runs.
Chart ChartOfMetric(const ChartKind& kind, const std::string& metric,
                    const std::vector<const RunData*>& runs) {
  Chart chart = EmptyChart(kind);
  for (size_t i = 0; i < runs.size(); ++i) {
    const Series* series = runs[i]->Find(metric);
    if (series == nullptr || series->count() == 0) continue;
    chart.curves.push_back({.run = i,
                            .metric = metric,
                            .label = runs[i]->label,
                            .color = fmt::format("--r{}", i),
                            .series = series,
                            .has_dots = IsEvaluation(metric)});
  }
  return chart;
}

void AddChartsOfMany(const ChartKind& kind, const std::vector<const RunData*>& runs,
                     std::vector<Chart>* charts) {
  std::vector<std::string> metrics;
  for (const RunData* run : runs) {
    for (const std::string& metric : MetricsOf(kind, *run)) {
      if (std::find(metrics.begin(), metrics.end(), metric) == metrics.end()) {
        metrics.push_back(metric);
      }
    }
  }
  const auto left_out = std::ssize(metrics) - static_cast<int64_t>(kMostCurves);
  if (left_out > 0) metrics.resize(kMostCurves);
  for (const std::string& metric : metrics) {
    Chart chart = ChartOfMetric(kind, metric, runs);
    chart.is_wide = false;
    chart.is_tall = false;
    const auto named = std::find(kind.metrics.begin(), kind.metrics.end(), metric);
    if (named != kind.metrics.end() && !kind.titles[0].empty()) {
      chart.title = kind.titles[static_cast<size_t>(named - kind.metrics.begin())];
    } else if (metrics.size() > 1) {
      chart.title = fmt::format("{}: {}", kind.title, CurveLabel(kind, metric));
    }
    chart.left_out = &metric == &metrics.back() ? std::max<int64_t>(0, left_out) : 0;
    if (Finish(kind, &chart)) charts->push_back(std::move(chart));
  }
}

// What a run's end says once of its plan: the tiles have it.
constexpr std::string_view kPlanFigures = "plan/";

// Metrics that have no place in the table, each in a chart of its own.
void AddOthers(const std::vector<const RunData*>& runs, std::vector<Chart>* charts) {
  constexpr ChartKind kOther{.section = "Other metrics", .from_zero = false};
  std::set<std::string> metrics;
  for (const RunData* run : runs) {
    for (const auto& [metric, series] : run->series) {
      const auto has = [&, &name = metric](const ChartKind& kind) { return BelongsTo(kind, name); };
      if (metric.starts_with(kPlanFigures)) continue;
      if (std::none_of(kKinds.begin(), kKinds.end(), has)) metrics.insert(metric);
    }
  }
  size_t drawn = 0;
  for (const std::string& metric : metrics) {
    Chart chart = ChartOfMetric(kOther, metric, runs);
    chart.title = metric;
    if (runs.size() == 1 && !chart.curves.empty()) chart.curves[0].color = "--s0";
    if (!Finish(kOther, &chart)) continue;
    if (++drawn > kMostOtherCharts) break;
    if (drawn == kMostOtherCharts) {
      chart.left_out = std::ssize(metrics) - static_cast<int64_t>(kMostOtherCharts);
    }
    charts->push_back(std::move(chart));
  }
}

}  // namespace

std::vector<Chart> MakeCharts(const std::vector<const RunData*>& runs) {
  std::vector<Chart> charts;
  for (const ChartKind& kind : kKinds) {
    if (runs.size() == 1) {
      AddChartOfOne(kind, *runs[0], &charts);
    } else {
      AddChartsOfMany(kind, runs, &charts);
    }
  }
  AddOthers(runs, &charts);
  // One that is alone in its section has the whole width.
  for (size_t i = 0; i < charts.size(); ++i) {
    const bool is_first = i == 0 || charts[i - 1].section != charts[i].section;
    const bool is_last = i + 1 == charts.size() || charts[i + 1].section != charts[i].section;
    charts[i].is_wide |= is_first && is_last;
  }
  return charts;
}

}  // namespace hearth
