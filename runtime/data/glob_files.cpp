#include "runtime/data/glob_files.h"

#include <fmt/format.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <unordered_set>

#include "kernels/core/error.h"

namespace hearth {

namespace {

bool IsRegularFile(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

struct GlobResult {
  glob_t value{};
  ~GlobResult() { globfree(&value); }
};

}  // namespace

std::vector<std::string> ExpandGlob(const std::string& pattern) {
  if (pattern.empty() || pattern.find('\0') != std::string::npos) {
    throw ConfigError("a path pattern is empty or holds a zero byte");
  }
  if (IsRegularFile(pattern)) return {pattern};
  GlobResult result;
  const int status = glob(pattern.c_str(), GLOB_NOSORT, nullptr, &result.value);
  if (status != 0 && status != GLOB_NOMATCH) {
    throw IoError(fmt::format("{}: error: the pattern could not be expanded", pattern));
  }
  std::vector<std::string> files;
  for (size_t i = 0; i < result.value.gl_pathc; ++i) {
    std::string path = result.value.gl_pathv[i];
    if (IsRegularFile(path)) files.push_back(std::move(path));
  }
  if (files.empty()) {
    throw ConfigError(
        fmt::format("{}: error: no file matches; check the path, it is relative to the working "
                    "directory",
                    pattern));
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> ExpandGlobs(const std::vector<std::string>& patterns) {
  std::vector<std::string> files;
  std::unordered_set<std::string> seen;
  for (const std::string& pattern : patterns) {
    for (std::string& path : ExpandGlob(pattern)) {
      if (seen.insert(path).second) files.push_back(std::move(path));
    }
  }
  return files;
}

}  // namespace hearth
