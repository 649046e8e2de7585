#include "runtime/config/resolved_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/config/config_paths.h"
#include "runtime/config/field_table.h"
#include "runtime/config/suggestion.h"
#include "runtime/config/validation.h"
#include "runtime/config/yaml_document.h"

namespace hearth {
namespace {

constexpr std::string_view kCommandLine = "command line";
constexpr std::string_view kPlanner = "planner";
constexpr std::string_view kHeader =
    "# Written by hearth: every key of the run, and where its value comes from.\n";

// A line of resolved.yaml; `path` is empty where it only opens a section.
struct ResolvedLine {
  std::string text;  // without the comment
  std::string path;
};

std::vector<ResolvedLine> MakeLines(const RunConfig& config) {
  std::vector<ResolvedLine> lines;
  std::string_view open_section;
  for (const Field& field : FieldTable()) {
    const std::string_view section = field.section();
    const auto level = std::count(section.begin(), section.end(), '.');
    // Going back from memory.offload to memory opens nothing.
    const bool is_return = open_section.starts_with(section) && open_section != section;
    if (section != open_section && !section.empty() && !is_return) {
      const size_t dot = section.rfind('.');
      const std::string_view name =
          dot == std::string_view::npos ? section : section.substr(dot + 1);
      lines.push_back({fmt::format("{:{}}{}:", "", 2 * level, name), ""});
    }
    open_section = section;
    const int64_t indent = section.empty() ? 0 : 2 * (level + 1);
    lines.push_back(
        {fmt::format("{:{}}{}: {}", "", indent, field.leaf(), field.print(config)), field.path});
  }
  return lines;
}

// Applies a file's map to the config, key by key.
class FileReader {
 public:
  FileReader(const YamlDocument& document, ResolvedConfig& resolved)
      : document_(document), resolved_(resolved) {}

  void ReadSection(const YamlNode& section, std::string_view name) {
    for (const YamlEntry& entry : section.entries) {
      const std::string path = name.empty() ? entry.key : fmt::format("{}.{}", name, entry.key);
      // A dotted key at the top level would look like a path.
      const bool is_word = entry.key.find('.') == std::string::npos;
      if (const Field* field = is_word ? FindField(path) : nullptr) {
        ReadLeaf(*field, entry);
      } else if (is_word && IsSection(path)) {
        if (!entry.value.IsMap()) {
          document_.Fail(entry.value.mark,
                         fmt::format("section '{}' has no keys; write {}: {{...}} with keys of the "
                                     "section, or remove it",
                                     path, entry.key));
        }
        ReadSection(entry.value, path);
      } else {
        document_.Fail(entry.key_mark,
                       fmt::format("unknown key '{}'{}; {}", Printable(entry.key),
                                   name.empty() ? "" : fmt::format(" in '{}'", name),
                                   KeyAdvice(name, entry.key)));
      }
    }
  }

 private:
  void ReadLeaf(const Field& field, const YamlEntry& entry) {
    field.read(resolved_.config, document_, entry.value);
    resolved_.origins[field.path] = {
        .kind = OriginKind::kFile,
        .text = fmt::format("{}:{}", Printable(document_.file_name()), entry.value.mark.line),
        .line = entry.value.mark.line,
        .column = entry.value.mark.column};
  }

