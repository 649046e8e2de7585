#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/telemetry/loss_curve.h"
#include "runtime/telemetry/plot_scale.h"

namespace hearth {

namespace {

constexpr int kLabelColumns = 8;  // of the loss axis, with its line
constexpr int kAxisRows = 2;      // of the step axis
constexpr int kMinColumns = 24;
constexpr int kMinRows = 5;

// A canvas of characters of 2 x 4 dots each (Unicode's Braille block).
class DotCanvas {
 public:
  DotCanvas(int columns, int rows)
      : columns_(columns), rows_(rows), cells_(static_cast<size_t>(columns * rows)) {}

  int dot_columns() const { return 2 * columns_; }
  int dot_rows() const { return 4 * rows_; }

  // Row 0 is at the top.
  void Set(int dot_column, int dot_row) {
    // Bits of the Braille pattern by row and column of the dot.
    constexpr std::array<std::array<uint8_t, 2>, 4> kBits = {
        {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};
    Cell(dot_column, dot_row).dots |=
        kBits[static_cast<size_t>(dot_row % 4)][static_cast<size_t>(dot_column % 2)];
  }

  void Mark(int dot_column, int dot_row) { Cell(dot_column, dot_row).marked = true; }

  std::string Row(int row) const {
    std::string text;
    for (int column = 0; column < columns_; ++column) {
      const CellContent& cell = cells_[static_cast<size_t>(row * columns_ + column)];
      if (cell.marked) {
        text += 'o';
      } else if (cell.dots == 0) {
        text += ' ';
      } else {  // U+2800 + dots in UTF-8
        text += {'\xe2', static_cast<char>(0xa0 | cell.dots >> 6),
                 static_cast<char>(0x80 | (cell.dots & 0x3f))};
      }
    }
    return text;
  }

 private:
  struct CellContent {
    uint8_t dots = 0;
    bool marked = false;
  };

  CellContent& Cell(int dot_column, int dot_row) {
    return cells_[static_cast<size_t>(dot_row / 4 * columns_ + dot_column / 2)];
  }

  int columns_;
  int rows_;
  std::vector<CellContent> cells_;
};

// A dot for a position of 0..1 among `count`.
int DotAt(double position, int count) {
  return std::clamp(static_cast<int>(std::lround(position * (count - 1))), 0, count - 1);
}

struct ColumnMean {
  double sum = 0;
  int64_t count = 0;
};

// The mean of each dot column; neighbouring columns are joined by straight lines.
void DrawTrain(const std::vector<LossPoint>& points, const Axis& steps, const Axis& losses,
               DotCanvas* canvas) {
  std::vector<ColumnMean> means(static_cast<size_t>(canvas->dot_columns()));
  for (const LossPoint& point : points) {
    const int column =
        DotAt(steps.Position(static_cast<double>(point.step)), canvas->dot_columns());
    ColumnMean& mean = means[static_cast<size_t>(column)];
    mean.sum += point.loss;
    ++mean.count;
  }
  int last_column = -1;
  int last_row = 0;
  for (int column = 0; column < canvas->dot_columns(); ++column) {
    const ColumnMean& mean = means[static_cast<size_t>(column)];
    if (mean.count == 0) continue;
    const double loss = mean.sum / static_cast<double>(mean.count);
    const int row = DotAt(1.0 - losses.Position(loss), canvas->dot_rows());
    const int length =
        last_column < 0 ? 0 : std::max(column - last_column, std::abs(row - last_row));
    for (int i = 0; i <= length; ++i) {
      const double share = length == 0 ? 1.0 : static_cast<double>(i) / length;
      const double from = last_column < 0 ? column : last_column;
      canvas->Set(static_cast<int>(std::lround(from + share * (column - from))),
                  static_cast<int>(std::lround(last_row + share * (row - last_row))));
    }
    last_column = column;
    last_row = row;
  }
}

// The label of the tick that falls into this row of characters, or "".
std::string RowLabel(const Axis& losses, int row, int dot_rows) {
  for (const AxisTick& tick : losses.ticks) {
    if (DotAt(1.0 - losses.Position(tick.value), dot_rows) / 4 == row) return tick.label;
  }
  return "";
}

std::string StepLabels(const Axis& steps, int columns) {
  std::string line(static_cast<size_t>(columns), ' ');
  size_t free_from = 0;
  for (const AxisTick& tick : steps.ticks) {
    const auto center = static_cast<size_t>(DotAt(steps.Position(tick.value), columns));
    const size_t half = tick.label.size() / 2;
    const size_t begin = std::min(center < half ? 0 : center - half,
                                  line.size() - std::min(line.size(), tick.label.size()));
    if (begin < free_from || begin + tick.label.size() > line.size()) continue;
    line.replace(begin, tick.label.size(), tick.label);
    free_from = begin + tick.label.size() + 2;
  }
  return line;
}

}  // namespace

std::string LossCurveText(const LossCurve& curve, int columns, int rows) {
  Axis steps;
  Axis losses;
  if (columns < kMinColumns || rows < kMinRows) return "";
  if (!FitAxes(curve, columns / 14, (rows - kAxisRows) / 2, &steps, &losses)) return "";

  const int plot_columns = columns - kLabelColumns;
  const int plot_rows = rows - kAxisRows;
  DotCanvas canvas(plot_columns, plot_rows);
  DrawTrain(FinitePoints(curve.train), steps, losses, &canvas);
  for (const LossPoint& point : FinitePoints(curve.eval)) {
    canvas.Mark(DotAt(steps.Position(static_cast<double>(point.step)), canvas.dot_columns()),
                DotAt(1.0 - losses.Position(point.loss), canvas.dot_rows()));
  }

  std::string text;
  for (int row = 0; row < plot_rows; ++row) {
    const std::string label = RowLabel(losses, row, canvas.dot_rows());
    text += fmt::format("{:>{}.{}} {}{}\n", label, kLabelColumns - 2, kLabelColumns - 2,
                        label.empty() ? "│" : "┤", canvas.Row(row));
  }
  text += fmt::format("{:>{}}└", "", kLabelColumns - 1);
  for (int column = 0; column < plot_columns; ++column) text += "─";
  text += fmt::format("\n{:>{}}{}\n", "", kLabelColumns, StepLabels(steps, plot_columns));
  return text;
}

}  // namespace hearth
