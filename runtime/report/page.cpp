#include "runtime/report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "kernels/core/check.h"
#include "runtime/report/chart_svg.h"
#include "runtime/report/charts.h"
#include "runtime/report/html_text.h"
#include "runtime/report/parameter_svg.h"
#include "runtime/report/sections.h"

namespace hearth {

namespace {

constexpr size_t kPaletteSize = 8;

// How much of everything a page may show.
struct Detail {
  int64_t buckets = 800;  // of a curve, for the script
  int64_t points = 300;   // of a curve, as drawn
  int64_t rows = 500;     // of a sweep's table
  int64_t charts = 200;
  int64_t keys = 1000;  // of a configuration
};

struct Color {
  double red = 0;
  double green = 0;
  double blue = 0;
};

// A scale that is dark at 0 and light at 1, rises evenly and can be told apart by everybody.
std::string ScaleColor(double place) {
  constexpr std::array<Color, 11> kScale = {{{0, 0, 4},
                                             {20, 14, 54},
                                             {59, 15, 112},
                                             {100, 26, 128},
                                             {140, 41, 129},
                                             {183, 55, 121},
                                             {222, 73, 104},
                                             {247, 112, 92},
                                             {254, 159, 109},
                                             {254, 207, 146},
                                             {252, 253, 191}}};
  const double at = std::clamp(place, 0.0, 1.0) * (kScale.size() - 1);
  const size_t below = std::min(static_cast<size_t>(at), kScale.size() - 2);
  const double share = at - static_cast<double>(below);
  const auto mix = [&](double Color::*part) {
    const double from = kScale[below].*part;
    return static_cast<int>(std::lround(from + share * (kScale[below + 1].*part - from)));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(&Color::red), mix(&Color::green),
                     mix(&Color::blue));
}

// A colour for each run: of the palette where they are few, else on a scale by their place.
std::string RunColors(size_t runs, bool is_dark) {
  std::string style;
  for (size_t i = 0; i < runs; ++i) {
    const double place =
        static_cast<double>(i) / static_cast<double>(std::max<size_t>(1, runs - 1));
    const std::string color = runs <= kPaletteSize
                                  ? fmt::format("var(--s{})", i)
                                  : ScaleColor(is_dark ? 0.96 - 0.58 * place : 0.14 + 0.7 * place);
    style += fmt::format("--r{}:{};", i, color);
  }
  return style;
}

std::string Colors(size_t runs) {
  const std::string light = fmt::format("{}{}", PageColors(false), RunColors(runs, false));
  const std::string dark = fmt::format("{}{}", PageColors(true), RunColors(runs, true));
  return fmt::format(
      ":root{{{0}}}\n@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{1}}}}}\n"
      ":root[data-theme=dark]{{{1}}}\n@media print{{:root,:root[data-theme],"
      ":root:not([data-theme=light]){{{0}}}}}\n",
      light, dark);
}

std::string Figure(const Chart& chart, size_t index, int64_t points) {
  std::string keys;
  const bool is_of_metrics = chart.curves[0].color.starts_with("--s");
  for (size_t i = 0; is_of_metrics && chart.curves.size() > 1 && i < chart.curves.size(); ++i) {
    keys += fmt::format(
        "<button type=\"button\" class=\"key\" data-curve=\"{}\" "
        "aria-pressed=\"true\"><i class=\"swatch\" style=\"background:var({})\"></i>"
        "{}</button>",
        i, chart.curves[i].color, EscapeHtml(Shortened(chart.curves[i].label, 60)));
  }
  std::string html = fmt::format(
      "<figure class=\"chart{}\" data-chart=\"{}\"><figcaption><b>{}</b><span class=\"unit\">{}"
      "</span><span class=\"keys\">{}</span></figcaption><div class=\"plot\">{}</div>",
      chart.is_wide ? " wide" : "", index, EscapeHtml(Shortened(chart.title, 120)),
      EscapeHtml(chart.unit), keys, ChartSvg(chart, index, points));
  if (chart.left_out > 0) {
    html += fmt::format("<p class=\"note\">{} further metrics of this kind are in log.jsonl.</p>",
                        chart.left_out);
  }
  return html + "</figure>\n";
}

std::string ChartSections(const std::vector<Chart>& charts, const Detail& detail) {
  std::string html;
  for (size_t i = 0; i < charts.size();) {
    const size_t first = i;
    const std::string& section = charts[i].section;
    std::string figures;
    for (; i < charts.size() && charts[i].section == section; ++i) {
      figures += Figure(charts[i], i, detail.points);
    }
    const bool is_in_threes = (i - first) % 3 == 0 && !charts[first].is_wide;
    html += Section(section, fmt::format("<div class=\"charts{}\">\n{}</div>\n",
                                         is_in_threes ? " three" : "", figures));
  }
  return html;
}

std::string Controls(const RunList& runs, const std::string& labels) {
  constexpr size_t kMostChips = 12;
  std::string chips;
  for (size_t i = 0; runs.size() > 1 && runs.size() <= kMostChips && i < runs.size(); ++i) {
    chips += fmt::format(
        "<label class=\"chip\"><input type=\"checkbox\" checked data-run=\"{0}\"><i "
        "class=\"swatch\" style=\"background:var(--r{0})\"></i><bdi>{1}</bdi></label>",
        i, EscapeHtml(Shortened(runs[i]->label, 40)));
  }
  if (!chips.empty() && !labels.empty()) {
    chips = fmt::format("<span>{}:</span>{}", EscapeHtml(Shortened(labels, 100)), chips);
  }
  return fmt::format(
      "<div id=\"controls\"><label>Horizontal axis <select id=\"along\"><option "
      "value=\"step\">steps"
      "</option></select></label><label>Smoothing <input id=\"smoothing\" type=\"range\" min=\"0\" "
      "max=\"6\" step=\"1\" value=\"2\"><output id=\"smoothed\"></output></label>"
      "<button type=\"button\" id=\"whole\" hidden>Whole run</button>"
      "<span class=\"chips\">{}</span></div>\n",
      chips);
}

std::string DataScript(const RunList& runs, const std::vector<Chart>& charts,
                       const Detail& detail) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < runs.size(); ++i) {
    parts.push_back(fmt::format("{{\"name\":{},\"tokens\":{}}}",
                                ScriptString(Shortened(runs[i]->label, 120)),
                                runs[i]->step_tokens.value_or(0)));
  }
  return fmt::format(
      "<script type=\"application/json\" id=\"data\">\n{{\"runs\":[{}],\n{}}}\n</script>\n",
      fmt::join(parts, ",\n"), ChartsJson(charts, detail.buckets));
}

