#include "launcher/command_reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "launcher/command.h"
#include "launcher/command_line.h"
#include "runtime/config/built_values.h"
#include "runtime/config/field_table.h"

namespace hearth {

namespace {

std::string Escaped(std::string_view text, std::string_view special) {
  std::string escaped;
  for (const char c : text) {
    if (special.find(c) != special.npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

// In a cell of a table a bar would end it; outside of code <x> would be a tag.
std::string Cell(std::string_view text) { return Escaped(text, "|<"); }
std::string CodeCell(std::string_view text) { return fmt::format("`{}`", Escaped(text, "|")); }

std::string OptionName(const boost::program_options::option_description& option) {
  std::string name = option.format_name();  // "-h [ --help ]"
  std::string plain;
  for (const char c : name) {
    if (c != '[' && c != ']') plain += c;
  }
  while (plain.find("  ") != plain.npos) plain.erase(plain.find("  "), 1);
  while (!plain.empty() && plain.back() == ' ') plain.pop_back();
  const std::string parameter = option.format_parameter();
  return parameter.empty() ? plain : fmt::format("{} {}", plain, parameter);
}

std::string CommandSection(const Command& command) {
  std::string text =
      fmt::format("### hearth {}\n`{}`\n\n{}.", command.name, UsageLine(command), command.summary);
  if (!command.details.empty()) text += fmt::format("\n{}", command.details);
  text += "\n\n| option | |\n|---|---|\n";
  const auto options = CommandOptions(command);
  for (const auto& option : options.options()) {
    text +=
        fmt::format("| {} | {} |\n", CodeCell(OptionName(*option)), Cell(option->description()));
  }
  if (command.takes_run_keys) text += "\nAlso every key of run.yaml, below.\n";
  return text + "\n";
}

// The keys, as one table a section.
std::string KeySections() {
  constexpr BuildFeatures kAll{.cuda = true};
  const RunConfig defaults;
  std::string text;
  std::string_view section = "-";
  for (const Field& field : FieldTable()) {
    if (!IsOffered(field, kAll)) continue;
    if (field.section() != section) {
      section = field.section();
      text += fmt::format("\n### {}\n| key | may be | default | |\n|---|---|---|---|\n",
                          section.empty() ? "top level" : section);
    }
    const auto built = BuiltValues(field, kAll);
    const std::string form =
        built.empty() ? field.form : fmt::format("{}", fmt::join(built, " | "));
    const std::string value = field.example.empty() ? CodeCell(field.print(defaults)) : "required";
    text += fmt::format("| `{}` | {} | {} | {} |\n", field.leaf(), Cell(form), value,
                        Cell(field.meaning));
  }
  return text;
}

}  // namespace

std::string CommandReference() {
  std::string text =
      "# Commands and keys\n"
      "Made by `hearth help --markdown` from the program's own tables; a test compares the two.\n\n"
      "Exit codes: 0 done, or stopped politely after saving; 1 failed; 2 wrong configuration or "
      "usage; 3 does not fit its\nbudget; 4 a rank died or hung and the restarts are used up.\n\n"
      "## Commands\n";
  for (const Command& command : Commands()) text += CommandSection(command);
  text +=
      "## Keys of run.yaml\n"
      "On the command line a key is `--set section.key=value`, or the key alone with dashes:\n"
      "`--learning-rate 1e-4` (not those of `memory.offload`).\n";
  return text + KeySections();
}

}  // namespace hearth
