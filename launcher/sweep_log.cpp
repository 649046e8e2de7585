#include "launcher/sweep_log.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>

#include "kernels/core/error.h"

namespace hearth {

std::optional<double> ValueAt(const MetricCurve& curve, int64_t step) {
  const auto behind = std::upper_bound(
      curve.begin(), curve.end(), step,
      [](int64_t wanted, const MetricPoint& point) { return wanted < point.step; });
  if (behind == curve.begin()) return std::nullopt;
  return (behind - 1)->value;
}

bool HasPassed(const MetricCurve& curve, int64_t last_step, int64_t step) {
  return last_step > step || (!curve.empty() && curve.back().step == step);
}

void MetricLog::Read() {
  struct stat status {};
  if (stat(path_.c_str(), &status) != 0) return;
  if (status.st_ino != file_ || status.st_size < offset_) {
    *this = MetricLog(path_, metric_);
    file_ = status.st_ino;
  }
  try {
    ReadPieces(path_, offset_, [&](std::string_view piece) { Take(piece); });
  } catch (const IoError&) {
    // The next call tries again.
  }
  // A part of a line may be written anew.
  offset_ -= lines_.torn_bytes();
  lines_ = RecordLines();
}

void MetricLog::Take(std::string_view piece) {
  offset_ += std::ssize(piece);
  lines_.Take(piece, [&](std::string_view, const StepRecord& record) { TakeRecord(record); });
}

void MetricLog::TakeRecord(const StepRecord& record) {
  last_step_ = std::max(last_step_, record.step);
  const auto is_broken = [&](const char* name) {
    const std::optional<double> value = record.Number(name);
    return value && !std::isfinite(*value);
  };
  if (record.Number("train/loss")) {
    is_broken_ = is_broken("train/loss") || is_broken("train/grad_norm");
  }
  const std::optional<double> value = record.Number(metric_);
  if (!value) return;
  // A run that was restarted from an earlier step writes the later ones again.
  while (!curve_.empty() && curve_.back().step >= record.step) curve_.pop_back();
  curve_.push_back({.step = record.step, .value = *value});
}

}  // namespace hearth
