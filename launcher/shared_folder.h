// Whether all hosts of a run see one folder.
#pragma once

#include <filesystem>

#include "comm/communicators.h"

namespace hearth {

// Collective. Rank 0 leaves a file in `folder`, which it has made; ConfigError on all ranks, naming
// the hosts that do not see it. Nothing is done when all ranks share a host.
void RequireSharedFolder(const std::filesystem::path& folder, Bootstrap& bootstrap);

}  // namespace hearth
