// The one way Hearth reads YAML (run, sweep, model shape, hardware and plan files): yaml-cpp finds
// the structure, every rule about what is allowed and what a scalar means is here. Strict: one
// document of at most 1 MiB in UTF-8, at most 32 levels, no anchors, aliases, tags, directives,
// merge keys or duplicate keys; decimal numbers; `true` and `false` alone are booleans. All errors
// are ConfigError "FILE:LINE:COLUMN: error: what is wrong; what to do".
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/config/scalar_text.h"

namespace hearth {

inline constexpr int64_t kMaxYamlBytes = int64_t{1} << 20;
inline constexpr int kMaxYamlDepth = 32;

// 1-based; columns count characters, not bytes.
struct YamlMark {
  int64_t line = 0;
  int64_t column = 0;
};

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  YamlMark mark;
  std::string text;             // of a scalar
  bool quoted = false;          // a scalar in quotes or a block scalar: never a number or a boolean
  std::vector<YamlNode> items;  // of a sequence
  std::vector<YamlEntry> entries;  // of a map, in file order, keys unique

  bool IsNull() const { return kind == Kind::kNull; }
  bool IsScalar() const { return kind == Kind::kScalar; }
  bool IsSequence() const { return kind == Kind::kSequence; }
  bool IsMap() const { return kind == Kind::kMap; }

  // The value under `key`, or null when the node is no map or has no such key.
  const YamlNode* Find(std::string_view key) const;
};

struct YamlEntry {
  std::string key;
  YamlMark key_mark;
  YamlNode value;
};

struct IntegerRange {
  int64_t min = std::numeric_limits<int64_t>::min();
  int64_t max = std::numeric_limits<int64_t>::max();
};

// Which numbers are allowed; an open end excludes the bound itself.
struct NumberRange {
  double min = -std::numeric_limits<double>::max();
  double max = std::numeric_limits<double>::max();
  bool open_min = false;
  bool open_max = false;
};

// "from 0 to 3", "at least 1", "above 0 and at most 1".
std::string Describe(const IntegerRange& range);
std::string Describe(const NumberRange& range);

// What a scalar says, or what is wrong with it, for callers with a message of their own.
Parsed<int64_t> ReadInteger(const YamlNode& node, const IntegerRange& range);
Parsed<double> ReadNumber(const YamlNode& node, const NumberRange& range);
Parsed<bool> ReadBoolean(const YamlNode& node);
Parsed<std::string> ReadText(const YamlNode& node);

// A parsed file. Nodes are borrowed from it; references into `root()` live as long as the document.
class YamlDocument {
 public:
  // `file_name` as the user gave it, for messages.
  static YamlDocument Parse(std::string_view text, std::string file_name);

  // A value typed outside a file: messages start with `place` and carry no line.
  static YamlDocument ParseValue(std::string_view text, std::string place);

  // As ParseValue for a scalar, taken literally as a plain (unquoted) one; "null" and "~" are null.
  static YamlDocument PlainScalar(std::string_view text, std::string place);

  const YamlNode& root() const { return root_; }
  const std::string& file_name() const { return file_name_; }

  [[noreturn]] void Fail(const YamlMark& mark, std::string_view message) const;
  [[noreturn]] void Fail(std::string_view message) const;  // no line to name
  std::string Place(const YamlMark& mark) const;           // "FILE:LINE:COLUMN"

  // Typed access; `name` is what the message calls the value ("optimizer.learning_rate").
  int64_t Integer(const YamlNode& node, std::string_view name, const IntegerRange& range) const;
  double Number(const YamlNode& node, std::string_view name, const NumberRange& range) const;
  bool Boolean(const YamlNode& node, std::string_view name) const;
  // A non-empty string without control characters of at most 4096 bytes.
  std::string Text(const YamlNode& node, std::string_view name) const;

  // Fails unless `node` is a map whose keys are all in `allowed` and which has all of `required`.
  void CheckKeys(const YamlNode& node, std::string_view name,
                 const std::vector<std::string_view>& allowed,
                 const std::vector<std::string_view>& required) const;

 private:
  YamlDocument() = default;

  std::string file_name_;
  bool has_lines_ = true;
  YamlNode root_;
};

// `text` as a YAML scalar that reads back as the same string: plain where that is safe, else in
// double quotes.
std::string QuoteYaml(std::string_view text);

}  // namespace hearth
