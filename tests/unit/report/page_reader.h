// Looks at a report as a browser would, by rules of its own.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace hearth::test {

// "" where every element is closed in order, attributes are quoted and no character is stray; else
// what is wrong and where.
std::string FindMarkupMistake(const std::string& html);

// The numbers that the page's script draws.
nlohmann::json ChartData(const std::string& html);

// The page without its style sheet and scripts.
std::string Markup(const std::string& html);

// Its text alone.
std::string VisibleText(const std::string& html);

}  // namespace hearth::test
