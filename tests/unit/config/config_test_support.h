// Shared by the tests of runtime/config.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/config/resolved_config.h"

namespace hearth {

// The least a configuration needs, in four lines.
inline const std::string kMinimal =
    "model:\n"
    "  name_or_path: tiny.yaml\n"
    "data:\n"
    "  datasets: [{path: a.hearth}]\n";

// The message of the ConfigError that `action` throws, "no error" when it throws none. Anything
// else that it throws fails the test.
inline std::string ErrorOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

inline ResolvedConfig ParseRun(const std::string& text,
                               const std::vector<std::string>& arguments = {},
                               const BuildFeatures& features = {}) {
  return ParseConfig({.text = text,
                      .file_name = "run.yaml",
                      .overrides = SplitOverrides(arguments).overrides,
                      .features = features});
}

inline std::string RunError(const std::string& text, const std::vector<std::string>& arguments = {},
                            const BuildFeatures& features = {}) {
  return ErrorOf([&] { ParseRun(text, arguments, features); });
}

// The error of a minimal configuration followed by `more`, which starts in line 5.
inline std::string MoreError(const std::string& more,
                             const std::vector<std::string>& arguments = {}) {
  return RunError(kMinimal + more, arguments);
}

inline RunConfig MoreConfig(const std::string& more,
                            const std::vector<std::string>& arguments = {}) {
  return ParseRun(kMinimal + more, arguments).config;
}

}  // namespace hearth
