// Everything about a run that can be found wrong without starting it.
#pragma once

#include <string>
#include <vector>

#include "runtime/config/resolved_config.h"

namespace hearth {

// Loads a configuration and looks at what it names: the model's file and every dataset. Creates
// nothing. ConfigError for whatever is wrong, BudgetError for what does not fit.
ResolvedConfig LoadAndCheckRun(const std::string& file, const std::vector<Override>& overrides);

// One line about a run that is fine.
std::string DescribeRun(const ResolvedConfig& resolved);

}  // namespace hearth