// Between head and end of the page.
struct Body {
  std::string title;
  std::string labels;  // what the runs' labels are values of; "" where they are names
  std::string top;     // behind the heading: what is known at a glance
  std::string bottom;  // behind the charts
};

std::string Page(const Body& body, const RunList& runs, size_t colors, const Detail& detail) {
  std::vector<Chart> charts = MakeCharts(runs);
  const int64_t left_out = std::ssize(charts) - detail.charts;
  if (left_out > 0) charts.resize(static_cast<size_t>(detail.charts));
  std::string html = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  html += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  html += "<meta name=\"color-scheme\" content=\"light dark\">\n";
  // Nothing is fetched, whatever a file's text tries.
  html +=
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n";
  html += "<link rel=\"icon\" href=\"data:,\">\n";
  html += fmt::format("<title>{}</title>\n<style>\n{}{}</style>\n</head>\n<body>\n",
                      EscapeHtml(Shortened(body.title, 200)), Colors(colors), PageStyle());
  html += fmt::format(
      "<header><h1><bdi>{}</bdi></h1><button type=\"button\" id=\"theme\" hidden>"
      "</button></header>\n<main>\n{}",
      EscapeHtml(Shortened(body.title, 200)), body.top);
  if (!charts.empty()) html += Controls(runs, body.labels);
  html += ChartSections(charts, detail);
  if (left_out > 0)
    html += fmt::format("<p class=\"note\">{} charts found no room.</p>\n", left_out);
  html += body.bottom;
  html += "</main>\n<div id=\"tip\" hidden></div>\n";
  html += DataScript(runs, charts, detail);
  html +=
      fmt::format("<script>\n{}{}</script>\n</body>\n</html>\n", PageChartScript(), PageScript());
  return html;
}

// Renders with less and less detail until the page is small enough.
template <typename Render>
std::string Fit(const Render& render) {
  Detail detail;
  std::string html = render(detail);
  while (std::ssize(html) > kMostReportBytes && detail.buckets > 8) {
    detail = {.buckets = detail.buckets / 2,
              .points = std::max<int64_t>(16, detail.points * 2 / 3),
              .rows = std::max<int64_t>(40, detail.rows * 2 / 3),
              // Files that nobody's run wrote: at last few charts and no configuration.
              .charts = detail.buckets > 50 ? detail.charts : detail.charts / 2,
              .keys = detail.buckets > 200 ? detail.keys : detail.keys / 4};
    html = render(detail);
  }
  CHECK(std::ssize(html) <= kMostReportBytes, "a report of {} bytes", html.size());
  return html;
}

std::string FoldersNote(const std::vector<std::string>& folders) {
  std::vector<std::string> shown;
  for (const std::string& folder : folders) {
    if (shown.size() < kPaletteSize) {
      shown.push_back(fmt::format("<code>{}</code>", EscapeHtml(Shortened(folder, 200))));
    }
  }
  return fmt::format(
      "<footer>Made by <code>hearth report</code> from {}. Curves of many records show "
      "their mean, and as a band their lowest and highest value.</footer>\n",
      fmt::join(shown, ", "));
}

