// Every leaf of run.yaml once: how its text becomes a member of RunConfig and back, what it may be
// and what it means. Parsing, defaults, help, printing and overrides are loops over this table.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/config/run_config.h"
#include "runtime/config/yaml_document.h"

namespace hearth {

struct Field {
  std::string path;  // dotted, "optimizer.learning_rate"
  std::string_view meaning;
  std::string form;                     // what may be written: "auto, or an integer, at least 1"
  std::vector<std::string_view> words;  // where the value is one of a few words, these
  std::string_view example;  // what to add where a required key is missing; "" for the others
  bool is_list = false;      // overrides give it as YAML flow text

  // Reads the value into the config; fails through the document.
  std::function<void(RunConfig&, const YamlDocument&, const YamlNode&)> read;
  // The value as YAML flow text, which `read` takes back to the same value.
  std::function<std::string(const RunConfig&)> print;

  std::string_view leaf() const;     // "learning_rate"
  std::string_view section() const;  // "optimizer", "" at top level
};

// In the order of run.yaml; the leaves of a section follow each other.
const std::vector<Field>& FieldTable();

// The field of a dotted path, or null.
const Field* FindField(std::string_view path);

// The field whose leaf name alone is `leaf`; the short names under memory.offload are not looked
// at.
const Field* FindLeaf(std::string_view leaf);

// Whether `path` is the name of a section ("memory", "memory.offload").
bool IsSection(std::string_view path);

// What to do about a key nobody knows, found under `section` ("" for the top level): the nearest
// key, the section it belongs to, or what Hearth calls the same thing. Never empty.
std::string KeyAdvice(std::string_view section, std::string_view key);

// Reads `text` as an override or the planner gives it. `place` starts the message of a failure.
void SetFieldText(const Field& field, std::string_view text, const std::string& place,
                  RunConfig& config);

}  // namespace hearth
