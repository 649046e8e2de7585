// What the design allows and this version does not do yet. Such a value is refused by name, never
// accepted and ignored, and help does not offer it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hearth {

struct Field;
struct ResolvedConfig;

// What this binary was built with, as far as a configuration can ask for it.
struct BuildFeatures {
  bool cuda = false;
};

// Fails at the first leaf whose value is not built.
void CheckBuilt(const ResolvedConfig& resolved, const BuildFeatures& features);

// The only values of the field that are built, empty where every value is.
std::vector<std::string_view> BuiltValues(const Field& field, const BuildFeatures& features);

// Whether users have something to set here: false where no built value does anything but the
// default.
bool IsOffered(const Field& field, const BuildFeatures& features);

}  // namespace hearth
