// Strict JSON with positions, for files that others wrote: duplicate keys, trailing text, excessive
// size, depth or number of values are errors; integers are exact; nothing is converted silently.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

struct JsonLimits {
  int64_t max_bytes = int64_t{1} << 20;
  int max_depth = 32;
  int64_t max_values = 1'000'000;  // bounds memory at about 250 bytes each
  int64_t first_line = 1;          // the number of the text's first line in its file
};

// What a refusal throws: ConfigError for what a person configures, IoError for what a program wrote
// and something damaged.
enum class JsonRefusal : uint8_t { kConfigError, kIoError };

struct JsonValue {
  enum class Kind : uint8_t { kNull, kBool, kInteger, kReal, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  bool boolean = false;
  int64_t integer = 0;
  double real = 0.0;  // finite; also set for kInteger. Integers beyond int64 are kReal
  std::string string;
  std::vector<JsonValue> items;
  std::map<std::string, JsonValue, std::less<>> members;
  int64_t line = 0;  // 1-based place of the first character; 0 when unknown
  int64_t column = 0;
};

// "null", "a boolean", ...
std::string_view Name(JsonValue::Kind kind);

class JsonDocument;

// One value inside a document, with the path that leads to it. Borrows the document. Every As* and
// Get* refuses with "FILE:LINE:COLUMN: error: PATH ...".
class JsonNode {
 public:
  JsonNode(const JsonDocument& document, const JsonValue& value, std::string path)
      : document_(&document), value_(&value), path_(std::move(path)) {}

  const JsonValue& value() const { return *value_; }
  // "rope_scaling.factor", "eos_token_id[1]"; empty for the root.
  const std::string& path() const { return path_; }
  bool IsNull() const { return value_->kind == JsonValue::Kind::kNull; }

  int64_t AsInteger(int64_t lowest, int64_t highest) const;
  // A finite number, written as an integer or not.
  double AsReal() const;
  bool AsBool() const;
  const std::string& AsString() const;
  // Refuses anything but an object or an array.
  void RequireObject() const;
  std::vector<JsonNode> AsArray() const;

  // The member or element; Has is true for null members as well.
  bool Has(std::string_view key) const { return value_->members.contains(key); }
  JsonNode Get(std::string_view key) const;
  std::vector<std::string> Keys() const;

  // "FILE:LINE:COLUMN", or "FILE" where there is no line.
  std::string Place() const;
  [[noreturn]] void Fail(std::string_view what_and_remedy) const;

 private:
  [[noreturn]] void FailKind(std::string_view wanted) const;

  const JsonDocument* document_;
  const JsonValue* value_;
  std::string path_;
};

class JsonDocument {
 public:
  // `file` names the text in errors.
  static JsonDocument Parse(std::string_view text, std::string file, const JsonLimits& limits = {},
                            JsonRefusal refusal = JsonRefusal::kConfigError);
  // IoError when the file cannot be read.
  static JsonDocument ReadFile(const std::filesystem::path& file, const JsonLimits& limits = {},
                               JsonRefusal refusal = JsonRefusal::kConfigError);
  // A value built by another reader.
  JsonDocument(JsonValue root, std::string file, JsonRefusal refusal = JsonRefusal::kConfigError)
      : root_(std::move(root)), file_(std::move(file)), refusal_(refusal) {}

  // Valid as long as the document stays where it is.
  JsonNode root() const { return {*this, root_, ""}; }
  const std::string& file() const { return file_; }
  std::string Place(int64_t line, int64_t column) const;
  [[noreturn]] void Fail(int64_t line, int64_t column, std::string_view what_and_remedy) const;

 private:
  JsonValue root_;
  std::string file_;
  JsonRefusal refusal_;
};

// `text` with control characters replaced, so that a hostile name cannot break a message.
std::string OneLine(std::string_view text);

// The file's bytes; IoError when it is not a regular file, unreadable or larger than `max_bytes`.
std::string ReadTextFile(const std::filesystem::path& file, int64_t max_bytes);

}  // namespace hearth
