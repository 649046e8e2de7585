#include "launcher/program_info.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "build_info.h"
#include "kernels/backend.h"
#include "launcher/process.h"

namespace hearth {

std::string InstalledConfigs() {
  const std::filesystem::path folder = std::filesystem::path(OwnProgram()).parent_path();
  for (const char* configs : kConfigsFolders) {
    std::error_code error;
    const std::filesystem::path candidate = folder / configs;
    if (std::filesystem::is_directory(candidate, error)) return candidate.lexically_normal();
  }
  return "";
}

BuildFeatures BuiltFeatures() {
  const std::vector<std::string> backends = AvailableBackends();
  return {.cuda = std::find(backends.begin(), backends.end(), "cuda") != backends.end()};
}

std::string VersionText() {
  return fmt::format(
      "hearth {}\ncommit {}\nbuild {}\ncompiler {}\ntarget {}\nbackends {}\nmpi {}\n",
      kBuildVersion, kBuildCommit, kBuildType, kBuildCompiler, kBuildTarget, kBuildBackends,
      kBuildMpi);
}

}  // namespace hearth
