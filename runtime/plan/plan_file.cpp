#include "runtime/plan/plan_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "runtime/config/field_table.h"
#include "runtime/config/suggestion.h"
#include "runtime/config/validation.h"
#include "runtime/config/yaml_document.h"
#include "runtime/plan/plan_ladder.h"

namespace hearth {

namespace {

constexpr std::string_view kVersion = "plan_version";
constexpr std::string_view kChoices = "choices";

void ApplyChoice(const YamlDocument& document, const YamlEntry& choice, ResolvedConfig* resolved) {
  const std::vector<std::string> keys = PlannedKeys();
  if (std::find(keys.begin(), keys.end(), choice.key) == keys.end()) {
    const std::string_view meant = ClosestWord(choice.key, {keys.begin(), keys.end()});
    document.Fail(choice.key_mark,
                  fmt::format("'{}' is not a planner's choice; {}", Printable(choice.key),
                              meant.empty() ? fmt::format("write it in run.yaml; choices are {}",
                                                          fmt::join(keys, ", "))
                                            : fmt::format("did you mean '{}'?", meant)));
  }
  const Field& field = *FindField(choice.key);
  RunConfig chosen = resolved->config;
  field.read(chosen, document, choice.value);
  const std::string given = field.print(resolved->config), value = field.print(chosen);
  if (given == value) return;
  if (!IsOpen(*resolved, choice.key)) {
    document.Fail(
        choice.value.mark,
        fmt::format("{} is {} here and {} in the configuration ({}); leave one of them out",
                    choice.key, value, given, resolved->origins.at(choice.key).text));
  }
  resolved->config = std::move(chosen);
  resolved->origins[field.path] = {
      .kind = OriginKind::kPlanner,
      .text = fmt::format("{}:{}", Printable(document.file_name()), choice.value.mark.line)};
}

}  // namespace

std::string PlanFileText(const PlanFile& file) {
  std::string text;
  std::istringstream lines(file.explanation);
  for (std::string line; std::getline(lines, line);) text += fmt::format("# {}\n", line);
  text += fmt::format(
      "{}:  # `memory.plan: FILE` takes these over, edited or not; the rest says "
      "what follows from them\n",
      kChoices);
  for (const std::string& key : PlannedKeys()) {
    if (IsOpen(file.resolved, key)) continue;
    text += fmt::format("  {}: {}\n", key, FindField(key)->print(file.resolved.config));
  }
  text += PlanYaml(file.plan, file.spec);
  if (file.estimate) text += EstimateYaml(*file.estimate);
  return text;
}

void ApplyPlanFile(std::string_view text, const std::string& file_name,
                   const BuildFeatures& features, ResolvedConfig* resolved) {
  const YamlDocument document = YamlDocument::Parse(text, file_name);
  const YamlNode& root = document.root();
  const YamlNode* version = root.Find(kVersion);
  const YamlNode* choices = root.Find(kChoices);
  if (version == nullptr || choices == nullptr || !(choices->IsMap() || choices->IsNull())) {
    document.Fail(
        fmt::format("not a plan: it has no {} with {}; hearth plan RUN.yaml --out "
                    "PLAN.yaml writes one",
                    kVersion, kChoices));
  }
  document.Integer(*version, kVersion, {.min = 1, .max = 1});
  for (const YamlEntry& choice : choices->entries) ApplyChoice(document, choice, resolved);
  CheckBuilt(*resolved, features);
  Validate(*resolved);
}

}  // namespace hearth
