#include "runtime/model/json_reader.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "kernels/core/error.h"

namespace hearth {

namespace {

struct TextPosition {
  int64_t line = 1;
  int64_t column = 1;
};

// Reads the text and counts what the parser has consumed, which is how a value finds its place.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, int64_t* consumed) : at_(at), consumed_(consumed) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*consumed_;
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  int64_t* consumed_;
};

// Builds the tree from nlohmann's events; a callback that returns false ends the parse.
class TreeBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  TreeBuilder(std::string_view text, const JsonLimits& limits)
      : text_(text), limits_(limits), position_{.line = limits.first_line} {}

  int64_t* consumed() { return &consumed_; }
  JsonValue TakeRoot() { return std::move(root_); }
  // Set when a callback refused.
  const std::optional<std::string>& problem() const { return problem_; }
  TextPosition problem_position() { return PositionOf(problem_offset_); }

  bool null() override { return Add(JsonValue::Kind::kNull) != nullptr; }
  bool boolean(bool value) override {
    JsonValue* added = Add(JsonValue::Kind::kBool);
    if (added != nullptr) added->boolean = value;
    return added != nullptr;
  }
  bool number_integer(number_integer_t value) override { return Integer(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Real(static_cast<double>(value));
    }
    return Integer(static_cast<int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t&) override { return Real(value); }
  bool string(string_t& value) override {
    JsonValue* added = Add(JsonValue::Kind::kString);
    if (added != nullptr) added->string = std::move(value);
    return added != nullptr;
  }
  bool binary(binary_t&) override { return Refuse("binary data", consumed_); }
  bool start_object(std::size_t) override { return Open(JsonValue::Kind::kObject); }
  bool start_array(std::size_t) override { return Open(JsonValue::Kind::kArray); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(string_t& value) override {
    const int64_t start = TokenStart();
    cursor_ = consumed_;
    if (open_.back()->members.contains(value)) {
      return Refuse(fmt::format("the key \"{}\" is there twice; remove one", value), start);
    }
    key_ = std::move(value);
    return true;
  }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // The library's text ends in the reason; its own place is a byte count.
    std::string reason = error.what();
    const size_t colon = reason.rfind("; expected");
    reason = colon == std::string::npos ? "" : reason.substr(colon + 1);
    const bool at_end = std::string_view(error.what()).find("end of input") != std::string::npos;
    std::string what = at_end ? "the text ends too early" : "this is not valid JSON";
    if (!reason.empty()) what += ":" + reason;
    return Refuse(what, at_end ? consumed_ : std::max<int64_t>(0, consumed_ - 1));
  }

 private:
  // Start of the token that ends at consumed_: behind the previous token's end lie only blanks and
  // separators.
  int64_t TokenStart() const {
    const size_t start = text_.find_first_not_of(" \t\r\n,:", static_cast<size_t>(cursor_));
    return start == std::string_view::npos ? consumed_ : static_cast<int64_t>(start);
  }

  // Offsets come in rising order, so that each part of the text is counted once.
  TextPosition PositionOf(int64_t offset) {
    for (; counted_ < offset && counted_ < static_cast<int64_t>(text_.size()); ++counted_) {
      if (text_[static_cast<size_t>(counted_)] == '\n') {
        ++position_.line;
        position_.column = 1;
      } else {
        ++position_.column;
      }
    }
    return position_;
  }

  bool Refuse(std::string what, int64_t offset) {
    problem_ = std::move(what);
    problem_offset_ = offset;
    return false;
  }

  JsonValue* Add(JsonValue::Kind kind) {
    const int64_t start = TokenStart();
    cursor_ = consumed_;
    if (++values_ > limits_.max_values) {
      Refuse(fmt::format("more than {} values", limits_.max_values), start);
      return nullptr;
    }
    JsonValue* added = &root_;
    if (!open_.empty()) {
      JsonValue& parent = *open_.back();
      added = parent.kind == JsonValue::Kind::kArray
                  ? &parent.items.emplace_back()
                  : &parent.members.emplace(std::move(key_), JsonValue{}).first->second;
    }
    const TextPosition position = PositionOf(start);
    added->kind = kind;
    added->line = position.line;
    added->column = position.column;
    return added;
  }

  bool Integer(int64_t value) {
    JsonValue* added = Add(JsonValue::Kind::kInteger);
    if (added == nullptr) return false;
    added->integer = value;
    added->real = static_cast<double>(value);
    return true;
  }
  bool Real(double value) {
    JsonValue* added = Add(JsonValue::Kind::kReal);
    if (added != nullptr) added->real = value;
    return added != nullptr;
  }

  // A pointer to an open container stays valid: its own container grows only after it is closed.
  bool Open(JsonValue::Kind kind) {
    if (static_cast<int>(open_.size()) >= limits_.max_depth) {
      return Refuse(fmt::format("nested deeper than {} levels", limits_.max_depth), consumed_ - 1);
    }
    JsonValue* added = Add(kind);
    if (added != nullptr) open_.push_back(added);
    return added != nullptr;
  }
  bool Close() {
    cursor_ = consumed_;
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  JsonLimits limits_;
  int64_t consumed_ = 0;
  int64_t cursor_ = 0;  // end of the previous token, or one character behind it
  int64_t values_ = 0;
  int64_t counted_ = 0;
  TextPosition position_;
  JsonValue root_;
  std::vector<JsonValue*> open_;
  std::string key_;
  std::optional<std::string> problem_;
  int64_t problem_offset_ = 0;
};

}  // namespace

std::string_view Name(JsonValue::Kind kind) {
  switch (kind) {
    case JsonValue::Kind::kNull:
      return "null";
    case JsonValue::Kind::kBool:
      return "a boolean";
    case JsonValue::Kind::kInteger:
      return "an integer";
    case JsonValue::Kind::kReal:
      return "a number";
    case JsonValue::Kind::kString:
      return "a string";
    case JsonValue::Kind::kArray:
      return "a list";
    case JsonValue::Kind::kObject:
      return "an object";
  }
  return "unknown";
}

std::string JsonNode::Place() const { return document_->Place(value_->line, value_->column); }

void JsonNode::Fail(std::string_view what_and_remedy) const {
  document_->Fail(
      value_->line, value_->column,
      path_.empty() ? std::string(what_and_remedy) : fmt::format("{} {}", path_, what_and_remedy));
}

void JsonNode::FailKind(std::string_view wanted) const {
  Fail(fmt::format("is {}; it must be {}", Name(value_->kind), wanted));
}

int64_t JsonNode::AsInteger(int64_t lowest, int64_t highest) const {
  if (value_->kind != JsonValue::Kind::kInteger) FailKind("an integer");
  if (value_->integer < lowest || value_->integer > highest) {
    Fail(fmt::format("is {}; it must be between {} and {}", value_->integer, lowest, highest));
  }
  return value_->integer;
}

double JsonNode::AsReal() const {
  if (value_->kind != JsonValue::Kind::kReal && value_->kind != JsonValue::Kind::kInteger) {
    FailKind("a number");
  }
  return value_->real;
}

bool JsonNode::AsBool() const {
  if (value_->kind != JsonValue::Kind::kBool) FailKind("true or false");
  return value_->boolean;
}

const std::string& JsonNode::AsString() const {
  if (value_->kind != JsonValue::Kind::kString) FailKind("a string");
  return value_->string;
}

void JsonNode::RequireObject() const {
  if (value_->kind != JsonValue::Kind::kObject) FailKind("an object");
}

std::vector<JsonNode> JsonNode::AsArray() const {
  if (value_->kind != JsonValue::Kind::kArray) FailKind("a list");
  std::vector<JsonNode> nodes;
  nodes.reserve(value_->items.size());
  for (size_t i = 0; i < value_->items.size(); ++i) {
    nodes.emplace_back(*document_, value_->items[i], fmt::format("{}[{}]", path_, i));
  }
  return nodes;
}

JsonNode JsonNode::Get(std::string_view key) const {
  RequireObject();
  const auto member = value_->members.find(key);
  if (member == value_->members.end()) Fail(fmt::format("lacks \"{}\"; add it", key));
  return {*document_, member->second,
          path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key)};
}

