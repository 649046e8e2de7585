#include "launcher/sweep_results.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "launcher/sweep_stopping.h"
#include "runtime/config/scalar_text.h"
#include "runtime/config/sweep_runs.h"
#include "runtime/telemetry/step_record.h"

namespace hearth {

namespace {

constexpr int64_t kTerminalRows = 30;

using Cells = std::vector<std::string>;

std::string ValueText(const std::optional<double>& value) {
  return value ? fmt::format("{}", *value) : "";
}

// A key's value as JSON has it: a number where it is one.
StepValue JsonValue(const std::string& text) {
  if (const auto integer = ParseInteger(text).value) return *integer;
  if (const auto number = ParseNumber(text).value) return *number;
  return text;
}

// Fewer digits, for people.
std::string ShortValue(const std::optional<double>& value) {
  return value ? fmt::format("{:.6g}", *value) : "";
}

std::string CsvField(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string CsvLine(const Cells& cells) {
  Cells fields;
  for (const std::string& cell : cells) fields.push_back(CsvField(cell));
  return fmt::format("{}\n", fmt::join(fields, ","));
}

std::string MarkdownCell(const std::string& text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|') cell += '\\';
    cell += c == '\n' ? ' ' : c;
  }
  return cell;
}

std::string MarkdownTable(const std::vector<Cells>& rows) {
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) {
    Cells cells;
    for (const std::string& cell : rows[i]) cells.push_back(MarkdownCell(cell));
    text += fmt::format("| {} |\n", fmt::join(cells, " | "));
    if (i == 0) text += fmt::format("|{}\n", fmt::join(Cells(cells.size(), "---|"), ""));
  }
  return text;
}

Cells ShortKeys(const std::vector<std::string>& keys) {
  Cells names;
  for (const std::string& key : keys) names.push_back(ShortKey(keys, key));
  return names;
}

// The heading, then a row for each run.
std::vector<Cells> PeopleRows(const ResultTable& table) {
  Cells heading = {"run", table.metric, "step", "state"};
  for (const std::string& name : ShortKeys(table.keys)) heading.push_back(name);
  std::vector<Cells> rows = {heading};
  for (const ResultRow& row : table.rows) {
    Cells cells = {row.id, ShortValue(row.outcome.value), fmt::format("{}", row.outcome.step),
                   StateWords(row.outcome.state)};
    cells.insert(cells.end(), row.values.begin(), row.values.end());
    rows.push_back(std::move(cells));
  }
  return rows;
}

std::string SeedTable(const ResultTable& table) {
  const auto seed = std::find(table.keys.begin(), table.keys.end(), "seed");
  if (seed == table.keys.end() || table.keys.size() < 2) return "";
  const auto index = seed - table.keys.begin();
  std::map<Cells, std::vector<double>> metrics;
  for (const ResultRow& row : table.rows) {
    if (row.outcome.state != RunEndState::kFinished || !row.outcome.value) continue;
    Cells values = row.values;
    values.erase(values.begin() + index);
    metrics[values].push_back(*row.outcome.value);
  }
  struct Line {
    double mean = 0;
    Cells cells;
  };
  std::vector<Line> lines;
  for (const auto& [values, group] : metrics) {
    double sum = 0;
    for (const double value : group) sum += value;
    const double mean = sum / static_cast<double>(group.size());
    double squares = 0;
    for (const double value : group) squares += (value - mean) * (value - mean);
    const double deviation =
        group.size() > 1 ? std::sqrt(squares / static_cast<double>(group.size() - 1)) : 0;
    Line line{.mean = mean,
              .cells = {fmt::format("{:.6g}", mean), fmt::format("{:.2g}", deviation),
                        fmt::format("{}", group.size())}};
    line.cells.insert(line.cells.end(), values.begin(), values.end());
    lines.push_back(std::move(line));
  }
  std::stable_sort(lines.begin(), lines.end(), [&](const Line& a, const Line& b) {
    return IsWorse(b.mean, a.mean, table.goal);
  });
  Cells heading = {fmt::format("mean {}", table.metric), "standard deviation", "seeds"};
  std::vector<std::string> others = table.keys;
  others.erase(others.begin() + index);
  for (const std::string& name : ShortKeys(others)) heading.push_back(name);
  std::vector<Cells> rows = {heading};
  for (const Line& line : lines) rows.push_back(line.cells);
  return lines.empty() ? "" : "\n## Over the seeds\nFinished runs only.\n\n" + MarkdownTable(rows);
}

}  // namespace

