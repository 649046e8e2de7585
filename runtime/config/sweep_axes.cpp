#include "runtime/config/sweep_axes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "runtime/config/codecs.h"
#include "runtime/config/field_table.h"
#include "runtime/config/suggestion.h"

namespace hearth {

template <>
inline constexpr EnumWords<Distribution, 4> kEnumWords<Distribution> = {
    {{"uniform", Distribution::kUniform},
     {"log_uniform", Distribution::kLogUniform},
     {"int_uniform", Distribution::kIntUniform},
     {"int_log_uniform", Distribution::kIntLogUniform}}};

namespace {

// What a run of a sweep is given by the sweep itself.
struct ReservedKey {
  std::string_view path;
  std::string_view reason;
};
constexpr std::array kReserved = {
    ReservedKey{"schema_version", "it is the format of the file"},
    ReservedKey{"run_name", "each run is named by its id"},
    ReservedKey{"output_dir", "each run has a folder of the sweep's, named by its id"},
    ReservedKey{"checkpoint.resume", "the sweep resumes its runs itself"},
    ReservedKey{"launch.hostfile", "the runs of a sweep share this host"},
};

void RequireItems(const YamlDocument& document, const YamlNode& node, std::string_view name,
                  std::string_view form) {
  if (!node.IsSequence()) {
    document.Fail(node.mark, fmt::format("{} is not a list; write {}", name, form));
  }
  if (node.items.empty()) {
    document.Fail(node.mark, fmt::format("{} is empty; write {}, or remove it", name, form));
  }
}

void RequireEntries(const YamlDocument& document, const YamlNode& node, std::string_view name,
                    std::string_view form) {
  if (!node.IsMap() || node.entries.empty()) {
    document.Fail(node.mark, fmt::format("{} names no key; write {}", name, form));
  }
}

// The key of the run that is meant: its path, or the leaf alone.
const Field& FindKey(const YamlDocument& document, std::string_view key, const YamlMark& mark) {
  const Field* field = FindField(key);
  if (field == nullptr && key.find('.') == std::string_view::npos) field = FindLeaf(key);
  if (field == nullptr) {
    const size_t dot = key.rfind('.');
    const std::string advice =
        IsSection(key) ? fmt::format("this is a section; write {}.KEY", key)
                       : KeyAdvice(dot == std::string_view::npos ? "" : key.substr(0, dot),
                                   key.substr(dot == std::string_view::npos ? 0 : dot + 1));
    document.Fail(mark, fmt::format("a run has no key '{}'; {}", Printable(key), advice));
  }
  for (const ReservedKey& reserved : kReserved) {
    if (field->path == reserved.path) {
      document.Fail(
          mark, fmt::format("'{}' cannot be varied: {}; remove it", field->path, reserved.reason));
    }
  }
  return *field;
}

SweepSetting ReadSetting(const YamlDocument& document, const Field& field, const YamlNode& node) {
  RunConfig scratch;
  field.read(scratch, document, node);
  return {.path = field.path, .value = field.print(scratch), .place = document.Place(node.mark)};
}

SweepAlternative ReadAlternative(const YamlDocument& document, const YamlNode& node,
                                 std::string_view name) {
  RequireEntries(document, node, name, "{key: value, ...}");
  SweepAlternative settings;
  for (const YamlEntry& entry : node.entries) {
    const Field& field = FindKey(document, entry.key, entry.key_mark);
    for (const SweepSetting& other : settings) {
      if (other.path != field.path) continue;
      document.Fail(entry.key_mark, fmt::format("'{}' is given twice; remove one", field.path));
    }
    settings.push_back(ReadSetting(document, field, entry.value));
  }
  return settings;
}

bool AreEqual(const SweepAlternative& a, const SweepAlternative& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const SweepSetting& x, const SweepSetting& y) {
                      return x.path == y.path && x.value == y.value;
                    });
}

void AddAlternative(const YamlDocument& document, const YamlMark& mark,
                    SweepAlternative alternative, SweepAxis* axis) {
  for (const SweepAlternative& other : axis->alternatives) {
    if (!AreEqual(other, alternative)) continue;
    document.Fail(mark, fmt::format("the same as the value at {}; remove one", other[0].place));
  }
  axis->alternatives.push_back(std::move(alternative));
}

// A bound of a draw: a value that the key itself may have.
double ReadBound(const YamlDocument& document, const Field& field, const YamlNode& node,
                 std::string_view name) {
  ReadSetting(document, field, node);
  return document.Number(node, fmt::format("{}.{}", field.path, name), {});
}