  const YamlDocument& document_;
  ResolvedConfig& resolved_;
};

void ReadFile(const ConfigSource& source, ResolvedConfig& resolved) {
  const YamlDocument document = YamlDocument::Parse(source.text, source.file_name);
  const YamlNode& root = document.root();
  if (root.IsNull()) {
    document.Fail("the file is empty; write at least model.name_or_path and data.datasets");
  }
  if (!root.IsMap()) {
    document.Fail(root.mark, "a configuration is a map of sections; write 'section: {key: value}'");
  }
  // A file of another version may have other keys: say that first.
  if (const YamlNode* version = root.Find("schema_version")) {
    RunConfig scratch;
    FindField("schema_version")->read(scratch, document, *version);
  }
  FileReader(document, resolved).ReadSection(root, "");
  for (const Field& field : FieldTable()) {
    if (field.example.empty()) continue;
    const bool is_given = resolved.origins.at(field.path).kind != OriginKind::kDefault;
    const bool is_typed =
        std::any_of(source.overrides.begin(), source.overrides.end(),
                    [&](const Override& each) { return each.path == field.path; });
    if (!is_given && !is_typed) {
      document.Fail(fmt::format("{} is required; add {}", field.path, field.example));
    }
  }
}

void ApplyOverride(const Override& override, ResolvedConfig& resolved) {
  const Field* field = FindField(override.path);
  CHECK(field != nullptr, "override of unknown leaf {}", override.path);
  LeafOrigin& origin = resolved.origins[field->path];
  if (!override.place.empty()) {
    const YamlDocument document =
        YamlDocument::ParseValue(override.value, fmt::format("{}: error", override.place));
    field->read(resolved.config, document, document.root());
    origin = {.kind = OriginKind::kCommandLine, .text = override.place};
    return;
  }
  const std::string place = fmt::format("{}: error: {}", kCommandLine, Printable(override.given));
  SetFieldText(*field, override.value, place, resolved.config);
  origin = {.kind = OriginKind::kCommandLine, .text = std::string(kCommandLine)};
}

LeafOrigins::Entries DefaultOrigins() {
  LeafOrigins::Entries entries;
  for (const Field& field : FieldTable()) entries.emplace_back(field.path, LeafOrigin{});
  std::ranges::sort(entries, {}, &LeafOrigins::Entries::value_type::first);
  return entries;
}

LeafOrigin OriginFromComment(const std::string& text) {
  if (text == LeafOrigin{}.text) return LeafOrigin{};
  if (text == kCommandLine) return {.kind = OriginKind::kCommandLine, .text = text};
  if (text == kPlanner) return {.kind = OriginKind::kPlanner, .text = text};
  return {.kind = OriginKind::kFile, .text = text};
}

}  // namespace

LeafOrigins::LeafOrigins() {
  static const Entries defaults = DefaultOrigins();
  entries_ = defaults;
}

size_t LeafOrigins::IndexOf(std::string_view path) const {
  const auto found =
      std::ranges::lower_bound(entries_, path, {}, &LeafOrigins::Entries::value_type::first);
  CHECK(found != entries_.end() && found->first == path, "no origin of {}", path);
  return static_cast<size_t>(found - entries_.begin());
}

std::string ResolvedConfig::ToYaml() const {
  std::string text(kHeader);
  for (const ResolvedLine& line : MakeLines(config)) {
    text += line.text;
    if (!line.path.empty()) text += fmt::format("  # {}", origins.at(line.path).text);
    text += '\n';
  }
  return text;
}

std::string ResolvedConfig::IdentityText() const {
  std::string text;
  for (const Field& field : FieldTable()) {
    if (field.path == "run_name" || field.path == "output_dir") continue;
    text += fmt::format("{}: {}\n", field.path, field.print(config));
  }
  return text;
}

void ResolvedConfig::SetPlanned(std::string_view path, std::string_view value) {
  const Field* field = FindField(path);
  CHECK(field != nullptr, "the planner sets an unknown leaf, {}", path);
  SetFieldText(*field, value, fmt::format("{}: error: {}", kPlanner, path), config);
  origins[field->path] = {.kind = OriginKind::kPlanner, .text = std::string(kPlanner)};
}

std::string ResolvedConfig::Place(std::string_view path) const {
  const LeafOrigin& origin = origins.at(path);
  if (origin.kind == OriginKind::kDefault) return file_name;
  if (origin.line == 0) return origin.text;
  return fmt::format("{}:{}:{}", file_name, origin.line, origin.column);
}

void ResolvedConfig::Fail(std::string_view path, std::string_view message) const {
  throw ConfigError(fmt::format("{}: error: {}: {}", Place(path), path, message));
}

ResolvedConfig ParseConfig(const ConfigSource& source) {
  ResolvedConfig resolved;
  resolved.file_name = source.file_name;
  ReadFile(source, resolved);
  for (const Override& override : source.overrides) ApplyOverride(override, resolved);
  CheckBuilt(resolved, source.features);
  SettleChoices(resolved);
  Validate(resolved);
  return resolved;
}

ResolvedConfig ParseResolved(const std::string& text, const std::string& file_name,
                             const BuildFeatures& features) {
  ResolvedConfig resolved =
      ParseConfig({.text = text, .file_name = file_name, .overrides = {}, .features = features});
  std::string_view rest = text;
  const auto fail = [&] {
    throw ConfigError(
        fmt::format("{}: error: not a text written by hearth; start the run again "
                    "from its run.yaml",
                    file_name));
  };
  if (!rest.starts_with(kHeader)) fail();
  rest.remove_prefix(kHeader.size());
  for (const ResolvedLine& line : MakeLines(resolved.config)) {
    const std::string start = line.path.empty() ? line.text : line.text + "  # ";
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos || !rest.starts_with(start)) fail();
    if (!line.path.empty()) {
      const std::string comment(rest.substr(start.size(), end - start.size()));
      resolved.origins[line.path] = OriginFromComment(comment);
    }
    rest.remove_prefix(end + 1);
  }
  return resolved;
}

ResolvedConfig LoadConfig(const std::string& path, const std::string& installed_configs,
                          const std::vector<Override>& overrides, const BuildFeatures& features) {
  const std::optional<std::filesystem::path> found = FindConfigFile(path, installed_configs);
  if (!found) {
    throw ConfigError(fmt::format("{}: error: there is no such file; give the path of a run.yaml",
                                  Printable(path)));
  }
  return ParseConfig({.text = ReadConfigText(*found, path),
                      .file_name = path,
                      .overrides = overrides,
                      .features = features});
}

}  // namespace hearth
