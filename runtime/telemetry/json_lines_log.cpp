#include "runtime/telemetry/json_lines_log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "kernels/core/error.h"

namespace hearth {

namespace {

double NumberOfText(const std::string& text) {
  if (text == "Infinity") return std::numeric_limits<double>::infinity();
  if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
  return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

std::optional<StepRecord> ParseJsonLine(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) {
    return std::nullopt;
  }
  StepRecord record{.step = json["step"].get<int64_t>(), .values = {}};
  for (const auto& [name, value] : json.items()) {
    if (name == "step") continue;
    if (value.is_number_integer()) {
      record.Set(name, value.get<int64_t>());
    } else if (value.is_number()) {
      record.Set(name, value.get<double>());
    } else if (value == "NaN" || value == "Infinity" || value == "-Infinity") {
      record.Set(name, NumberOfText(value.get<std::string>()));
    } else if (value.is_string()) {
      record.Set(name, value.get<std::string>());
    }
  }
  return record;
}

namespace {

// Calls `use(line, record)` for every line that ends and parses; returns false when there was
// another kind of line.
template <typename Use>
bool ForEachRecord(const std::filesystem::path& log, const Use& use) {
  std::ifstream in(log, std::ios::binary);
  bool clean = true;
  for (std::string line; std::getline(in, line);) {
    const bool torn = in.eof();  // no newline behind it
    const auto record = torn ? std::nullopt : ParseJsonLine(line);
    if (record) {
      use(line, *record);
    } else {
      clean = false;
    }
  }
  // Not the end of the file: what could not be read must not be cut off.
  if (in.bad()) throw IoError(fmt::format("{}: cannot be read", log.string()));
  return clean;
}

}  // namespace

void ReadJsonLines(const std::filesystem::path& log,
                   const std::function<void(const StepRecord&)>& use) {
  ForEachRecord(log, [&](const std::string&, const StepRecord& record) { use(record); });
}

void CutBackTo(const std::filesystem::path& log, int64_t step) {
  if (!std::filesystem::exists(log)) return;
  bool later = false;
  const bool clean = ForEachRecord(
      log, [&](const std::string&, const StepRecord& record) { later |= record.step > step; });
  if (clean && !later) return;

  const std::filesystem::path kept = log.string() + ".cut";
  std::filesystem::remove(kept);
  {
    AppendFile out(kept);
    std::string block;
    ForEachRecord(log, [&](const std::string& line, const StepRecord& record) {
      if (record.step > step) return;
      block += line + "\n";
      if (block.size() < (1 << 20)) return;
      out.Append(block);
      block.clear();
    });
    out.Append(block);
    out.Sync();
  }
  std::error_code error;
  std::filesystem::rename(kept, log, error);
  if (error)
    throw IoError(fmt::format("{}: cannot be cut back: {}", log.string(), error.message()));
}

}  // namespace hearth
