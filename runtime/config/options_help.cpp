#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/config/built_values.h"
#include "runtime/config/field_table.h"
#include "runtime/config/resolved_config.h"

namespace hearth {
namespace {

std::string OfferedForm(const Field& field, const BuildFeatures& features) {
  const std::vector<std::string_view> built = BuiltValues(field, features);
  return built.empty() ? field.form : fmt::format("{}", fmt::join(built, " | "));
}

std::string OptionOf(const Field& field) {
  if (FindLeaf(field.leaf()) != &field) return fmt::format("--set {}=VALUE", field.path);
  std::string option = fmt::format("--{} VALUE", field.leaf());
  std::replace(option.begin(), option.end(), '_', '-');
  return option;
}

}  // namespace

std::string OptionsHelp(const BuildFeatures& features) {
  std::string help = "Keys of run.yaml, each also an option here or --set section.key=value:\n";
  const RunConfig defaults;
  std::string_view section = "-";
  for (const Field& field : FieldTable()) {
    if (!IsOffered(field, features)) continue;
    if (field.section() != section) {
      section = field.section();
      help += fmt::format("\n{}\n", section.empty() ? "top level" : section);
    }
    const std::string value = field.print(defaults);
    help += fmt::format("  {}\n      {}\n      {}; {}\n", OptionOf(field), field.meaning,
                        OfferedForm(field, features),
                        field.example.empty() ? fmt::format("default {}", value) : "required");
  }
  return help;
}

}  // namespace hearth