std::vector<std::string> JsonNode::Keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : value_->members) keys.push_back(key);
  return keys;
}

std::string JsonDocument::Place(int64_t line, int64_t column) const {
  return line > 0 ? fmt::format("{}:{}:{}", file_, line, column) : file_;
}

void JsonDocument::Fail(int64_t line, int64_t column, std::string_view what_and_remedy) const {
  const std::string message =
      fmt::format("{}: error: {}", Place(line, column), OneLine(what_and_remedy));
  if (refusal_ == JsonRefusal::kIoError) throw IoError(message);
  throw ConfigError(message);
}

JsonDocument JsonDocument::Parse(std::string_view text, std::string file, const JsonLimits& limits,
                                 JsonRefusal refusal) {
  JsonDocument document(JsonValue{}, std::move(file), refusal);
  if (static_cast<int64_t>(text.size()) > limits.max_bytes) {
    document.Fail(0, 0,
                  fmt::format("{} bytes; at most {} are read", text.size(), limits.max_bytes));
  }
  TreeBuilder builder(text, limits);
  const bool parsed = nlohmann::json::sax_parse(
      CountingIterator(text.data(), builder.consumed()),
      CountingIterator(text.data() + text.size(), builder.consumed()), &builder);
  if (!parsed) {
    const TextPosition position = builder.problem_position();
    document.Fail(position.line, position.column, builder.problem().value_or("not valid JSON"));
  }
  document.root_ = builder.TakeRoot();
  return document;
}

JsonDocument JsonDocument::ReadFile(const std::filesystem::path& file, const JsonLimits& limits,
                                    JsonRefusal refusal) {
  return Parse(ReadTextFile(file, limits.max_bytes), file.string(), limits, refusal);
}

std::string OneLine(std::string_view text) {
  std::string printable(text);
  for (char& c : printable) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return printable;
}

std::string ReadTextFile(const std::filesystem::path& file, int64_t max_bytes) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) {
    throw IoError(fmt::format("{}: error: there is no such file", file.string()));
  }
  if (!std::filesystem::is_regular_file(status)) {
    throw IoError(fmt::format("{}: error: this is not a regular file", file.string()));
  }
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    throw IoError(fmt::format("{}: error: cannot be opened ({}); check its permissions",
                              file.string(), std::strerror(errno)));
  }
  std::string text;
  std::array<char, 1 << 13> block;
  while (in.read(block.data(), static_cast<std::streamsize>(block.size())) || in.gcount() > 0) {
    text.append(block.data(), static_cast<size_t>(in.gcount()));
    if (static_cast<int64_t>(text.size()) > max_bytes) {
      throw IoError(fmt::format("{}: error: larger than {} bytes, which is the most that is read",
                                file.string(), max_bytes));
    }
  }
  if (in.bad()) throw IoError(fmt::format("{}: error: reading failed", file.string()));
  return text;
}

}  // namespace hearth
