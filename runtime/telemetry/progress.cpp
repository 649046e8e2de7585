#include "runtime/telemetry/progress.h"

#include <fmt/format.h>

#include "runtime/telemetry/units.h"

namespace hearth {

namespace {

constexpr size_t kEtaWindow = 50;  // records the time left is estimated from
constexpr double kRedrawSeconds = 0.1;

}  // namespace

void Progress::Show(const StepRecord& record, double now_s) {
  if (!options_.enabled) return;
  if (const auto loss = record.Number("eval/loss"))
    last_eval_ = fmt::format("  eval {:.4f}", *loss);
  if (!record.Number("train/loss")) {
    if (last_eval_.empty() || options_.interactive) return;
    Write(fmt::format("step {}{}\n", record.step, last_eval_));
    return;
  }
  recent_.emplace_back(record.step, now_s);
  if (recent_.size() > kEtaWindow) recent_.pop_front();

  const std::string line = Line(record);
  if (!options_.interactive) {
    Write(line + "\n");
    return;
  }
  pending_ = line;
  if (last_drawn_s_ >= 0 && now_s - last_drawn_s_ < kRedrawSeconds) return;
  last_drawn_s_ = now_s;
  Write("\r" + pending_ + "\x1b[K");
  pending_.clear();
  line_open_ = true;
}

void Progress::EndLine() {
  if (!pending_.empty()) {
    Write("\r" + pending_ + "\x1b[K");
    pending_.clear();
    line_open_ = true;
  }
  if (line_open_) Write("\n");
  line_open_ = false;
}

std::string Progress::Line(const StepRecord& record) const {
  std::string line = options_.total_steps > 0
                         ? fmt::format("step {}/{}", record.step, options_.total_steps)
                         : fmt::format("step {}", record.step);
  if (const auto loss = record.Number("train/loss")) line += fmt::format("  loss {:.4f}", *loss);
  line += last_eval_;
  if (const auto norm = record.Number("train/grad_norm"))
    line += fmt::format("  grad {:.3f}", *norm);
  if (const auto rate = record.Number("train/learning_rate"))
    line += fmt::format("  lr {:.2e}", *rate);
  if (const auto speed = record.Number("train/tokens_per_second")) {
    line += fmt::format("  {} tok/s", FormatCount(*speed));
  }
  if (const auto sol = record.Number("train/sol")) line += fmt::format("  SOL {:.1f}%", 100 * *sol);
  line += EtaText(record.step);
  // A line that wraps cannot be drawn over.
  if (options_.interactive && options_.columns > 1 &&
      line.size() >= static_cast<size_t>(options_.columns)) {
    line.resize(static_cast<size_t>(options_.columns) - 1);
  }
  return line;
}

std::string Progress::EtaText(int64_t step) const {
  if (recent_.size() < 2 || options_.total_steps <= step) return "";
  const auto& [first_step, first_s] = recent_.front();
  const auto& [last_step, last_s] = recent_.back();
  if (last_step <= first_step) return "";
  const double seconds_per_step = (last_s - first_s) / static_cast<double>(last_step - first_step);
  const double left_s = seconds_per_step * static_cast<double>(options_.total_steps - step);
  return fmt::format("  ETA {}", FormatDuration(left_s));
}

void Progress::Write(const std::string& text) {
  // Nobody to show it to is no reason to stop.
  std::fwrite(text.data(), 1, text.size(), out_);
  std::fflush(out_);
}

}  // namespace hearth
