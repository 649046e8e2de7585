#include "runtime/telemetry/prometheus_file.h"

#include <fmt/format.h>

#include <cmath>
#include <system_error>
#include <utility>

#include "kernels/core/error.h"
#include "runtime/telemetry/append_file.h"

namespace hearth {

namespace {

std::string NumberText(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

std::string LabelText(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\n') {
      escaped += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace

std::string PrometheusName(const std::string& name) {
  std::string metric = "hearth_" + name;
  for (char& c : metric) {
    const bool allowed =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    if (!allowed) c = '_';
  }
  return metric;
}

PrometheusFile::PrometheusFile(std::filesystem::path path, const std::string& run)
    : path_(std::move(path)), label_(fmt::format("{{run=\"{}\"}}", LabelText(run))) {}

void PrometheusFile::Update(const StepRecord& record, double wall_time_s) {
  for (const auto& [name, value] : record.values) {
    if (const auto number = record.Number(name)) {
      values_[PrometheusName(name)] = NumberText(*number);
    }
  }
  values_["hearth_step"] = NumberText(static_cast<double>(record.step));
  values_["hearth_updated_timestamp_seconds"] = fmt::format("{:.3f}", wall_time_s);
  const std::filesystem::path next =
      path_.parent_path() / fmt::format(".{}.next", path_.filename().string());
  std::error_code error;
  std::filesystem::remove(next, error);
  AppendFile(next).Append(Text());
  std::filesystem::rename(next, path_, error);
  if (error) {
    throw IoError(fmt::format("{}: cannot be replaced: {}", path_.string(), error.message()));
  }
}

std::string PrometheusFile::Text() const {
  std::string text;
  for (const auto& [name, value] : values_) {
    text += fmt::format("# TYPE {} gauge\n{}{} {}\n", name, name, label_, value);
  }
  return text;
}

}  // namespace hearth
