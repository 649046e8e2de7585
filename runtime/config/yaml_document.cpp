#include "runtime/config/yaml_document.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <unordered_set>
#include <utility>

#include "kernels/core/error.h"
#include "runtime/config/suggestion.h"

namespace hearth {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// The length of the UTF-8 character at the front of `text`, 0 where it is malformed (overlong
// forms, surrogates and anything above U+10FFFF included).
size_t CharacterLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                        : lead >= 0xE0 && lead <= 0xEF ? 3
                        : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                       : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if (lead == 0xE0 && byte(1) < 0xA0) return 0;
  if (lead == 0xED && byte(1) > 0x9F) return 0;
  if (lead == 0xF0 && byte(1) < 0x90) return 0;
  if (lead == 0xF4 && byte(1) > 0x8F) return 0;
  return length;
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

bool IsForbiddenControl(std::string_view text, size_t at) {
  const auto byte = static_cast<uint8_t>(text[at]);
  if (byte == '\t' || byte == '\n') return false;
  if (byte == '\r') return at + 1 >= text.size() || text[at + 1] != '\n';
  if (byte < 0x20 || byte == 0x7F) return true;
  return byte == 0xC2 && static_cast<uint8_t>(text[at + 1]) < 0xA0;  // C1
}

// Everything that must hold before yaml-cpp sees a byte.
void CheckBytes(const YamlDocument& document, std::string_view text) {
  if (static_cast<int64_t>(text.size()) > kMaxYamlBytes) {
    document.Fail(
        fmt::format("{} bytes are more than the 1 MiB a configuration may have; "
                    "make the file smaller",
                    text.size()));
  }
  YamlMark mark{.line = 1, .column = 1};
  for (size_t at = 0; at < text.size();) {
    if (text[at] >= ' ' && text[at] <= '~') {  // which most are
      ++mark.column;
      ++at;
      continue;
    }
    const size_t length = CharacterLength(text.substr(at));
    if (length == 0) document.Fail(mark, "this is not UTF-8; save the file as UTF-8");
    if (IsForbiddenControl(text, at)) {
      document.Fail(mark, fmt::format("the control character 0x{:02x} is not allowed; remove it",
                                      static_cast<uint8_t>(text[at + length - 1])));
    }
    ++mark.column;
    if (text[at] == '\n') mark = {.line = mark.line + 1, .column = 1};
    at += length;
  }
}

// yaml-cpp drops directives, even in the middle of a document, without a word.
void RefuseDirectives(const YamlDocument& document, std::string_view text) {
  int64_t line = 1;
  for (size_t at = 0; at < text.size(); ++line) {
    if (text[at] == '%') {
      document.Fail({.line = line, .column = 1},
                    "a directive ('%') is not allowed; remove the line");
    }
    const size_t end = text.find('\n', at);
    if (end == std::string_view::npos) return;
    at = end + 1;
  }
}

// Builds the tree from yaml-cpp's events, and stops it at the first thing that is not allowed,
// before an alias is expanded or a level too many is entered.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const YamlDocument& document, std::string_view text)
      : document_(document), text_(text) {}

  YamlNode TakeRoot() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (seen_document_) {
      document_.Fail(ToMark(mark), "a second document starts here; a file holds one document only");
    }
    seen_document_ = true;
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    RefuseAnchor(mark, anchor);
    YamlNode node = MakeNode(YamlNode::Kind::kNull, mark);
    const std::string_view rest = text_.substr(std::min(text_.size(), Offset(mark)));
    const bool is_written = rest.starts_with('~') || rest.starts_with("null") ||
                            rest.starts_with("Null") || rest.starts_with("NULL");
    // The mark of a value that is not there is that of whatever comes next.
    if (!is_written && !stack_.empty() && stack_.back().key) node.mark = stack_.back().key_mark;
    Add(std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    document_.Fail(ToMark(mark),
                   "an alias ('*') is not allowed; write the value out, or put "
                   "quotes around a text that starts with '*'");
  }

