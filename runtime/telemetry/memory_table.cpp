#include "runtime/telemetry/memory_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/telemetry/units.h"

namespace hearth {

namespace {

struct Column {
  std::string heading;
  std::vector<std::string> cells;
  bool left_aligned = false;
};

std::string BytesCell(const std::optional<int64_t>& bytes) {
  return bytes ? FormatBytes(*bytes) : "";
}

std::string DifferenceCell(const MemoryRow& row) {
  if (!row.predicted_bytes || !row.measured_bytes || *row.predicted_bytes == 0) return "";
  std::string text = fmt::format(
      "{:+.1f}", 100.0 * static_cast<double>(*row.measured_bytes - *row.predicted_bytes) /
                     static_cast<double>(*row.predicted_bytes));
  // Nothing, whatever its sign.
  if (text == "-0.0" || text == "+0.0") text = "0.0";
  return text + " %";
}

bool HasValue(const Column& column) {
  return std::any_of(column.cells.begin(), column.cells.end(),
                     [](const std::string& cell) { return !cell.empty(); });
}

}  // namespace

std::string FormatMemoryTable(const std::vector<MemoryRow>& rows) {
  std::vector<Column> columns = {{.heading = "memory", .cells = {}, .left_aligned = true},
                                 {.heading = "", .cells = {}, .left_aligned = true},
                                 {.heading = "predicted", .cells = {}},
                                 {.heading = "measured", .cells = {}},
                                 {.heading = "budget", .cells = {}},
                                 {.heading = "off by", .cells = {}}};
  for (const MemoryRow& row : rows) {
    const std::vector<std::string> cells = {row.tier,
                                            row.item,
                                            BytesCell(row.predicted_bytes),
                                            BytesCell(row.measured_bytes),
                                            BytesCell(row.budget_bytes),
                                            DifferenceCell(row)};
    for (size_t i = 0; i < cells.size(); ++i) columns[i].cells.push_back(cells[i]);
  }
  std::erase_if(columns, [](const Column& column) { return !HasValue(column); });

  std::vector<std::string> lines(rows.size() + 1);
  if (columns.empty()) return "";
  for (const Column& column : columns) {
    size_t width = column.heading.size();
    for (const std::string& cell : column.cells) width = std::max(width, cell.size());
    const auto append = [&](std::string& line, const std::string& cell) {
      line += column.left_aligned ? fmt::format("{:<{}}  ", cell, width)
                                  : fmt::format("{:>{}}  ", cell, width);
    };
    append(lines[0], column.heading);
    for (size_t row = 0; row < rows.size(); ++row) append(lines[row + 1], column.cells[row]);
  }
  std::string table;
  for (std::string& line : lines) {
    line.erase(line.find_last_not_of(' ') + 1);
    table += line + "\n";
  }
  return table;
}

}  // namespace hearth
