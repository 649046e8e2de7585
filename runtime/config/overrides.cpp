#include "runtime/config/overrides.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "kernels/core/error.h"
#include "runtime/config/field_table.h"
#include "runtime/config/suggestion.h"

namespace hearth {
namespace {

[[noreturn]] void Fail(const std::string& message) {
  throw ConfigError(fmt::format("command line: error: {}", message));
}

std::string OptionName(std::string_view leaf) {
  std::string option = fmt::format("--{}", leaf);
  std::replace(option.begin(), option.end(), '_', '-');
  return option;
}

// The leaf an option such as --learning-rate sets, or null.
const Field* FieldOfOption(std::string_view option) {
  if (!option.starts_with("--") || option.find('_') != std::string_view::npos) return nullptr;
  std::string leaf(option.substr(2));
  std::replace(leaf.begin(), leaf.end(), '-', '_');
  return FindLeaf(leaf);
}

// "a.b=v" of a --set.
Override ParseAssignment(std::string_view assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    Fail(fmt::format("--set '{}' is not an assignment; write --set section.key=value",
                     Printable(assignment)));
  }
  const std::string_view path = assignment.substr(0, equals);
  if (FindField(path) == nullptr) {
    const std::string advice =
        IsSection(path) ? fmt::format("this is a section; write --set {}.KEY=value", path)
        : FindLeaf(path) != nullptr
            ? fmt::format("write --set {}=...", FindLeaf(path)->path)
            : KeyAdvice(
                  path.find('.') == std::string_view::npos ? "" : path.substr(0, path.rfind('.')),
                  path.substr(path.rfind('.') + 1));
    Fail(fmt::format("--set {}: unknown key; {}", Printable(path), advice));
  }
  return {.path = std::string(path),
          .value = std::string(assignment.substr(equals + 1)),
          .given = fmt::format("--set {}", assignment)};
}

}  // namespace

SplitArguments SplitOverrides(const std::vector<std::string>& arguments) {
  SplitArguments split;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") {
      split.rest.insert(split.rest.end(), arguments.begin() + static_cast<int64_t>(i),
                        arguments.end());
      break;
    }
    const size_t equals = argument.find('=');
    const std::string option = argument.substr(0, equals);
    const Field* field = FieldOfOption(option);
    if (option != "--set" && field == nullptr) {
      split.rest.push_back(argument);
      continue;
    }
    if (equals == std::string::npos && i + 1 == arguments.size()) {
      Fail(fmt::format("{} has no value; write {}", option,
                       field != nullptr ? fmt::format("{} VALUE ({})", option, field->form)
                                        : "--set section.key=value"));
    }
    const std::string value =
        equals == std::string::npos ? arguments[++i] : argument.substr(equals + 1);
    split.overrides.push_back(field == nullptr
                                  ? ParseAssignment(value)
                                  : Override{.path = field->path,
                                             .value = value,
                                             .given = fmt::format("{} {}", option, value)});
  }
  return split;
}

std::string SuggestOption(std::string_view option) {
  std::vector<std::string> options;
  for (const Field& field : FieldTable()) {
    if (FindLeaf(field.leaf()) == &field) options.push_back(OptionName(field.leaf()));
  }
  const std::vector<std::string_view> candidates(options.begin(), options.end());
  const std::string_view meant = ClosestWord(option, candidates);
  return meant.empty() ? "" : fmt::format("; did you mean {}?", meant);
}

}  // namespace hearth
