#include "runtime/telemetry/step_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace hearth {

namespace {

template <typename Real>
std::string RealToJson(Real value) {
  if (std::isnan(value)) return "\"NaN\"";
  if (std::isinf(value)) return value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  std::string text = fmt::format("{}", value);
  // Without a fraction a reader takes it for an integer, which has no negative zero.
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string StringToJson(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

struct ToJsonText {
  std::string operator()(int64_t value) const { return fmt::format("{}", value); }
  std::string operator()(float value) const { return RealToJson(value); }
  std::string operator()(double value) const { return RealToJson(value); }
  std::string operator()(const std::string& value) const { return StringToJson(value); }
};

}  // namespace

void StepRecord::Set(std::string_view name, StepValue value) {
  const auto found =
      std::find_if(values.begin(), values.end(), [&](const auto& v) { return v.first == name; });
  if (found != values.end()) {
    found->second = std::move(value);
  } else {
    values.emplace_back(std::string(name), std::move(value));
  }
}

std::optional<double> StepRecord::Number(std::string_view name) const {
  for (const auto& [key, value] : values) {
    if (key != name) continue;
    if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
    if (const auto* single = std::get_if<float>(&value)) return *single;
    if (const auto* real = std::get_if<double>(&value)) return *real;
  }
  return std::nullopt;
}

std::string ToJson(const StepValue& value) { return std::visit(ToJsonText{}, value); }

std::string ToJson(const StepRecord& record) {
  std::string line = fmt::format("{{\"step\":{}", record.step);
  for (const auto& [name, value] : record.values) {
    line += fmt::format(",{}:{}", StringToJson(name), ToJson(value));
  }
  return line + "}";
}

}  // namespace hearth
