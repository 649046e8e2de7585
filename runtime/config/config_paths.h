// Where files named on the command line or in a configuration are looked for.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace hearth {

// The file or folder that `path` names: relative to the working directory first, then in
// `installed_configs` (the installed configs/ folder; "" for none), where a leading "configs/" of
// `path` is that folder itself. nullopt when there is neither.
std::optional<std::filesystem::path> FindConfigFile(const std::string& path,
                                                    const std::string& installed_configs);

// The whole text of a file of at most 1 MiB. Throws ConfigError naming `path`.
std::string ReadConfigText(const std::filesystem::path& path, const std::string& shown_name);

}  // namespace hearth
