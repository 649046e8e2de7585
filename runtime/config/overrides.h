// The command line's share of a configuration: --set section.leaf=value, or the leaf itself with
// dashes, --leaf-name value or --leaf-name=value.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hearth {

// One value from the command line. Lists are given as YAML flow text. A later one replaces an
// earlier one of the same leaf.
struct Override {
  std::string path;   // dotted, "optimizer.learning_rate"
  std::string value;  // text, as YAML would have it without quotes
  std::string given;  // as typed, for messages
  // Where else it was given, "FILE:LINE:COLUMN"; the value then is YAML as in a file, with quotes.
  std::string place = {};
};

struct SplitArguments {
  std::vector<Override> overrides;
  std::vector<std::string> rest;  // everything else, in order
};

// Takes the overrides out of a command's arguments. An option that is no leaf stays in `rest`; a
// malformed or unknown --set, or a leaf without its value, throws ConfigError. Nothing after an
// argument "--" is an override.
SplitArguments SplitOverrides(const std::vector<std::string>& arguments);

// "; did you mean --learning-rate?" for an option nobody knows, or "".
std::string SuggestOption(std::string_view option);

}  // namespace hearth
