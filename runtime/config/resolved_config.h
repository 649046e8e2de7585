// From run.yaml and the command line to a validated RunConfig, and back to the text of
// resolved.yaml.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/config/built_values.h"
#include "runtime/config/overrides.h"
#include "runtime/config/run_config.h"

namespace hearth {

// In rising order of precedence: what is typed replaces what the file says.
enum class OriginKind { kDefault, kFile, kCommandLine, kPlanner };

// Where a leaf's value comes from.
struct LeafOrigin {
  OriginKind kind = OriginKind::kDefault;
  std::string text = "default";  // or "run.yaml:12", "command line", "planner"
  // 1-based position of the value in the file; 0 where there is none.
  int64_t line = 0;
  int64_t column = 0;
  bool operator==(const LeafOrigin&) const = default;
};

// The origin of every leaf of the field table, by its dotted path. Throws CheckError for a path
// that is no leaf's.
class LeafOrigins {
 public:
  // Rising by path; the paths are the field table's.
  using Entries = std::vector<std::pair<std::string_view, LeafOrigin>>;

  LeafOrigins();  // all are defaults

  LeafOrigin& operator[](std::string_view path) { return entries_[IndexOf(path)].second; }
  const LeafOrigin& at(std::string_view path) const { return entries_[IndexOf(path)].second; }
  Entries::const_iterator begin() const { return entries_.begin(); }
  Entries::const_iterator end() const { return entries_.end(); }

 private:
  size_t IndexOf(std::string_view path) const;

  Entries entries_;
};

// A valid configuration with the origin of each leaf.
struct ResolvedConfig {
  RunConfig config;
  std::string file_name;  // as given, for messages
  LeafOrigins origins;

  // The text of resolved.yaml: every key, nested, one a line, its origin as a comment.
  // ParseConfig reads it back to the same configuration, ParseResolved also to the same origins.
  std::string ToYaml() const;

  // The part of the configuration that decides the run's result: every leaf but run_name and
  // output_dir, in table order, without origins. What a sweep hashes into a run's id.
  std::string IdentityText() const;

  // Throws the ConfigError about the leaf: "PLACE: error: PATH: MESSAGE".
  [[noreturn]] void Fail(std::string_view path, std::string_view message) const;

  // Sets one leaf from its YAML text with the origin "planner", for what `auto` turned out to be.
  // Throws CheckError for an unknown path, ConfigError where the value is not valid for the leaf.
  void SetPlanned(std::string_view path, std::string_view value);

  // "FILE:LINE:COLUMN", or "FILE" or "command line" where the leaf has no line: what a message
  // about the leaf starts with (": error: " follows).
  std::string Place(std::string_view path) const;
};

struct ConfigSource {
  std::string text;       // the YAML text
  std::string file_name;  // as the user gave it; also gives the run its default name
  std::vector<Override> overrides;
  BuildFeatures features;
};

// Reads and validates a configuration. Whatever is wrong throws ConfigError with one line
// "FILE:LINE:COLUMN: error: what is wrong; what to do".
ResolvedConfig ParseConfig(const ConfigSource& source);

// Reads back what ToYaml wrote, with the origins found in its comments: the other end of a
// broadcast.
ResolvedConfig ParseResolved(const std::string& text, const std::string& file_name,
                             const BuildFeatures& features);

// ParseConfig of a file, which is looked up as FindConfigFile does. The launcher's entry point.
ResolvedConfig LoadConfig(const std::string& path, const std::string& installed_configs,
                          const std::vector<Override>& overrides, const BuildFeatures& features);

// The rules that need the number of optimizer steps, for those who learn it later (from the data):
// a warm-up, or warm-up and decay, longer than the run is a ConfigError.
void CheckRunLength(const ResolvedConfig& resolved, int64_t total_steps);

// One entry per leaf a user can set: option, type, default, meaning. What is not built is absent.
std::string OptionsHelp(const BuildFeatures& features);

}  // namespace hearth