SweepDraw ReadDraw(const YamlDocument& document, const Field& field, const YamlNode& node,
                   SweepMethod method) {
  const std::string name = fmt::format("parameters.{}", field.path);
  document.CheckKeys(node, name, {"distribution", "min", "max"}, {"distribution", "min", "max"});
  const YamlNode& word = *node.Find("distribution");
  const EnumCodec<Distribution> codec;
  SweepDraw draw{.path = field.path, .place = document.Place(node.mark)};
  draw.distribution = codec.Read({document, word, name + ".distribution", codec.Form()});
  if (method != SweepMethod::kRandom) {
    document.Fail(word.mark,
                  "a distribution needs method: random; write {values: [...]}, or "
                  "change the method");
  }
  draw.min = ReadBound(document, field, *node.Find("min"), "min");
  draw.max = ReadBound(document, field, *node.Find("max"), "max");
  if (!(draw.min < draw.max)) {
    document.Fail(node.Find("max")->mark,
                  fmt::format("max {} is not above min {}; swap or change them",
                              NumberText(draw.max), NumberText(draw.min)));
  }
  const bool is_log = draw.distribution == Distribution::kLogUniform ||
                      draw.distribution == Distribution::kIntLogUniform;
  if (is_log && !(draw.min > 0)) {
    document.Fail(node.Find("min")->mark,
                  fmt::format("{} draws logarithms, and min is {}; write a number above 0",
                              word.text, NumberText(draw.min)));
  }
  const bool is_integer = draw.distribution == Distribution::kIntUniform ||
                          draw.distribution == Distribution::kIntLogUniform;
  for (const char* bound : {"min", "max"}) {
    if (is_integer) document.Integer(*node.Find(bound), name + "." + bound, {});
  }
  return draw;
}

SweepAxis ReadAxis(const YamlDocument& document, const Field& field, const YamlNode& node,
                   SweepMethod method) {
  constexpr std::string_view kForm = "{values: [...]} or {distribution: ..., min: ..., max: ...}";
  const std::string name = fmt::format("parameters.{}", field.path);
  if (!node.IsMap()) {
    document.Fail(node.mark, fmt::format("{} does not say how it varies; write {}", name, kForm));
  }
  SweepAxis axis;
  if (node.Find("values") == nullptr && node.Find("distribution") != nullptr) {
    axis.draw = ReadDraw(document, field, node, method);
    return axis;
  }
  document.CheckKeys(node, name, {"values", "distribution"}, {});
  const YamlNode* values = node.Find("values");
  if (values == nullptr || node.Find("distribution") != nullptr) {
    document.Fail(node.mark, fmt::format("{}: write {}", name, kForm));
  }
  RequireItems(document, *values, name + ".values", "[a, b, ...]");
  for (const YamlNode& value : values->items) {
    AddAlternative(document, value.mark, {ReadSetting(document, field, value)}, &axis);
  }
  return axis;
}

bool Varies(const SweepAxis& axis, std::string_view path) {
  const std::vector<std::string> paths = axis.Paths();
  return std::find(paths.begin(), paths.end(), path) != paths.end();
}

// A group of names: their values are taken together, the first with the first.
void JoinAxes(const YamlDocument& document, const YamlNode& group, std::vector<SweepAxis>* axes) {
  std::vector<size_t> members;
  for (const YamlNode& name : group.items) {
    const Field& field = FindKey(document, name.text, name.mark);
    const auto found = std::find_if(axes->begin(), axes->end(), [&](const SweepAxis& axis) {
      return Varies(axis, field.path);
    });
    const auto index = static_cast<size_t>(found - axes->begin());
    if (found == axes->end()) {
      document.Fail(name.mark, fmt::format("'{}' has no values in parameters; add {}: "
                                           "{{values: [...]}} there",
                                           field.path, field.path));
    }
    if (found->draw) {
      document.Fail(name.mark,
                    fmt::format("'{}' is drawn, so it cannot move with others; give it values, or "
                                "remove it from the group",
                                field.path));
    }
    const bool is_grouped = found->alternatives[0].size() > 1;
    if (is_grouped || std::find(members.begin(), members.end(), index) != members.end()) {
      document.Fail(name.mark, fmt::format("'{}' is in a group already; remove it", field.path));
    }
    const size_t wanted =
        members.empty() ? found->alternatives.size() : (*axes)[members[0]].alternatives.size();
    if (found->alternatives.size() != wanted) {
      document.Fail(name.mark,
                    fmt::format("'{}' has {} values and '{}' has {}; values that move together "
                                "must be as many",
                                field.path, found->alternatives.size(),
                                (*axes)[members[0]].Paths()[0], wanted));
    }
    members.push_back(index);
  }
  SweepAxis& first = (*axes)[members[0]];
  for (size_t i = 0; i < first.alternatives.size(); ++i) {
    for (size_t m = 1; m < members.size(); ++m) {
      first.alternatives[i].push_back((*axes)[members[m]].alternatives[i][0]);
    }
  }
  std::vector<size_t> joined(members.begin() + 1, members.end());
  std::sort(joined.rbegin(), joined.rend());
  for (const size_t index : joined) axes->erase(axes->begin() + static_cast<int64_t>(index));
}

