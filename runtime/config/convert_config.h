// Other trainers' configurations as a run.yaml.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hearth {

struct ConvertOptions {
  std::string format;     // hf | axolotl | llamafactory | llmq
  std::string file_name;  // for messages
  std::string model;  // model.name_or_path where the file names none, or instead of it; may be ""
  std::string data;   // the same for a token file to train on
};

struct ConvertedConfig {
  std::string yaml;                  // the run.yaml; the lists below are its last comment
  std::vector<std::string> assumed;  // "path: value" of the other program's defaults
  std::vector<std::string> missing;  // what is left to be filled in
  std::vector<std::string> lost;     // "key: value: why, or what instead"
};

// ConfigError "FILE:LINE:COLUMN: error: ..." for a file that cannot be read as that format, and for
// a format that nobody knows. What can be read but has no counterpart is listed, never dropped.
ConvertedConfig ConvertConfig(const std::string& text, const ConvertOptions& options);

// The names of ConvertOptions::format.
std::vector<std::string_view> ForeignFormatNames();

}  // namespace hearth
