#include "runtime/report/sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>

#include "runtime/report/html_table.h"
#include "runtime/report/html_text.h"
#include "runtime/telemetry/units.h"

namespace hearth {

namespace {

constexpr size_t kMostKeyColumns = 12;
constexpr int64_t kCellBytes = 60;
constexpr size_t kMostEventRows = 300;
constexpr size_t kMostConfigurations = 8;
constexpr size_t kMostRemarks = 100;
constexpr size_t kPaletteSize = 8;

std::optional<double> LastOf(const RunData& run, const std::string& metric) {
  const Series* series = run.Find(metric);
  return series == nullptr ? std::nullopt : series->last();
}

std::optional<double> MedianOf(const RunData& run, const std::string& metric) {
  const Series* series = run.Find(metric);
  return series == nullptr ? std::nullopt : series->Median();
}

std::optional<int64_t> MostBytes(const RunData& run, const std::string& metric) {
  const Series* series = run.Find(metric);
  if (series == nullptr || series->count() == 0 || !(std::abs(series->Max()) < 9e18)) {
    return std::nullopt;
  }
  return static_cast<int64_t>(series->Max());
}

std::optional<int64_t> PlannedBytes(const RunData& run, std::string_view tier) {
  std::optional<int64_t> sum;
  for (const PlannedPool& pool : run.pools) {
    if (pool.tier == tier && pool.bytes < (int64_t{1} << 60) - sum.value_or(0)) {
      sum = sum.value_or(0) + pool.bytes;
    }
  }
  return sum;
}

std::string Percent(const std::optional<double>& fraction) {
  return fraction ? fmt::format("{:.1f} %", 100 * *fraction) : "";
}

std::string Tile(std::string_view name, const std::string& value, const std::string& note) {
  if (value.empty()) return "";
  return fmt::format("<div class=\"tile\"><dt>{}</dt><dd>{}</dd>{}</div>\n", name, value,
                     note.empty() ? "" : fmt::format("<p>{}</p>", note));
}

// The sum of the logged steps' times, for those in between as well.
std::string TrainingTime(const RunData& run) {
  const Series* series = run.Find("train/step_time_ms/total");
  if (series == nullptr || series->count() == 0) return "";
  double milliseconds = 0;
  int64_t before = 0;
  for (const SeriesBucket& bucket : series->buckets()) {
    if (bucket.count == 0) continue;
    milliseconds += bucket.Mean() * static_cast<double>(bucket.last_step - before);
    before = bucket.last_step;
  }
  return FormatDuration(milliseconds / 1e3);
}

std::string OffBy(const std::optional<int64_t>& predicted, const std::optional<int64_t>& measured) {
  if (!predicted || !measured || *predicted == 0) return "";
  return fmt::format("{:+.1f} %",
                     100 * (static_cast<double>(*measured) / static_cast<double>(*predicted) - 1));
}

std::vector<std::string> TiersOf(const RunData& run) {
  std::vector<std::string> tiers;
  for (const PlannedPool& pool : run.pools) {
    if (std::find(tiers.begin(), tiers.end(), pool.tier) == tiers.end()) tiers.push_back(pool.tier);
  }
  for (const char* tier : {"device", "host", "ssd"}) {
    const bool is_known = std::find(tiers.begin(), tiers.end(), tier) != tiers.end();
    if (!is_known && MostBytes(run, fmt::format("mem/{}", tier))) tiers.push_back(tier);
  }
  return tiers;
}

// A tier: what the plan puts there as parts of a bar, and the peak that was measured below it.
std::string MemoryBars(const RunData& run, const std::string& tier) {
  const std::optional<int64_t> predicted = PlannedBytes(run, tier);
  const std::optional<int64_t> measured = MostBytes(run, fmt::format("mem/{}", tier));
  const auto longest =
      static_cast<double>(std::max<int64_t>({1, predicted.value_or(0), measured.value_or(0)}));
  std::vector<PlannedPool> pools;
  for (const PlannedPool& pool : run.pools) {
    if (pool.tier == tier && pool.bytes > 0) pools.push_back(pool);
  }
  std::stable_sort(pools.begin(), pools.end(),
                   [](const PlannedPool& a, const PlannedPool& b) { return a.bytes > b.bytes; });
  std::string parts;
  HtmlTable table{.headings = {"", "planned for", "bytes", "share"}, .classes = "pools"};
  for (size_t i = 0; i < pools.size(); ++i) {
    const double bytes = static_cast<double>(pools[i].bytes);
    // The largest have colours of their own; the rest is grey.
    const std::string color = i < kPaletteSize - 1 ? fmt::format("--s{}", i) : "--rest";
    parts += fmt::format("<i style=\"width:{:.3f}%;background:var({})\" title=\"{}: {}\"></i>",
                         100 * bytes / longest, color, EscapeHtml(Shortened(pools[i].name, 60)),
                         FormatBytes(pools[i].bytes));
    table.rows.push_back(
        {{.html = fmt::format("<i class=\"swatch\" style=\"background:var({})\"></i>", color)},
         TextCell(pools[i].name),
         BytesCell(pools[i].bytes),
         {.html = fmt::format("{:.1f} %", 100 * bytes / longest), .value = bytes}});
  }
  std::string html = fmt::format("<div class=\"tier\"><h3>{}</h3>", EscapeHtml(tier));
  if (predicted) {
    html += fmt::format(
        "<p class=\"bar\"><span>predicted <b>{}</b></span><span class=\"track\">{}"
        "</span></p>",
        FormatBytes(*predicted), parts);
  }
  if (measured) {
    const std::string off = OffBy(predicted, measured);
    html += fmt::format(
        "<p class=\"bar\"><span>measured <b>{}</b>{}</span><span class=\"track\">"
        "<i class=\"measured\" style=\"width:{:.3f}%\"></i></span></p>",
        FormatBytes(*measured), off.empty() ? "" : fmt::format(" ({})", off),
        100 * static_cast<double>(*measured) / longest);
  }
  if (!pools.empty()) {
    html += fmt::format("<details><summary>{} part{}</summary>{}</details>", pools.size(),
                        pools.size() == 1 ? "" : "s", ToHtml(table));
  }
  return html + "</div>";
}

std::string LeavesTable(const std::vector<ConfigLeaf>& leaves, int64_t most_keys) {
  HtmlTable table{.headings = {"key", "value", "from"}, .classes = "leaves from"};
  for (const ConfigLeaf& leaf : leaves) {
    if (std::ssize(table.rows) >= most_keys) break;
    table.rows.push_back(
        {CodeCell(leaf.path, 120), CodeCell(leaf.value), TextCell(leaf.origin, 200)});
    table.row_attributes.emplace_back(leaf.origin == "default" ? "class=\"default\"" : "");
  }
  return ToHtml(table);
}

std::string ConfigurationOf(const RunData& run, bool is_only, int64_t most_keys) {
  std::vector<ConfigLeaf> set;
  for (const ConfigLeaf& leaf : run.config) {
    if (leaf.origin != "default") set.push_back(leaf);
  }
  std::string html;
  if (is_only && !set.empty() && set.size() < run.config.size())
    html += LeavesTable(set, most_keys);
  if (!run.config.empty()) {
    html += fmt::format("<details><summary>{} {} keys</summary>{}</details>",
                        is_only ? "All" : EscapeHtml(Shortened(run.name, 80)) + ":",
                        run.config.size(), LeavesTable(run.config, most_keys));
  }
  if (is_only && !run.plan.empty()) {
    html += fmt::format("<details><summary>What the plan settled</summary>{}</details>",
                        LeavesTable(run.plan, most_keys));
  }
  return html;
}

// The switch, the colour and the name of a run in a table.
HtmlCell RunCell(const RunData& run, size_t index, bool has_curves) {
  std::string html;
  if (has_curves) {
    html = fmt::format(
        "<label><input type=\"checkbox\" checked data-run=\"{0}\"><i class=\"swatch\" "
        "style=\"background:var(--r{0})\"></i>",
        index);
  }
  html += fmt::format("<bdi>{}</bdi>", EscapeHtml(Shortened(run.name, 80)));
  return {.html = html + (has_curves ? "</label>" : "")};
}

std::vector<std::string> ShownKeys(const std::vector<std::string>& keys) {
  std::vector<std::string> shown = keys;
  if (shown.size() > kMostKeyColumns) shown.resize(kMostKeyColumns);
  return shown;
}

// Cells that every table of runs has behind the run's name.
void AppendFigures(const RunData& run, int64_t step, std::vector<HtmlCell>* row) {
  row->push_back({.html = StateBadge(run.state)});
  row->push_back(CountCell(step));
}

void AppendSpeed(const RunData& run, std::vector<HtmlCell>* row) {
  const std::optional<double> speed = MedianOf(run, "train/tokens_per_second");
  row->push_back(speed ? HtmlCell{.html = FormatCount(*speed), .value = speed} : HtmlCell{});
  const std::optional<double> mfu = MedianOf(run, "train/mfu");
  row->push_back({.html = Percent(mfu), .value = mfu});
  row->push_back(BytesCell(MostBytes(run, "mem/device")));
}

void AppendKeys(const RunData& run, const std::vector<std::string>& keys,
                std::vector<HtmlCell>* row) {
  for (const std::string& key : keys) row->push_back(CodeCell(run.ConfigValue(key), kCellBytes));
}

}  // namespace

std::string Section(std::string_view title, const std::string& body) {
  if (body.empty()) return "";
  std::string anchor;
  for (const char c : title) {
    anchor += std::isalnum(static_cast<uint8_t>(c)) != 0
                  ? static_cast<char>(std::tolower(static_cast<uint8_t>(c)))
                  : '-';
  }
  return fmt::format("<section id=\"{}\"><h2>{}</h2>\n{}</section>\n", anchor, EscapeHtml(title),
                     body);
}

std::string StateBadge(RunState state) {
  const char* kind = "quiet";
  if (state == RunState::kFinished) kind = "good";
  if (state == RunState::kRunning) kind = "live";
  if (state == RunState::kDiverged || state == RunState::kFailed) kind = "bad";
  return fmt::format("<span class=\"badge {}\">{}</span>", kind, StateText(state));
}

std::string DescribeRun(const RunData& run) {
  std::vector<std::string> parts = {StateBadge(run.state)};
  for (const std::string& text : {run.machine, run.ConfigValue("model.name_or_path"),
                                  run.ConfigValue("precision.compute_dtype")}) {
    if (!text.empty())
      parts.push_back(fmt::format("<span>{}</span>", EscapeHtml(Shortened(text, 200))));
  }
  std::string html = fmt::format("<p class=\"sub\">{}</p>\n", fmt::join(parts, " "));
  if (!run.message.empty()) {
    html += fmt::format("<p class=\"problem\">{}</p>\n", EscapeHtml(Shortened(run.message, 600)));
  }
  return html;
}

std::string SummaryTiles(const RunData& run) {
  const auto number = [](const std::optional<double>& value) {
    return value ? fmt::format("{:.5g}", *value) : std::string();
  };
  const auto lowest = [&](const char* metric) {
    const Series* series = run.Find(metric);
    if (series == nullptr || !series->Lowest()) return std::string();
    return fmt::format("lowest {:.5g} at step {}", series->Lowest()->min,
                       GroupedInteger(series->Lowest()->first_step));
  };
  std::vector<std::string> progress;
  if (run.total_steps) progress.push_back(fmt::format("of {}", GroupedInteger(*run.total_steps)));
  if (!TrainingTime(run).empty()) progress.push_back(TrainingTime(run) + " spent in steps");
  std::string html = Tile("Steps", run.last_step > 0 ? GroupedInteger(run.last_step) : "",
                          fmt::format("{}", fmt::join(progress, ", ")));
  html += Tile("Evaluation loss", number(LastOf(run, "eval/loss")), lowest("eval/loss"));
  html += Tile("Training loss", number(LastOf(run, "train/loss")), lowest("train/loss"));
  const std::optional<double> speed = MedianOf(run, "train/tokens_per_second");
  html += Tile("Tokens per second", speed ? FormatCount(*speed) : "", "median of the logged steps");
  const std::optional<double> took = LastOf(run, "plan/measured_step_ms");
  const std::optional<double> planned = LastOf(run, "plan/predicted_step_ms");
  html += Tile("Step time", took ? fmt::format("{:.1f} ms", *took) : "",
               planned && *planned > 0 ? fmt::format("{:.1f} ms predicted ({:+.1f} %)", *planned,
                                                     100 * (took.value_or(*planned) / *planned - 1))
                                       : "");
  const std::optional<double> sol = MedianOf(run, "train/sol");
  const std::optional<double> mfu = MedianOf(run, "train/mfu");
  html += Tile("Speed of light", Percent(sol), mfu ? fmt::format("MFU {}", Percent(mfu)) : "");
  const std::optional<int64_t> device = MostBytes(run, "mem/device");
  const std::string off = OffBy(PlannedBytes(run, "device"), device);
  html += Tile("Device memory", device ? FormatBytes(*device) : "",
               off.empty() ? "" : fmt::format("{} of the prediction", off));
  return html.empty() ? "" : fmt::format("<dl class=\"tiles\">\n{}</dl>\n", html);
}

std::string RunsTable(const RunList& runs, const std::vector<std::string>& keys) {
  const std::vector<std::string> shown = ShownKeys(keys);
  HtmlTable table{.headings = {"run", "state", "step", "training loss", "evaluation loss",
                               "lowest evaluation", "tokens/s", "MFU", "device memory"},
                  .classes = "runs",
                  .is_sortable = true};
  for (const std::string& key : shown) table.headings.push_back(ShortKeyName(keys, key));
  table.headings.emplace_back("machine");
  for (size_t i = 0; i < runs.size(); ++i) {
    const RunData& run = *runs[i];
    std::vector<HtmlCell> row = {RunCell(run, i, true)};
    AppendFigures(run, run.last_step, &row);
    row.push_back(NumberCell(LastOf(run, "train/loss")));
    row.push_back(NumberCell(LastOf(run, "eval/loss")));
    const Series* eval = run.Find("eval/loss");
    row.push_back(NumberCell(eval != nullptr && eval->Lowest() ? std::optional(eval->Lowest()->min)
                                                               : std::nullopt));
    AppendSpeed(run, &row);
    AppendKeys(run, shown, &row);
    row.push_back(TextCell(run.machine, 80));
    table.rows.push_back(std::move(row));
    table.row_attributes.push_back(fmt::format("data-run=\"{}\"", i));
  }
  return ToHtml(table);
}

std::string SweepTable(const SweepData& sweep, int64_t most_rows) {
  const std::vector<std::string> shown = ShownKeys(sweep.keys);
  HtmlTable table{
      .headings = {"run", sweep.metric, "state", "step"}, .classes = "runs", .is_sortable = true};
  for (const std::string& key : shown) table.headings.push_back(ShortKeyName(sweep.keys, key));
  for (const char* heading : {"training loss", "tokens/s", "MFU", "device memory"}) {
    table.headings.emplace_back(heading);
  }
  for (size_t i = 0; i < sweep.runs.size() && static_cast<int64_t>(i) < most_rows; ++i) {
    const SweepRunData& each = sweep.runs[i];
    std::vector<HtmlCell> row = {RunCell(each.run, i, !each.run.series.empty())};
    row.push_back(NumberCell(each.value));
    AppendFigures(each.run, each.step, &row);
    AppendKeys(each.run, shown, &row);
    row.push_back(NumberCell(LastOf(each.run, "train/loss")));
    AppendSpeed(each.run, &row);
    table.rows.push_back(std::move(row));
    table.row_attributes.push_back(fmt::format("data-run=\"{}\"", i));
  }
  const int64_t more = std::ssize(sweep.runs) - most_rows;
  return ToHtml(table) +
         (more > 0 ? fmt::format("<p class=\"note\">{} further runs are in results.csv.</p>\n",
                                 GroupedInteger(more))
                   : "");
}

std::string DifferencesTable(const RunList& runs, const std::vector<std::string>& keys) {
  if (keys.empty()) return "";
  HtmlTable table{.headings = {"key"}, .classes = "leaves"};
  for (const RunData* run : runs) table.headings.push_back(Shortened(run->name, 80));
  for (const std::string& key : keys) {
    std::vector<HtmlCell> row = {CodeCell(key, 120)};
    for (const RunData* run : runs) row.push_back(CodeCell(run->ConfigValue(key), 200));
    table.rows.push_back(std::move(row));
  }
  return ToHtml(table);
}

std::string MemorySection(const RunList& runs) {
  if (runs.size() == 1) {
    std::string html;
    for (const std::string& tier : TiersOf(*runs[0])) html += MemoryBars(*runs[0], tier);
    return html.empty() ? "" : fmt::format("<div class=\"tiers\">{}</div>\n", html);
  }
  HtmlTable table{.headings = {"run"}, .is_sortable = true};
  for (const char* tier : {"device", "host", "ssd"}) {
    table.headings.push_back(fmt::format("{}, predicted", tier));
    table.headings.push_back(fmt::format("{}, measured", tier));
    table.headings.emplace_back("off by");
  }
  bool has_any = false;
  for (const RunData* run : runs) {
    std::vector<HtmlCell> row = {TextCell(run->name, 80)};
    for (const char* tier : {"device", "host", "ssd"}) {
      const std::optional<int64_t> predicted = PlannedBytes(*run, tier);
      const std::optional<int64_t> measured = MostBytes(*run, fmt::format("mem/{}", tier));
      has_any |= predicted || measured;
      row.push_back(BytesCell(predicted));
      row.push_back(BytesCell(measured));
      row.push_back(TextCell(OffBy(predicted, measured)));
    }
    table.rows.push_back(std::move(row));
  }
  return has_any ? ToHtml(table) : "";
}

std::string ConfigurationSection(const RunList& runs, int64_t most_keys) {
  std::string html;
  for (size_t i = 0; i < runs.size() && i < kMostConfigurations; ++i) {
    html += ConfigurationOf(*runs[i], runs.size() == 1, most_keys);
  }
  if (runs.size() > kMostConfigurations) {
    html += fmt::format(
        "<p class=\"note\">The configurations of {} further runs are in their "
        "folders.</p>\n",
        runs.size() - kMostConfigurations);
  }
  return html;
}

std::string EventsSection(const RunList& runs) {
  HtmlTable table{.headings = {runs.size() > 1 ? "run" : "", "step", "event"}, .classes = "events"};
  size_t left_out = 0;
  for (const RunData* run : runs) {
    for (const RunEvent& event : run->events) {
      if (table.rows.size() >= kMostEventRows) {
        ++left_out;
        continue;
      }
      table.rows.push_back({runs.size() > 1 ? TextCell(run->name, 80) : HtmlCell{},
                            event.step ? CountCell(*event.step) : HtmlCell{},
                            TextCell(event.text, 400)});
      table.row_attributes.emplace_back(event.is_problem ? "class=\"problem\"" : "");
    }
  }
  if (table.rows.empty()) return "";
  return ToHtml(table) +
         (left_out > 0 ? fmt::format("<p class=\"note\">{} further events.</p>\n", left_out) : "");
}

std::string RemarksSection(const RunList& runs, const std::vector<std::string>& more) {
  // The same remark about several runs is made once.
  std::map<std::string, std::vector<std::string>> remarks;
  std::vector<std::string> order;
  for (const RunData* run : runs) {
    for (const std::string& remark : run->remarks) {
      std::vector<std::string>& names = remarks[remark];
      if (names.empty()) order.push_back(remark);
      names.push_back(run->name);
    }
  }
  std::string html;
  for (const std::string& remark : more) html += fmt::format("<li>{}</li>\n", EscapeHtml(remark));
  if (order.size() > kMostRemarks) order.resize(kMostRemarks);
  for (const std::string& remark : order) {
    std::vector<std::string>& names = remarks[remark];
    const size_t count = names.size();
    if (names.size() > 4) names = {names[0], names[1], fmt::format("{} more", count - 2)};
    const std::string who =
        runs.size() > 1 ? Shortened(fmt::format("{}: ", fmt::join(names, ", ")), 300) : "";
    html += fmt::format("<li>{}{}</li>\n", EscapeHtml(who), EscapeHtml(Shortened(remark, 600)));
  }
  return html.empty() ? "" : fmt::format("<ul>\n{}</ul>\n", html);
}

std::string ShortKeyName(const std::vector<std::string>& keys, const std::string& key) {
  const auto leaf = [](const std::string& path) { return path.substr(path.rfind('.') + 1); };
  const auto alike = std::count_if(
      keys.begin(), keys.end(), [&](const std::string& other) { return leaf(other) == leaf(key); });
  return alike > 1 ? key : leaf(key);
}

}  // namespace hearth