  void OnAnchor(const YAML::Mark& mark, const std::string&) override { RefuseAnchor(mark, 1); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    RefuseAnchor(mark, anchor);
    YamlNode node = MakeNode(YamlNode::Kind::kScalar, mark);
    node.text = value;
    node.quoted = tag == "!";
    RefuseTag(node, tag, Offset(mark));
    if (node.quoted) CheckQuoteIsClosed(node, Offset(mark));
    // yaml-cpp makes one byte each of these two escapes.
    if (!IsUtf8(value)) {
      document_.Fail(
          node.mark,
          "the escapes \\N and \\_ are not allowed; write the character itself, \\u0085 or "
          "\\u00a0");
    }
    Add(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kSequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { Close(); }

  // Columns in characters. Marks mostly rise, so counting goes on from the last one: a line of a
  // million marks stays linear.
  YamlMark ToMark(const YAML::Mark& mark) {
    if (mark.is_null()) return {.line = 1, .column = 1};
    const size_t offset = std::min(text_.size(), Offset(mark));
    const auto column = std::min(offset, static_cast<size_t>(mark.column));
    if (mark.line != last_line_ || offset < last_offset_) {
      last_line_ = mark.line;
      last_offset_ = offset - column;
      last_column_ = 1;
    }
    for (; last_offset_ < offset; ++last_offset_) {
      if ((static_cast<uint8_t>(text_[last_offset_]) & 0xC0) != 0x80) ++last_column_;
    }
    return {.line = mark.line + 1, .column = last_column_};
  }

 private:
  struct Frame {
    YamlNode node;
    std::optional<std::string> key;  // read, its value not yet
    YamlMark key_mark;
    std::unordered_set<std::string> keys;  // of a large map
  };

  static size_t Offset(const YAML::Mark& mark) { return static_cast<size_t>(mark.pos); }

  YamlNode MakeNode(YamlNode::Kind kind, const YAML::Mark& mark) {
    YamlNode node;
    node.kind = kind;
    node.mark = ToMark(mark);
    return node;
  }

  void RefuseAnchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) {
      document_.Fail(ToMark(mark),
                     "an anchor ('&') is not allowed; write the value out where it "
                     "is needed");
    }
  }

  // yaml-cpp gives "?" to what is plain and "!" to what is quoted, but also "!" to an explicit '!'.
  void RefuseTag(const YamlNode& node, const std::string& tag, size_t offset) {
    bool is_tagged = !(tag.empty() || tag == "?" || (tag == "!" && node.IsScalar()));
    if (tag == "!" && node.IsScalar()) {
      const char front = offset < text_.size() ? text_[offset] : '\0';
      const size_t before =
          offset == 0 ? std::string_view::npos : text_.substr(0, offset).find_last_not_of(" \t");
      is_tagged = std::string_view("'\"|>").find(front) == std::string_view::npos ||
                  (before != std::string_view::npos && text_[before] == '!');
    }
    if (is_tagged) document_.Fail(node.mark, "a tag ('!') is not allowed; remove it");
  }

  // yaml-cpp takes the end of the file for the end of a quoted text.
  void CheckQuoteIsClosed(const YamlNode& node, size_t offset) {
    const char quote = text_[offset];
    if (quote != '"' && quote != '\'') return;
    for (size_t at = offset + 1; at < text_.size(); ++at) {
      if (quote == '"' && text_[at] == '\\') {
        ++at;
      } else if (text_[at] == quote) {
        if (quote == '"' || at + 1 >= text_.size() || text_[at + 1] != quote) return;
        ++at;
      }
    }
    document_.Fail(node.mark, "the quotes opened here are not closed; close them");
  }