void SortRows(ResultTable* table) {
  const auto worth = [&](const ResultRow& row) {
    const double value = row.outcome.value.value_or(std::numeric_limits<double>::quiet_NaN());
    return std::isfinite(value) ? value : std::numeric_limits<double>::quiet_NaN();
  };
  std::stable_sort(table->rows.begin(), table->rows.end(),
                   [&](const ResultRow& a, const ResultRow& b) {
                     return IsWorse(worth(b), worth(a), table->goal);
                   });
}

std::string ToJsonLines(const ResultTable& table) {
  std::string text;
  for (const ResultRow& row : table.rows) {
    StepRecord record{.step = row.outcome.step, .values = {}};
    record.Set("run", row.id);
    record.Set("state", std::string(Name(row.outcome.state)));
    if (row.outcome.value) record.Set(table.metric, *row.outcome.value);
    for (size_t i = 0; i < table.keys.size(); ++i) {
      record.Set(table.keys[i], JsonValue(row.values[i]));
    }
    if (!row.outcome.message.empty()) record.Set("message", row.outcome.message);
    text += ToJson(record) + "\n";
  }
  return text;
}

std::string ToCsv(const ResultTable& table) {
  Cells heading = {"run", "state", "step", table.metric};
  heading.insert(heading.end(), table.keys.begin(), table.keys.end());
  heading.push_back("message");
  std::string text = CsvLine(heading);
  for (const ResultRow& row : table.rows) {
    Cells cells = {row.id, std::string(Name(row.outcome.state)),
                   fmt::format("{}", row.outcome.step), ValueText(row.outcome.value)};
    cells.insert(cells.end(), row.values.begin(), row.values.end());
    cells.push_back(row.outcome.message);
    text += CsvLine(cells);
  }
  return text;
}

std::string ToMarkdown(const ResultTable& table) {
  std::string text = fmt::format("# {}\n\n", table.title);
  const int64_t open = table.runs - std::ssize(table.rows);
  text += fmt::format("{} runs: {}{}{}. Sorted by {}, {} first.\n\n", table.runs,
                      CountStates(table.rows), table.rows.empty() || open == 0 ? "" : ", ",
                      open > 0 ? fmt::format("{} not ended", open) : "", table.metric,
                      table.goal == MetricGoal::kMinimize ? "lowest" : "highest");
  text += MarkdownTable(PeopleRows(table)) + SeedTable(table);
  for (const ResultRow& row : table.rows) {
    if (row.outcome.message.empty()) continue;
    text +=
        fmt::format("\n{} {}: {}\n", row.id, StateWords(row.outcome.state), row.outcome.message);
  }
  if (!table.removed.empty()) {
    text += fmt::format("\nRuns in this folder that {} no longer has: {}.\n", table.title,
                        fmt::join(table.removed, ", "));
  }
  return text;
}

std::string CountStates(const std::vector<ResultRow>& rows) {
  Cells parts;
  for (const RunEndState state : {RunEndState::kFinished, RunEndState::kStoppedEarly,
                                  RunEndState::kDiverged, RunEndState::kFailed}) {
    const auto count = std::count_if(
        rows.begin(), rows.end(), [&](const ResultRow& row) { return row.outcome.state == state; });
    if (count > 0) parts.push_back(fmt::format("{} {}", count, StateWords(state)));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string FormatForTerminal(ResultTable table) {
  SortRows(&table);
  std::vector<Cells> rows = PeopleRows(table);
  const int64_t surplus = std::ssize(rows) - 1 - kTerminalRows;
  if (surplus > 0) rows.resize(rows.size() - static_cast<size_t>(surplus));
  return FormatColumns(rows) + (surplus > 0 ? fmt::format("... and {} more\n", surplus) : "");
}

std::string FormatColumns(const std::vector<Cells>& rows) {
  std::vector<size_t> widths;
  for (const Cells& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Cells& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += fmt::format("{:<{}}", row[i], i + 1 < row.size() ? widths[i] + 2 : 0);
    }
    text += line + "\n";
  }
  return text;
}

void WriteResults(const std::filesystem::path& folder, ResultTable table) {
  SortRows(&table);
  ReplaceFile(folder / "results.jsonl", ToJsonLines(table));
  ReplaceFile(folder / "results.csv", ToCsv(table));
  ReplaceFile(folder / "results.md", ToMarkdown(table));
}

}  // namespace hearth
