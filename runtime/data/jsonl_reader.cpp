#include "runtime/data/jsonl_reader.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "kernels/core/error.h"

namespace hearth {

namespace {

// Receives the events of one line. Returning false ends the parse with `problem` set; nothing of
// the document is kept but the wanted field and the names of the top level.
class FieldHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit FieldHandler(const std::string& field) : field_(field) {}

  bool null() override { return Scalar("null"); }
  bool boolean(bool) override { return Scalar("a boolean"); }
  bool number_integer(number_integer_t) override { return Scalar("a number"); }
  bool number_unsigned(number_unsigned_t) override { return Scalar("a number"); }
  bool number_float(number_float_t, const string_t&) override { return Scalar("a number"); }
  bool binary(binary_t&) override { return Scalar("binary data"); }
  bool string(string_t& value) override {
    if (!at_field_) return Scalar("a string");
    at_field_ = false;
    value_ = std::move(value);
    return true;
  }
  bool start_object(std::size_t) override { return Open("an object"); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t) override { return Open("a list"); }
  bool end_array() override { return Close(); }
  bool key(string_t& name) override {
    if (depth_ != 1) return true;
    at_field_ = name == field_;
    if (names_.insert(std::move(name)).second) return true;
    return Fail("a key appears twice");
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    position_ = static_cast<int64_t>(position);
    return Fail("this is not valid JSON in UTF-8");
  }

  const std::string& problem() const { return problem_; }
  int64_t position() const { return position_; }  // of a parse error, 1-based
  std::optional<std::string>& value() { return value_; }

 private:
  bool Fail(std::string what) {
    problem_ = std::move(what);
    return false;
  }
  bool Scalar(const char* kind) {
    if (depth_ == 0) return Fail(fmt::format("the line is {}, not an object", kind));
    if (at_field_) return Fail(fmt::format("\"{}\" is {}, not a string", field_, kind));
    return true;
  }
  bool Open(const char* kind) {
    const bool is_top_object = depth_ == 0 && kind == std::string_view("an object");
    if (!is_top_object && !Scalar(kind)) return false;
    if (++depth_ > kMaxJsonlDepth) {
      return Fail(fmt::format("nested deeper than {} levels", kMaxJsonlDepth));
    }
    return true;
  }
  bool Close() {
    --depth_;
    return true;
  }

  const std::string& field_;
  int depth_ = 0;
  bool at_field_ = false;
  int64_t position_ = 1;
  std::unordered_set<std::string> names_;
  std::optional<std::string> value_;
  std::string problem_;
};

bool IsBlank(std::string_view line) { return line.find_first_not_of(" \t\r") == line.npos; }

}  // namespace

JsonlReader::JsonlReader(std::string path, std::string_view text, std::string field,
                         int64_t first_line)
    : path_(std::move(path)), text_(text), field_(std::move(field)), line_(first_line - 1) {}

void JsonlReader::Refuse(std::string_view what_and_remedy) const {
  throw ConfigError(fmt::format("{}:{}:1: error: {}", path_, line_, what_and_remedy));
}

void JsonlReader::RefuseForm(int64_t column, const std::string& what) const {
  throw ConfigError(
      fmt::format("{}:{}:{}: error: {}; each line must be one JSON object with a string \"{}\"",
                  path_, line_, column, what, field_));
}

std::string JsonlReader::Parse(std::string_view line) const {
  if (static_cast<int64_t>(line.size()) > kMaxJsonlLineBytes) {
    RefuseForm(1, fmt::format("a line of {} bytes, more than {}", line.size(), kMaxJsonlLineBytes));
  }
  FieldHandler handler(field_);
  if (!nlohmann::json::sax_parse(line.begin(), line.end(), &handler)) {
    RefuseForm(handler.position(), handler.problem());
  }
  if (!handler.value()) RefuseForm(1, fmt::format("there is no \"{}\"", field_));
  return std::move(*handler.value());
}

std::optional<std::string> JsonlReader::Next() {
  while (position_ < static_cast<int64_t>(text_.size())) {
    const std::string_view rest = text_.substr(static_cast<size_t>(position_));
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    position_ += static_cast<int64_t>(end == rest.npos ? rest.size() : end + 1);
    ++line_;
    if (!IsBlank(line)) return Parse(line);
  }
  return std::nullopt;
}

}  // namespace hearth
