// What the scalars of a YamlDocument mean.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "kernels/core/error.h"
#include "runtime/config/suggestion.h"
#include "runtime/config/yaml_document.h"

namespace hearth {
namespace {

constexpr size_t kLongestText = 4096;

bool HasControlCharacter(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    return static_cast<uint8_t>(c) < 0x20 || static_cast<uint8_t>(c) == 0x7F;
  });
}

// Why `node` cannot be a plain scalar, "" when it is one.
std::string PlainProblem(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "there is no value";
    case YamlNode::Kind::kSequence:
      return "a list is not allowed here";
    case YamlNode::Kind::kMap:
      return "a map is not allowed here";
    case YamlNode::Kind::kScalar:
      break;
  }
  if (node.quoted) return fmt::format("'{}' is in quotes", Printable(node.text));
  return "";
}

template <typename T>
Parsed<T> Limited(Parsed<T> parsed, bool is_inside, std::string_view text, std::string_view range) {
  if (parsed.value && !is_inside) {
    return {{}, fmt::format("{} is not {}", Printable(text), range)};
  }
  return parsed;
}

}  // namespace

std::string Describe(const IntegerRange& range) {
  const bool has_min = range.min != IntegerRange{}.min;
  const bool has_max = range.max < kMaxConfigInteger;  // which no integer may exceed anyway
  if (has_min && has_max && range.min == range.max) return fmt::format("{}", range.min);
  if (has_min && has_max) return fmt::format("from {} to {}", range.min, range.max);
  if (has_min) return fmt::format("at least {}", range.min);
  return has_max ? fmt::format("at most {}", range.max) : "any";
}

std::string Describe(const NumberRange& range) {
  std::string text;
  if (range.min != NumberRange{}.min) {
    text = fmt::format("{} {}", range.open_min ? "above" : "at least", range.min);
  }
  if (range.max != NumberRange{}.max) {
    if (!text.empty()) text += " and ";
    text += fmt::format("{} {}", range.open_max ? "below" : "at most", range.max);
  }
  return text.empty() ? "any" : text;
}

Parsed<int64_t> ReadInteger(const YamlNode& node, const IntegerRange& range) {
  if (std::string problem = PlainProblem(node); !problem.empty()) return {{}, problem};
  const Parsed<int64_t> parsed = ParseInteger(node.text);
  const bool is_inside = parsed.value && *parsed.value >= range.min && *parsed.value <= range.max;
  return Limited(parsed, is_inside, node.text, Describe(range));
}

Parsed<double> ReadNumber(const YamlNode& node, const NumberRange& range) {
  if (std::string problem = PlainProblem(node); !problem.empty()) return {{}, problem};
  const Parsed<double> parsed = ParseNumber(node.text);
  const bool is_inside =
      parsed.value && (range.open_min ? *parsed.value > range.min : *parsed.value >= range.min) &&
      (range.open_max ? *parsed.value < range.max : *parsed.value <= range.max);
  return Limited(parsed, is_inside, node.text, Describe(range));
}

Parsed<bool> ReadBoolean(const YamlNode& node) {
  if (std::string problem = PlainProblem(node); !problem.empty()) return {{}, problem};
  if (node.text == "true") return {true, ""};
  if (node.text == "false") return {false, ""};
  return {{}, fmt::format("'{}' is not a boolean", Printable(node.text))};
}

Parsed<std::string> ReadText(const YamlNode& node) {
  if (!node.IsScalar()) return {{}, PlainProblem(node)};
  if (node.text.empty()) return {{}, "the text is empty"};
  if (node.text.size() > kLongestText) {
    return {{},
            fmt::format("a text of {} bytes is longer than {}", node.text.size(), kLongestText)};
  }
  if (HasControlCharacter(node.text)) {
    return {{}, fmt::format("'{}' has a control character", Printable(node.text))};
  }
  return {node.text, ""};
}

int64_t YamlDocument::Integer(const YamlNode& node, std::string_view name,
                              const IntegerRange& range) const {
  const Parsed<int64_t> parsed = ReadInteger(node, range);
  if (!parsed.value) {
    Fail(node.mark,
         fmt::format("{}: {}; write an integer, {}", name, parsed.problem, Describe(range)));
  }
  return *parsed.value;
}

double YamlDocument::Number(const YamlNode& node, std::string_view name,
                            const NumberRange& range) const {
  const Parsed<double> parsed = ReadNumber(node, range);
  if (!parsed.value) {
    Fail(node.mark,
         fmt::format("{}: {}; write a number, {}", name, parsed.problem, Describe(range)));
  }
  return *parsed.value;
}

bool YamlDocument::Boolean(const YamlNode& node, std::string_view name) const {
  const Parsed<bool> parsed = ReadBoolean(node);
  if (!parsed.value) {
    Fail(node.mark, fmt::format("{}: {}; write true or false", name, parsed.problem));
  }
  return *parsed.value;
}

std::string YamlDocument::Text(const YamlNode& node, std::string_view name) const {
  Parsed<std::string> parsed = ReadText(node);
  if (!parsed.value) Fail(node.mark, fmt::format("{}: {}; write a text", name, parsed.problem));
  return std::move(*parsed.value);
}

void YamlDocument::CheckKeys(const YamlNode& node, std::string_view name,
                             const std::vector<std::string_view>& allowed,
                             const std::vector<std::string_view>& required) const {
  if (!node.IsMap()) {
    Fail(node.mark, fmt::format("{} must be a map of keys and values; write {}: ...", name,
                                allowed.empty() ? "key" : allowed.front()));
  }
  for (const YamlEntry& entry : node.entries) {
    if (std::find(allowed.begin(), allowed.end(), entry.key) != allowed.end()) continue;
    const std::string_view meant = ClosestWord(entry.key, allowed);
    Fail(entry.key_mark,
         fmt::format("unknown key '{}' in {}; {}", Printable(entry.key), name,
                     meant.empty() ? fmt::format("allowed are {}", fmt::join(allowed, ", "))
                                   : fmt::format("did you mean '{}'?", meant)));
  }
  for (const std::string_view key : required) {
    if (node.Find(key) == nullptr) {
      Fail(node.mark, fmt::format("{} has no '{}'; add it", name, key));
    }
  }
}

std::string QuoteYaml(std::string_view text) {
  constexpr std::string_view kSafe =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+";
  constexpr std::array<std::string_view, 4> kWords = {"null", "Null", "NULL", "..."};
  // A leading - or . can start a list or a document mark; what yaml-cpp takes for null is a word.
  const bool is_plain = !text.empty() && text.find_first_not_of(kSafe) == std::string_view::npos &&
                        text.front() != '-' && !text.starts_with("...") &&
                        std::find(kWords.begin(), kWords.end(), text) == kWords.end();
  if (is_plain) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      quoted += fmt::format("\\x{:02x}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

}  // namespace hearth
