// Texts between ranks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "comm/api/bootstrap.h"

namespace hearth {

// Everybody's text, by rank. Collective.
inline std::vector<std::string> GatherTexts(Bootstrap& bootstrap, std::string_view mine) {
  std::vector<std::string> texts;
  for (const Bytes& theirs : bootstrap.AllGather(ToBytes(mine))) texts.push_back(ToText(theirs));
  return texts;
}

// That of the lowest rank that has one, such as why it cannot go on; "". Collective.
inline std::string GatherFirstText(Bootstrap& bootstrap, std::string_view mine) {
  for (const std::string& text : GatherTexts(bootstrap, mine)) {
    if (!text.empty()) return text;
  }
  return "";
}

}  // namespace hearth
