// Shell patterns to files.
#pragma once

#include <string>
#include <vector>

namespace hearth {

// The regular files that match `pattern` (* ? [...]), in byte order whatever the locale. A pattern
// that is itself the name of a file means that file. No match is a ConfigError.
std::vector<std::string> ExpandGlob(const std::string& pattern);

// The same for each pattern in turn, files that matched before left out.
std::vector<std::string> ExpandGlobs(const std::vector<std::string>& patterns);

}  // namespace hearth
