// A foreign configuration as a flat list of keys and values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hearth {

struct ForeignValue {
  std::string key;                 // dotted below maps: "deepspeed.zero_optimization.stage"
  std::string text;                // "null" for nothing; lists as "[a, b]"
  std::vector<std::string> items;  // of a list; of a scalar, itself; of a list of maps, their paths
};

// YAML, which JSON is a part of.
std::vector<ForeignValue> ReadForeignYaml(const std::string& text, const std::string& file_name);

// The options of a command line as a shell would take it apart, without expansions: quotes, "\" at
// a line's end, comments. "--key=value", "--key value" and "--key", which is "true".
std::vector<ForeignValue> ReadCommandLine(const std::string& text, const std::string& file_name);

}  // namespace hearth
