#include "runtime/config/convert_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "kernels/core/error.h"
#include "runtime/config/built_values.h"
#include "runtime/config/convert_reader.h"
#include "runtime/config/convert_tables.h"
#include "runtime/config/field_table.h"
#include "runtime/config/suggestion.h"

namespace hearth {

namespace {

constexpr std::string_view kModelToFill = "MODEL";
constexpr std::string_view kDataToFill = "TOKENS.hearth";

// Of two ways to say a thing theirs lets the first win where ours would refuse both.
constexpr std::pair<std::string_view, std::string_view> kExclusive[] = {
    {"training.max_steps", "training.num_epochs"},
    {"lr_scheduler.warmup_steps", "lr_scheduler.warmup_ratio"},
};

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

// Fit for a comment: Printable, and without the control characters beyond ASCII.
std::string Shown(std::string_view text) {
  std::string shown = Printable(text);
  for (size_t at = 0; at + 1 < shown.size(); ++at) {
    if (shown[at] == '\xC2' && static_cast<unsigned char>(shown[at + 1]) < 0xA0) {
      shown.replace(at, 2, "?");
    }
  }
  return shown;
}

// The parts of "a;b;c".
std::vector<std::string_view> SplitWords(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(';', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

bool IsQuiet(const Mapping& mapping, const std::string& text) {
  if (mapping.quiet.empty()) return false;
  const std::vector<std::string_view> words = SplitWords(mapping.quiet);
  return std::find(words.begin(), words.end(), Lower(text)) != words.end();
}

// "a=b;c=d": what stands behind the text.
std::optional<std::string> Translate(std::string_view table, const std::string& text) {
  for (const std::string_view word : SplitWords(table)) {
    const size_t equals = word.find('=');
    if (equals != word.npos && word.substr(0, equals) == Lower(text)) {
      return std::string(word.substr(equals + 1));
    }
  }
  return std::nullopt;
}

// A number as our grammar has it, for "3.0", ".5", "1E-5"; nullopt for what is none.
std::optional<double> LooseNumber(const std::string& text) {
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() ||
      !std::isfinite(number)) {
    return std::nullopt;
  }
  return number;
}

// The digit behind "zero", "z" or "stage" in a name.
std::optional<std::string> ZeroStageIn(const std::string& text) {
  const std::string lower = Lower(text);
  for (size_t at = 1; at < lower.size(); ++at) {
    if (lower[at] < '0' || lower[at] > '3') continue;
    size_t end = at;
    while (end > 0 && (lower[end - 1] == '_' || lower[end - 1] == '-')) --end;
    const std::string before = lower.substr(0, end);
    for (const char* word : {"zero", "z", "stage"}) {
      if (before.ends_with(word)) return std::string(1, lower[at]);
    }
  }
  return std::nullopt;
}

// A name for the shard that the data will be in: the last part of a path or of a name of the hub.
std::string ShardName(const std::vector<std::string>& items) {
  std::string name = items.size() == 1 ? items[0] : "";
  if (const size_t slash = name.find_last_of('/'); slash != name.npos) name.erase(0, slash + 1);
  if (const size_t dot = name.find_last_of('.'); dot != name.npos && dot > 0) name.erase(dot);
  std::erase_if(name, [](char c) {
    return !(std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-');
  });
  return (name.empty() ? "train" : name) + ".hearth";
}

std::string FileList(const std::vector<std::string>& paths) {
  std::vector<std::string> entries;
  for (const std::string& path : paths)
    entries.push_back(fmt::format("{{path: {}}}", QuoteYaml(path)));
  return fmt::format("[{}]", fmt::join(entries, ", "));
}

std::string JoinWords(const std::vector<std::string>& words) {
  return fmt::format("[{}]", fmt::join(words, ", "));
}

struct ChosenValue {
  std::string text;    // as the field prints it
  std::string origin;  // the other program's key; "": its default
  std::string note;
};

class Converter {
 public:
  Converter(const ForeignFormat& format, const ConvertOptions& options)
      : format_(format), options_(options) {}

  ConvertedConfig Convert(const std::vector<ForeignValue>& values) {
    for (const Mapping& mapping : format_.mappings) Apply(mapping, values);
    for (const ForeignValue& value : values) {
      if (!IsKnown(value.key)) Lose(value, "no counterpart");
    }
    for (const auto& [winner, loser] : kExclusive) {
      if (chosen_.count(winner) > 0) chosen_.erase(std::string(loser));
    }
    FillIn("model.name_or_path", options_.model, std::string(kModelToFill));
    FillIn("data.datasets", options_.data.empty() ? "" : FileList({options_.data}),
           FileList({std::string(kDataToFill)}));
    for (const auto& [path, value] : chosen_) {
      if (value.origin.empty()) result_.assumed.push_back(fmt::format("{}: {}", path, value.text));
    }
    result_.yaml = Text();
    return std::move(result_);
  }

 private:
  bool IsKnown(const std::string& key) const {
    const auto& quiet = format_.quiet_keys;
    if (std::find(quiet.begin(), quiet.end(), key) != quiet.end()) return true;
    return std::any_of(format_.mappings.begin(), format_.mappings.end(),
                       [&](const Mapping& mapping) { return mapping.key == key; });
  }

  void Lose(const ForeignValue& value, std::string_view why) {
    result_.lost.push_back(fmt::format("{}: {}: {}", Shown(value.key), Shown(value.text), why));
  }

  void Apply(const Mapping& mapping, const std::vector<ForeignValue>& values) {
    bool given = false;
    for (const ForeignValue& value : values) {
      if (value.key != mapping.key || mapping.key.empty()) continue;
      const bool quiet = IsQuiet(mapping, value.text);
      given |= !quiet;
      if (!quiet) ApplyValue(mapping, value);
    }
    if (given || mapping.fallback.empty()) return;
    const auto before = chosen_.find(mapping.path);
    if (before == chosen_.end() || before->second.origin.empty()) {
      Set(mapping.path, std::string(mapping.fallback), "", "");
    }
  }

  void ApplyValue(const Mapping& mapping, const ForeignValue& value) {
    const auto reason = [&](std::string_view otherwise) {
      return mapping.note.empty() ? otherwise : mapping.note;
    };
    std::optional<std::string> text;
    switch (mapping.rule) {
      case ValueRule::kLost:
        break;
      case ValueRule::kSame:
        text = value.text;
        break;
      case ValueRule::kPositive:
        if (LooseNumber(value.text).value_or(1) <= 0) return;
        text = value.text;
        break;
      case ValueRule::kWords:
        text = Translate(mapping.words, value.text);
        break;
      case ValueRule::kAddToList:
        text = AddedToList(mapping, value);
        break;
      case ValueRule::kReportTo:
        text = ReportTargets(value);
        break;
      case ValueRule::kZeroStage:
        text = ZeroStageIn(value.text);
        break;
      case ValueRule::kDatasets:
        text = FileList({ShardName(value.items)});
        result_.lost.push_back(
            fmt::format("{}: {}: make it of them: hearth prepare --input ... "
                        "--output {}",
                        value.key, Shown(value.text), ShardName(value.items)));
        break;
      case ValueRule::kFiles:
        text = FileList(value.items);
        break;
    }
    if (!text) {
      Lose(value, reason("no counterpart"));
    } else if (const std::string problem =
                   Set(mapping.path, *text, value.key, std::string(mapping.note));
               !problem.empty()) {
      Lose(value, problem);
    }
  }

  std::optional<std::string> AddedToList(const Mapping& mapping, const ForeignValue& value) const {
    const auto word = Translate(mapping.words, value.text);
    const auto before = chosen_.find(mapping.path);
    if (!word || before == chosen_.end() || before->second.origin.empty()) {
      return word ? std::optional("[" + *word + "]") : std::nullopt;
    }
    const std::string& list = before->second.text;
    return list.substr(0, list.size() - 1) + ", " + *word + "]";
  }

  std::optional<std::string> ReportTargets(const ForeignValue& value) {
    std::vector<std::string> targets = {"jsonl"};
    for (const std::string& item : value.items) {
      const std::string name = Lower(item);
      RunConfig trial;
      try {
        SetFieldText(*FindField("logging.report_to"), "[" + name + "]", "", trial);
        if (name != "jsonl") targets.push_back(name);
      } catch (const ConfigError&) {
        if (name != "none" && name != "all") {
          Lose({.key = value.key, .text = item, .items = {}}, "no such target");
        }
      }
    }
    return JoinWords(targets);
  }

  // Takes the value if the field does: "" then, else why not. What is not built is not taken.
  std::string Set(std::string_view path, const std::string& text, const std::string& origin,
                  const std::string& note) {
    const Field* field = FindField(path);
    std::vector<std::string> forms = {text};
    if (const auto number = LooseNumber(text)) {
      if (*number == std::floor(*number) && std::abs(*number) < 1e12) {
        forms.push_back(fmt::format("{}", static_cast<int64_t>(*number)));
      }
      forms.push_back(NumberText(*number));
    }
    if (const std::string lower = Lower(text); lower == "true" || lower == "false") {
      forms.push_back(lower);
    }
    std::string problem;
    for (const std::string& form : forms) {
      RunConfig trial;
      try {
        SetFieldText(*field, form, "", trial);
      } catch (const ConfigError&) {
        problem = fmt::format("{} takes {}", path, field->form);
        continue;
      }
      const std::string printed = field->print(trial);
      const auto built = BuiltValues(*field, {.cuda = true});
      if (!built.empty() && std::find(built.begin(), built.end(), printed) == built.end()) {
        return fmt::format("{}: {} is not built yet; it is left at {}", path, printed,
                           field->print(RunConfig()));
      }
      chosen_[std::string(path)] = {.text = printed, .origin = origin, .note = note};
      return "";
    }
    return problem;
  }

  // What only the user knows: their option, else what the file said, else a name to replace.
  void FillIn(std::string_view path, const std::string& given, const std::string& place_holder) {
    if (!given.empty()) {
      const std::string problem = Set(path, given, "command line", "");
      if (!problem.empty()) throw ConfigError(fmt::format("command line: error: {}", problem));
    } else if (chosen_.count(path) == 0) {
      Set(path, place_holder, "to be filled in", "");
      result_.missing.push_back(std::string(path));
    }
  }

  std::string Text() const {
    std::string text = fmt::format("# From {} ({}) by hearth convert-config.\n",
                                   Shown(options_.file_name), format_.title);
    std::vector<std::string> open;  // sections that the next line may go on in
    for (const Field& field : FieldTable()) {
      const auto value = chosen_.find(field.path);
      if (value == chosen_.end()) continue;
      AppendField(field, value->second, &open, &text);
    }
    AppendList("To be filled in:", result_.missing, &text);
    AppendList(fmt::format("Assumed, as {} does where it is not told:", format_.title),
               result_.assumed, &text);
    AppendList("No counterpart:", result_.lost, &text);
    return text;
  }

  static void AppendField(const Field& field, const ChosenValue& value,
                          std::vector<std::string>* open, std::string* text) {
    std::vector<std::string> sections;
    const std::string_view section = field.section();
    for (size_t begin = 0; begin < section.size();) {
      const size_t end = std::min(section.find('.', begin), section.size());
      sections.emplace_back(section.substr(begin, end - begin));
      begin = end + 1;
    }
    for (size_t depth = 0; depth < sections.size(); ++depth) {
      if (depth < open->size() && (*open)[depth] == sections[depth]) continue;
      open->resize(depth);
      *text += fmt::format("{:{}}{}:\n", "", 2 * depth, sections[depth]);
      open->push_back(sections[depth]);
    }
    open->resize(sections.size());
    std::string comment = value.origin.empty() ? "assumed" : Shown(value.origin);
    if (!value.note.empty()) comment += "; " + value.note;
    *text += fmt::format("{:{}}{}: {}  # {}\n", "", 2 * sections.size(), field.leaf(), value.text,
                         comment);
  }

  static void AppendList(const std::string& title, const std::vector<std::string>& lines,
                         std::string* text) {
    if (lines.empty()) return;
    *text += fmt::format("\n# {}\n", title);
    for (const std::string& line : lines) *text += fmt::format("#   {}\n", line);
  }

  const ForeignFormat& format_;
  const ConvertOptions& options_;
  std::map<std::string, ChosenValue, std::less<>> chosen_;
  ConvertedConfig result_;
};

}  // namespace

std::vector<std::string_view> ForeignFormatNames() {
  std::vector<std::string_view> names;
  for (const ForeignFormat& format : ForeignFormats()) names.push_back(format.name);
  return names;
}

ConvertedConfig ConvertConfig(const std::string& text, const ConvertOptions& options) {
  for (const ForeignFormat& format : ForeignFormats()) {
    if (format.name != options.format) continue;
    return Converter(format, options)
        .Convert(format.is_command_line ? ReadCommandLine(text, options.file_name)
                                        : ReadForeignYaml(text, options.file_name));
  }
  throw ConfigError(fmt::format("command line: error: --from {}: not known; write {}",
                                Shown(options.format), fmt::join(ForeignFormatNames(), " | ")));
}

}  // namespace hearth
