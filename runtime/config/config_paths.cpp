#include "runtime/config/config_paths.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

#include "kernels/core/error.h"
#include "runtime/config/suggestion.h"
#include "runtime/config/yaml_document.h"

namespace hearth {

std::optional<std::filesystem::path> FindConfigFile(const std::string& path,
                                                    const std::string& installed_configs) {
  namespace fs = std::filesystem;
  std::error_code ignored;  // what cannot be looked at is not there
  if (path.empty() || path.find('\0') != std::string::npos) return std::nullopt;
  if (fs::exists(path, ignored)) return fs::path(path);
  if (fs::path(path).is_absolute() || installed_configs.empty()) return std::nullopt;
  constexpr std::string_view kFolder = "configs/";
  const std::string inside = path.starts_with(kFolder) ? path.substr(kFolder.size()) : path;
  const fs::path installed = fs::path(installed_configs) / inside;
  if (fs::exists(installed, ignored)) return installed;
  return std::nullopt;
}

std::string ReadConfigText(const std::filesystem::path& path, const std::string& shown_name) {
  const auto fail = [&](std::string_view problem) {
    throw ConfigError(fmt::format("{}: error: {}", Printable(shown_name), problem));
  };
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) fail("this is a folder; give a YAML file");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    fail(fmt::format("cannot be opened ({}); check the path and its permissions",
                     std::strerror(errno)));
  }
  std::string text(static_cast<size_t>(kMaxYamlBytes) + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) fail("cannot be read; check the disk");
  text.resize(static_cast<size_t>(file.gcount()));
  if (static_cast<int64_t>(text.size()) > kMaxYamlBytes) {
    fail("the file is larger than 1 MiB; make it smaller");
  }
  return text;
}

}  // namespace hearth