// A group of maps: each is one alternative.
SweepAxis ReadMaps(const YamlDocument& document, const YamlNode& group,
                   const std::vector<SweepAxis>& axes) {
  SweepAxis axis;
  for (const YamlNode& item : group.items) {
    SweepAlternative alternative = ReadAlternative(document, item, "an alternative of a group");
    for (const YamlEntry& entry : item.entries) {
      const std::string& path = FindKey(document, entry.key, entry.key_mark).path;
      const auto varies = [&](const SweepAxis& other) { return Varies(other, path); };
      if (std::any_of(axes.begin(), axes.end(), varies)) {
        document.Fail(entry.key_mark, fmt::format("'{}' varies in parameters or another group "
                                                  "already; remove one",
                                                  path));
      }
      if (!axis.alternatives.empty() && !Varies(axis, path)) {
        document.Fail(entry.key_mark,
                      fmt::format("'{}' is missing in the alternative before; write the same keys "
                                  "in each",
                                  path));
      }
    }
    if (!axis.alternatives.empty() && alternative.size() != axis.alternatives[0].size()) {
      document.Fail(item.mark,
                    "this alternative has fewer keys than the one before; write the "
                    "same keys in each");
    }
    std::sort(alternative.begin(), alternative.end(),
              [&](const SweepSetting& a, const SweepSetting& b) { return a.path < b.path; });
    AddAlternative(document, item.mark, std::move(alternative), &axis);
  }
  return axis;
}

}  // namespace

std::vector<SweepAxis> ReadParameters(const YamlDocument& document, const YamlNode& node,
                                      SweepMethod method) {
  RequireEntries(document, node, "parameters", "{optimizer.learning_rate: {values: [...]}}");
  std::vector<SweepAxis> axes;
  for (const YamlEntry& entry : node.entries) {
    const Field& field = FindKey(document, entry.key, entry.key_mark);
    for (const SweepAxis& other : axes) {
      if (!Varies(other, field.path)) continue;
      document.Fail(entry.key_mark, fmt::format("'{}' is given twice; remove one", field.path));
    }
    axes.push_back(ReadAxis(document, field, entry.value, method));
  }
  return axes;
}

SweepAxis ReadList(const YamlDocument& document, const YamlNode& node) {
  RequireItems(document, node, "parameters of method list", "[{key: value, ...}, ...]");
  SweepAxis axis;
  for (const YamlNode& item : node.items) {
    SweepAlternative alternative = ReadAlternative(document, item, "a run of the list");
    AddAlternative(document, item.mark, std::move(alternative), &axis);
  }
  return axis;
}

void ReadGroups(const YamlDocument& document, const YamlNode& node, std::vector<SweepAxis>* axes) {
  constexpr std::string_view kForm = "[[key, key]] or [[{key: value, ...}, {key: value, ...}]]";
  RequireItems(document, node, "groups", kForm);
  for (const YamlNode& group : node.items) {
    RequireItems(document, group, "a group", kForm);
    const auto all = [&](YamlNode::Kind kind) {
      return std::all_of(group.items.begin(), group.items.end(),
                         [&](const YamlNode& item) { return item.kind == kind; });
    };
    if (all(YamlNode::Kind::kMap)) {
      axes->push_back(ReadMaps(document, group, *axes));
    } else if (!all(YamlNode::Kind::kScalar)) {
      document.Fail(group.mark,
                    fmt::format("a group is a list of keys or a list of maps; write {}", kForm));
    } else if (group.items.size() < 2) {
      document.Fail(group.mark,
                    "a group of one key groups nothing; add the keys that move with "
                    "it, or remove it");
    } else {
      JoinAxes(document, group, axes);
    }
  }
}

std::vector<SweepAlternative> ReadExclusions(const YamlDocument& document, const YamlNode& node,
                                             const std::vector<std::string>& varied) {
  RequireItems(document, node, "exclude", "[{key: value, ...}, ...]");
  std::vector<SweepAlternative> exclusions;
  for (const YamlNode& item : node.items) {
    exclusions.push_back(ReadAlternative(document, item, "an exclusion"));
    for (const YamlEntry& entry : item.entries) {
      const std::string& path = FindKey(document, entry.key, entry.key_mark).path;
      if (std::find(varied.begin(), varied.end(), path) != varied.end()) continue;
      document.Fail(entry.key_mark, fmt::format("'{}' is the same in every run; exclude by keys "
                                                "that vary: {}",
                                                path, fmt::join(varied, ", ")));
    }
  }
  return exclusions;
}

std::vector<SweepSetting> ReadSeeds(const YamlDocument& document, const YamlNode& node) {
  RequireItems(document, node, "seeds", "[1, 2, 3]");
  SweepAxis axis;
  for (const YamlNode& item : node.items) {
    AddAlternative(document, item.mark, {ReadSetting(document, *FindField("seed"), item)}, &axis);
  }
  std::vector<SweepSetting> seeds;
  for (SweepAlternative& alternative : axis.alternatives) seeds.push_back(alternative[0]);
  return seeds;
}

}  // namespace hearth
