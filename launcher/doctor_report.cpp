#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/doctor_checks.h"

namespace hearth {

namespace {

std::string_view Word(Health health) {
  switch (health) {
    case Health::kOk:
      return "ok";
    case Health::kWarning:
      return "warning";
    case Health::kProblem:
      return "problem";
  }
  return "";
}

int64_t Count(const Findings& findings, Health health) {
  return std::count_if(findings.begin(), findings.end(),
                       [&](const Finding& finding) { return finding.health == health; });
}

std::string Counted(int64_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

// Words of other programs, made fit for one line of a terminal.
std::string OneLine(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return text;
}

}  // namespace

bool HasProblem(const Findings& findings) { return Count(findings, Health::kProblem) > 0; }

std::string FindingsText(const Findings& findings) {
  size_t width = 0;
  for (const Finding& finding : findings) width = std::max(width, finding.name.size());
  std::string text;
  for (const Finding& finding : findings) {
    text += fmt::format("{:7}  {:{}}  {}\n", Word(finding.health), finding.name, width,
                        OneLine(finding.text));
    if (finding.remedy.empty()) continue;
    text += fmt::format("{:7}  {:{}}  -> {}\n", "", "", width, OneLine(finding.remedy));
  }
  return text + fmt::format("{} ok, {}, {}\n", Count(findings, Health::kOk),
                            Counted(Count(findings, Health::kWarning), "warning"),
                            Counted(Count(findings, Health::kProblem), "problem"));
}

std::string FindingsJson(const Findings& findings) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Finding& finding : findings) {
    list.push_back({{"name", finding.name},
                    {"state", Word(finding.health)},
                    {"text", OneLine(finding.text)},
                    {"remedy", OneLine(finding.remedy)}});
  }
  nlohmann::ordered_json report = {{"ok", Count(findings, Health::kOk)},
                                   {"warnings", Count(findings, Health::kWarning)},
                                   {"problems", Count(findings, Health::kProblem)},
                                   {"findings", std::move(list)}};
  return report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace hearth
