// What this host calls itself.
#pragma once

#include <string>

namespace hearth {

std::string HostName();

}  // namespace hearth
