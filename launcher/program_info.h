// What this program is and where its files are.
#pragma once

#include <string>

#include "runtime/config/resolved_config.h"

namespace hearth {

// The installed configs/ folder; "" when there is none.
std::string InstalledConfigs();

// What a configuration can ask of this build.
BuildFeatures BuiltFeatures();

// Version and build, for --version: several lines.
std::string VersionText();

}  // namespace hearth
