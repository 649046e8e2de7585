#include "runtime/config/convert_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "kernels/core/error.h"
#include "runtime/config/yaml_document.h"

namespace hearth {

namespace {

// What stands for a list's entry that is a map: where the data is.
std::string ItemText(const YamlNode& item) {
  if (item.IsScalar()) return item.text;
  for (const char* key : {"path", "dataset", "file_name", "name"}) {
    const YamlNode* found = item.Find(key);
    if (found != nullptr && found->IsScalar()) return found->text;
  }
  return item.IsNull() ? "null" : "{...}";
}

void Flatten(const YamlNode& node, const std::string& key, std::vector<ForeignValue>* values) {
  if (node.IsMap()) {
    for (const YamlEntry& entry : node.entries) {
      Flatten(entry.value, key.empty() ? entry.key : fmt::format("{}.{}", key, entry.key), values);
    }
    return;
  }
  ForeignValue value{.key = key, .text = "null", .items = {}};
  if (node.IsScalar()) {
    value.text = node.text;
    value.items = {node.text};
  } else if (node.IsSequence()) {
    for (const YamlNode& item : node.items) value.items.push_back(ItemText(item));
    value.text = fmt::format("[{}]", fmt::join(value.items, ", "));
  }
  values->push_back(std::move(value));
}

// One pass over a command line's characters.
class WordSplitter {
 public:
  WordSplitter(const std::string& text, const std::string& file_name)
      : text_(text), file_name_(file_name) {}

  std::vector<std::string> Split() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '\'' || c == '"') {
        TakeQuoted(c);
      } else if (c == '\\') {
        TakeEscaped();
      } else if (c == '#' && !word_) {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        EndWord();
        ++at_;
      } else {
        Add(c);
        ++at_;
      }
    }
    EndWord();
    return std::move(words_);
  }

 private:
  void Add(char c) {
    if (!word_) word_.emplace();
    word_->push_back(c);
  }

  void EndWord() {
    if (word_) words_.push_back(*std::exchange(word_, std::nullopt));
  }

  // A backslash keeps the next character, and joins a line with the next one.
  void TakeEscaped() {
    const char next = at_ + 1 < text_.size() ? text_[at_ + 1] : '\n';
    if (next != '\n') Add(next);
    at_ += 2;
  }

  void TakeQuoted(char quote) {
    const size_t begin = at_++;
    if (!word_) word_.emplace();
    for (; at_ < text_.size() && text_[at_] != quote; ++at_) {
      const bool escaped = quote == '"' && text_[at_] == '\\' && at_ + 1 < text_.size();
      if (escaped) ++at_;
      Add(text_[at_]);
    }
    if (at_ >= text_.size()) {
      const int64_t line =
          1 + std::count(text_.begin(), text_.begin() + static_cast<int64_t>(begin), '\n');
      const size_t line_begin = begin == 0 ? 0 : text_.rfind('\n', begin - 1) + 1;
      throw ConfigError(fmt::format("{}:{}:{}: error: this quote is not closed; close it",
                                    file_name_, line, begin - line_begin + 1));
    }
    ++at_;
  }

  const std::string& text_;
  const std::string& file_name_;
  size_t at_ = 0;
  std::optional<std::string> word_;
  std::vector<std::string> words_;
};

bool IsOption(const std::string& word) { return word.size() > 2 && word.rfind("--", 0) == 0; }

}  // namespace

std::vector<ForeignValue> ReadForeignYaml(const std::string& text, const std::string& file_name) {
  const YamlDocument document = YamlDocument::Parse(text, file_name);
  if (!document.root().IsMap()) document.Fail("no keys; give the trainer's own configuration file");
  std::vector<ForeignValue> values;
  Flatten(document.root(), "", &values);
  return values;
}

std::vector<ForeignValue> ReadCommandLine(const std::string& text, const std::string& file_name) {
  // UTF-8 of at most 1 MiB without control characters.
  YamlDocument::PlainScalar(text, fmt::format("{}: error", file_name));
  const std::vector<std::string> words = WordSplitter(text, file_name).Split();
  std::vector<ForeignValue> values;
  for (size_t i = 0; i < words.size(); ++i) {
    if (!IsOption(words[i])) continue;  // the program's name and what a starter puts before it
    const size_t equals = words[i].find('=');
    ForeignValue value{.key = words[i].substr(2, equals == std::string::npos ? equals : equals - 2),
                       .text = "true",
                       .items = {}};
    if (equals != std::string::npos) {
      value.text = words[i].substr(equals + 1);
    } else if (i + 1 < words.size() && !IsOption(words[i + 1])) {
      value.text = words[++i];
    }
    value.items = {value.text};
    values.push_back(std::move(value));
  }
  if (values.empty()) {
    throw ConfigError(
        fmt::format("{}: error: no options; give a text file with the command line", file_name));
  }
  return values;
}

}  // namespace hearth
