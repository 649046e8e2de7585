// The parts of sweep.yaml that name keys of the run: parameters, groups, exclude and seeds.
#pragma once

#include <vector>

#include "runtime/config/sweep_config.h"
#include "runtime/config/yaml_document.h"

namespace hearth {

// `parameters` of a grid or a random sweep: one axis a key, in the order of the file.
std::vector<SweepAxis> ReadParameters(const YamlDocument& document, const YamlNode& node,
                                      SweepMethod method);

// `parameters` of a list: one axis whose alternatives are the runs.
SweepAxis ReadList(const YamlDocument& document, const YamlNode& node);

// Applies `groups` to the axes: a group of names makes one axis of those of its keys, at the place
// of the first; a group of maps is an axis of its own, behind the others.
void ReadGroups(const YamlDocument& document, const YamlNode& node, std::vector<SweepAxis>* axes);

// `exclude`: maps of keys that the axes and seeds vary.
std::vector<SweepAlternative> ReadExclusions(const YamlDocument& document, const YamlNode& node,
                                             const std::vector<std::string>& varied);

std::vector<SweepSetting> ReadSeeds(const YamlDocument& document, const YamlNode& node);

}  // namespace hearth
