// How the value types of RunConfig are read, printed and described. A codec has
//   using Value; Value Read(const ReadContext&) const; std::string Print(const Value&) const;
//   std::string Form() const; std::vector<std::string_view> Words() const; kIsList.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/config/enum_names.h"
#include "runtime/config/scalar_text.h"
#include "runtime/config/suggestion.h"
#include "runtime/config/yaml_document.h"

namespace hearth {

struct ReadContext {
  const YamlDocument& document;
  const YamlNode& node;
  const std::string& path;  // what messages call the value
  const std::string& form;  // what could be written instead

  [[noreturn]] void Fail(std::string_view problem) const {
    document.Fail(node.mark, fmt::format("{}: {}; write {}", path, problem, form));
  }
  template <typename T>
  T Take(Parsed<T> parsed) const {
    if (!parsed.value) Fail(parsed.problem);
    return std::move(*parsed.value);
  }
  bool IsWord(std::string_view word) const {
    return word == "null" ? node.IsNull() : node.IsScalar() && node.text == word;
  }
};

struct ScalarCodec {
  static constexpr bool kIsList = false;
  std::vector<std::string_view> Words() const { return {}; }
};

struct IntegerCodec : ScalarCodec {
  using Value = int64_t;
  IntegerRange range;
  explicit IntegerCodec(IntegerRange allowed) : range(allowed) {}
  Value Read(const ReadContext& in) const { return in.Take(ReadInteger(in.node, range)); }
  std::string Print(Value value) const { return fmt::format("{}", value); }
  std::string Form() const {
    return range.min == range.max ? Describe(range) : "an integer " + Describe(range);
  }
};

struct NumberCodec : ScalarCodec {
  using Value = double;
  NumberRange range;
  explicit NumberCodec(NumberRange allowed) : range(allowed) {}
  Value Read(const ReadContext& in) const { return in.Take(ReadNumber(in.node, range)); }
  std::string Print(Value value) const { return NumberText(value); }
  std::string Form() const { return "a number " + Describe(range); }
};

struct BooleanCodec {
  static constexpr bool kIsList = false;
  using Value = bool;
  Value Read(const ReadContext& in) const { return in.Take(ReadBoolean(in.node)); }
  std::string Print(Value value) const { return value ? "true" : "false"; }
  std::string Form() const { return "true or false"; }
  std::vector<std::string_view> Words() const { return {"true", "false"}; }
};

struct TextCodec : ScalarCodec {
  using Value = std::string;
  std::string_view form;
  explicit TextCodec(std::string_view described) : form(described) {}
  Value Read(const ReadContext& in) const { return in.Take(ReadText(in.node)); }
  std::string Print(const Value& value) const { return QuoteYaml(value); }
  std::string Form() const { return std::string(form); }
};

template <typename Enum>
struct EnumCodec {
  static constexpr bool kIsList = false;
  using Value = Enum;
  Value Read(const ReadContext& in) const {
    if (!in.node.IsScalar()) in.Fail("the value is not a word");
    for (const auto& [word, value] : kEnumWords<Enum>) {
      if (in.node.text == word) return value;
    }
    const std::string_view meant = ClosestWord(in.node.text, Words());
    const std::string shown = Printable(in.node.text);
    if (meant.empty()) in.Fail(fmt::format("'{}' is not known", shown));
    in.Fail(fmt::format("'{}' is not known (did you mean '{}'?)", shown, meant));
  }
  std::string Print(Value value) const { return std::string(EnumName(value)); }
  std::string Form() const { return fmt::format("{}", fmt::join(Words(), " | ")); }
  std::vector<std::string_view> Words() const {
    std::vector<std::string_view> words;
    for (const auto& [word, value] : kEnumWords<Enum>) words.push_back(word);
    return words;
  }
};

// A value, or the word (`auto` or `null`) for none.
template <typename Inner>
struct OptionalCodec {
  static constexpr bool kIsList = Inner::kIsList;
  using Value = std::optional<typename Inner::Value>;
  std::string_view word;
  Inner inner;
  OptionalCodec(std::string_view none, Inner some) : word(none), inner(std::move(some)) {}
  Value Read(const ReadContext& in) const {
    if (in.IsWord(word)) return std::nullopt;
    return inner.Read(in);
  }
  std::string Print(const Value& value) const {
    return value ? inner.Print(*value) : std::string(word);
  }
  std::string Form() const {
    return Words().empty() ? fmt::format("{}, or {}", word, inner.Form())
                           : fmt::format("{}", fmt::join(Words(), " | "));
  }
  std::vector<std::string_view> Words() const {
    std::vector<std::string_view> words = inner.Words();
    if (!words.empty()) words.insert(words.begin(), word);
    return words;
  }
};

// A text that is empty where the file says null: the key has a default made from another one.
struct DerivedTextCodec : TextCodec {
  using TextCodec::TextCodec;
  Value Read(const ReadContext& in) const { return in.IsWord("null") ? "" : TextCodec::Read(in); }
  std::string Print(const Value& value) const {
    return value.empty() ? "null" : TextCodec::Print(value);
  }
  std::string Form() const { return "null, or " + TextCodec::Form(); }
};

// A list of the inner codec's values, none of them twice.
template <typename Inner>
struct ListCodec {
  static constexpr bool kIsList = true;
  using Value = std::vector<typename Inner::Value>;
  Inner inner;
  explicit ListCodec(Inner element) : inner(std::move(element)) {}
  Value Read(const ReadContext& in) const {
    if (!in.node.IsSequence()) in.Fail("the value is not a list");
    Value values;
    for (const YamlNode& item : in.node.items) {
      const typename Inner::Value value = inner.Read({in.document, item, in.path, in.form});
      if (std::find(values.begin(), values.end(), value) != values.end()) {
        in.document.Fail(item.mark, fmt::format("{}: {} is given twice; remove one", in.path,
                                                inner.Print(value)));
      }
      values.push_back(value);
    }
    return values;
  }
  std::string Print(const Value& values) const {
    std::vector<std::string> texts;
    for (const auto& value : values) texts.push_back(inner.Print(value));
    return fmt::format("[{}]", fmt::join(texts, ", "));
  }
  std::string Form() const { return "a list [a, b] of " + inner.Form(); }
  std::vector<std::string_view> Words() const { return {}; }
};

// auto | none | a list of what to recompute.
struct RecomputeCodec {
  static constexpr bool kIsList = true;
  using Value = std::optional<std::vector<RecomputeItem>>;
  ListCodec<EnumCodec<RecomputeItem>> list{EnumCodec<RecomputeItem>{}};
  Value Read(const ReadContext& in) const;
  std::string Print(const Value& value) const;
  std::string Form() const { return "auto | none | " + list.Form(); }
  std::vector<std::string_view> Words() const { return {}; }
};

struct BudgetCodec : ScalarCodec {
  using Value = MemoryBudget;
  Value Read(const ReadContext& in) const;
  std::string Print(const Value& value) const;
  std::string Form() const { return "a fraction above 0 and at most 1, or a size such as 15.6GiB"; }
};

struct PlanCodec : ScalarCodec {
  using Value = PlanChoice;
  Value Read(const ReadContext& in) const;
  std::string Print(const Value& value) const;
  std::string Form() const { return "auto | manual | a plan.yaml"; }
};

struct ResumeCodec : ScalarCodec {
  using Value = ResumeChoice;
  Value Read(const ReadContext& in) const;
  std::string Print(const Value& value) const;
  std::string Form() const { return "auto | none | a checkpoint's folder"; }
};

// A list of maps {path, format, weight}.
struct DatasetsCodec {
  static constexpr bool kIsList = true;
  using Value = std::vector<DatasetEntry>;
  bool may_be_empty = false;
  explicit DatasetsCodec(bool allow_empty) : may_be_empty(allow_empty) {}
  Value Read(const ReadContext& in) const;
  std::string Print(const Value& value) const;
  std::string Form() const {
    return "a list of {path: FILE or GLOB, format: auto | hearth | llmc | nanogpt | megatron | "
           "llmq, weight: a number above 0}";
  }
  std::vector<std::string_view> Words() const { return {}; }
};

}  // namespace hearth
