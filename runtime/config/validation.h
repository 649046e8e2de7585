// The rules between keys. Single values are checked where they are read (codecs.h).
#pragma once

#include "runtime/config/resolved_config.h"

namespace hearth {

// Settles what depends on other keys: one of several alternatives, short forms, derived names.
// Where file and command line contradict each other the command line wins; a contradiction within
// one of them is an error.
void SettleChoices(ResolvedConfig& resolved);

// Fails at the first broken rule of a settled configuration.
void Validate(const ResolvedConfig& resolved);

}  // namespace hearth
