// The rows of the field table; use field_table.h.
#pragma once

#include <vector>

#include "runtime/config/field_table.h"

namespace hearth {

std::vector<Field> MakeFields();

}  // namespace hearth