std::string SweepTop(const SweepData& sweep, int64_t most_rows) {
  std::array<int64_t, kRunStates> counts{};
  for (const SweepRunData& each : sweep.runs) ++counts[static_cast<size_t>(each.run.state)];
  std::vector<std::string> states;
  for (size_t state = 0; state < counts.size(); ++state) {
    if (counts[state] == 0) continue;
    states.push_back(fmt::format("{} {}", counts[state], StateText(static_cast<RunState>(state))));
  }
  std::string html = fmt::format(
      "<p class=\"sub\"><span>{} runs: {}. Sorted by <code>{}</code>, {} first.</span></p>\n",
      sweep.runs.size(), fmt::join(states, ", "), EscapeHtml(sweep.metric),
      sweep.minimize ? "lowest" : "highest");
  const SweepRunData& best = sweep.runs[0];
  if (best.value) {
    std::vector<std::string> values;
    for (size_t i = 0; i < sweep.keys.size() && i < kPaletteSize; ++i) {
      values.push_back(fmt::format("<code>{} {}</code>",
                                   EscapeHtml(ShortKeyName(sweep.keys, sweep.keys[i])),
                                   EscapeHtml(Shortened(best.run.ConfigValue(sweep.keys[i]), 60))));
    }
    html += fmt::format("<p class=\"best\">Best: <b>{:.6g}</b> with {}</p>\n", *best.value,
                        fmt::join(values, ", "));
  }
  return html + Section("Runs", SweepTable(sweep, most_rows));
}

std::string RunsTop(const RunList& runs, const Detail& detail) {
  if (runs.size() == 1) return DescribeRun(*runs[0]) + SummaryTiles(*runs[0]);
  std::vector<std::string> keys = DifferingKeys(runs);
  const bool is_few = runs.size() <= kPaletteSize;
  std::string html = Section("Runs", RunsTable(runs, is_few ? std::vector<std::string>() : keys));
  if (keys.empty()) return html + "<p class=\"note\">Their configurations are the same.</p>\n";
  const size_t most = std::min<size_t>(200, static_cast<size_t>(detail.keys));
  if (keys.size() > most) keys.resize(most);
  return html + (is_few ? Section("Configuration differences", DifferencesTable(runs, keys)) : "");
}

}  // namespace

std::string RunReport(const std::vector<RunData>& runs) {
  CHECK(!runs.empty() && std::ssize(runs) <= kMostReportCurves, "a report of {} runs", runs.size());
  RunList list;
  std::vector<std::string> folders;
  std::vector<std::string> names;
  for (const RunData& run : runs) {
    list.push_back(&run);
    folders.push_back(run.folder.string());
    names.push_back(run.name);
  }
  return Fit([&](const Detail& detail) {
    Body body{.title = fmt::format("{}", fmt::join(names, ", ")), .top = RunsTop(list, detail)};
    body.bottom = Section("Memory of rank 0", MemorySection(list)) +
                  Section("Configuration", ConfigurationSection(list, detail.keys)) +
                  Section("Events", EventsSection(list)) +
                  Section("Remarks", RemarksSection(list, {})) + FoldersNote(folders);
    return Page(body, list, list.size(), detail);
  });
}

std::string SweepReport(const SweepData& sweep) {
  RunList curves;
  RunList all;
  for (const SweepRunData& each : sweep.runs) {
    all.push_back(&each.run);
    if (std::ssize(curves) < kMostReportCurves) curves.push_back(&each.run);
  }
  return Fit([&](const Detail& detail) {
    Body body{.title = fmt::format("Sweep {}", sweep.name)};
    const std::string figures = ParameterFigures(sweep, detail.rows);
    body.top = SweepTop(sweep, detail.rows);
    if (sweep.has_value_labels) {
      std::vector<std::string> keys;
      for (const std::string& key : sweep.keys) keys.push_back(ShortKeyName(sweep.keys, key));
      body.labels = fmt::format("{}", fmt::join(keys, ", "));
    }
    if (!figures.empty()) {
      body.top += Section("Parameters", fmt::format("<div class=\"charts\">{}</div>\n", figures));
    }
    body.bottom = Section("Memory of rank 0", MemorySection(curves)) +
                  Section("Configuration", ConfigurationSection(curves, detail.keys)) +
                  Section("Events", EventsSection(curves)) +
                  Section("Remarks", RemarksSection(all, sweep.remarks)) +
                  FoldersNote({sweep.folder.string()});
    return Page(body, curves, std::min<size_t>(sweep.runs.size(), static_cast<size_t>(detail.rows)),
                detail);
  });
}

}  // namespace hearth