  void Open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    RefuseAnchor(mark, anchor);
    Frame frame;
    frame.node = MakeNode(kind, mark);
    RefuseTag(frame.node, tag, Offset(mark));
    if (IsKeyPosition()) {
      document_.Fail(
          frame.node.mark,
          "a list or map cannot be a key; write a word, or close the bracket that is open here");
    }
    if (static_cast<int>(stack_.size()) >= kMaxYamlDepth) {
      document_.Fail(frame.node.mark,
                     fmt::format("more than {} levels; nest less deeply", kMaxYamlDepth));
    }
    stack_.push_back(std::move(frame));
  }

  void Close() {
    YamlNode node = std::move(stack_.back().node);
    stack_.pop_back();
    Add(std::move(node));
  }

  bool IsKeyPosition() const {
    return !stack_.empty() && stack_.back().node.IsMap() && !stack_.back().key;
  }

  void Add(YamlNode node) {
    if (stack_.empty()) {
      root_ = std::move(node);
    } else if (IsKeyPosition()) {
      AddKey(std::move(node));
    } else if (Frame& top = stack_.back(); top.node.IsMap()) {
      top.node.entries.push_back({std::move(*top.key), top.key_mark, std::move(node)});
      top.key.reset();
    } else {
      top.node.items.push_back(std::move(node));
    }
  }

  // Whether the map has the key. A set of them pays beyond some entries.
  static bool IsTaken(Frame& map, const std::string& key) {
    constexpr size_t kLarge = 32;
    const std::vector<YamlEntry>& entries = map.node.entries;
    if (entries.size() < kLarge) {
      return std::ranges::any_of(entries, [&](const YamlEntry& each) { return each.key == key; });
    }
    if (map.keys.empty()) {
      for (const YamlEntry& each : entries) map.keys.insert(each.key);
    }
    return !map.keys.insert(key).second;
  }

  void AddKey(YamlNode node) {
    if (!node.IsScalar()) document_.Fail(node.mark, "a key is missing here; write one before ':'");
    if (node.text == "<<") {
      document_.Fail(node.mark, "the merge key '<<' is not allowed; write the keys out");
    }
    Frame& top = stack_.back();
    if (IsTaken(top, node.text)) {
      const YamlEntry* first = nullptr;
      for (const YamlEntry& entry : top.node.entries) {
        if (entry.key == node.text) first = &entry;
      }
      document_.Fail(node.mark,
                     fmt::format("duplicate key '{}', already given in line {}; remove one of them",
                                 Printable(node.text), first ? first->key_mark.line : 0));
    }
    top.key = std::move(node.text);
    top.key_mark = node.mark;
  }

  const YamlDocument& document_;
  std::string_view text_;
  YamlNode root_;
  std::vector<Frame> stack_;
  bool seen_document_ = false;
  int last_line_ = -1;
  size_t last_offset_ = 0;
  int64_t last_column_ = 1;
};

YamlNode BuildTree(const YamlDocument& document, std::string_view text) {
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  CheckBytes(document, text);
  RefuseDirectives(document, text);
  TreeBuilder builder(document, text);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    document.Fail(builder.ToMark(error.mark),
                  fmt::format("not valid YAML ({}); check indentation, quotes and brackets here",
                              Printable(error.msg)));
  }
  return builder.TakeRoot();
}

}  // namespace

const YamlNode* YamlNode::Find(std::string_view key) const {
  for (const YamlEntry& entry : entries) {
    if (entry.key == key) return &entry.value;
  }
  return nullptr;
}

YamlDocument YamlDocument::Parse(std::string_view text, std::string file_name) {
  YamlDocument document;
  document.file_name_ = std::move(file_name);
  document.root_ = BuildTree(document, text);
  return document;
}

YamlDocument YamlDocument::ParseValue(std::string_view text, std::string place) {
  YamlDocument document;
  document.file_name_ = std::move(place);
  document.has_lines_ = false;
  document.root_ = BuildTree(document, text);
  return document;
}

YamlDocument YamlDocument::PlainScalar(std::string_view text, std::string place) {
  YamlDocument document;
  document.file_name_ = std::move(place);
  document.has_lines_ = false;
  CheckBytes(document, text);
  if (text != "null" && text != "~") {
    document.root_.kind = YamlNode::Kind::kScalar;
    document.root_.text = text;
  }
  return document;
}

std::string YamlDocument::Place(const YamlMark& mark) const {
  if (!has_lines_) return file_name_;
  return fmt::format("{}:{}:{}", file_name_, mark.line, mark.column);
}

void YamlDocument::Fail(const YamlMark& mark, std::string_view message) const {
  if (!has_lines_) Fail(message);
  throw ConfigError(fmt::format("{}: error: {}", Place(mark), message));
}

void YamlDocument::Fail(std::string_view message) const {
  throw ConfigError(fmt::format("{}: {}{}", file_name_, has_lines_ ? "error: " : "", message));
}

}  // namespace hearth
