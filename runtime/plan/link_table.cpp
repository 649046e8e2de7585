#include "runtime/plan/link_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "kernels/core/error.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

constexpr int64_t kVersion = 1;
constexpr int64_t kMostRanks = 4096;
// By how much another way has to be faster to be worth its memory.
constexpr double kWorthAnotherWay = 0.9;

double NotNegative(const JsonNode& node) {
  const double value = node.AsReal();
  if (value < 0) node.Fail("is negative; run hearth probe again");
  return value == 0 ? 0 : value;  // never -0, which is written otherwise
}

std::vector<std::string> Strings(const JsonNode& list) {
  std::vector<std::string> strings;
  for (const JsonNode& item : list.AsArray()) strings.push_back(item.AsString());
  return strings;
}

LinkDirection ReadDirection(const JsonNode& node, int64_t ranks) {
  return {.from = static_cast<int>(node.Get("from").AsInteger(0, ranks - 1)),
          .to = static_cast<int>(node.Get("to").AsInteger(0, ranks - 1)),
          .way = node.Get("way").AsString(),
          .problem = node.Get("problem").AsString(),
          .gb_per_s = NotNegative(node.Get("gb_per_s")),
          .both_gb_per_s = NotNegative(node.Get("both_gb_per_s"))};
}

LinkFigure ReadFigure(const JsonNode& node) {
  return {.operation = node.Get("operation").AsString(),
          .way = node.Get("way").AsString(),
          .bytes = node.Get("bytes").AsInteger(1, INT64_MAX),
          .microseconds = NotNegative(node.Get("us"))};
}

template <typename Item, typename Print>
std::string List(const std::vector<Item>& items, const Print& print) {
  std::string text = "[";
  for (size_t i = 0; i < items.size(); ++i) {
    text += fmt::format("{}\n    {}", i == 0 ? "" : ",", print(items[i]));
  }
  return text + (items.empty() ? "]" : "\n  ]");
}

bool IsAllowed(const std::string& way, const std::vector<std::string>& allowed) {
  return std::find(allowed.begin(), allowed.end(), way) != allowed.end();
}

// Of those of one operation and size.
const LinkFigure* Fastest(const std::vector<const LinkFigure*>& figures) {
  return *std::min_element(
      figures.begin(), figures.end(),
      [](const LinkFigure* a, const LinkFigure* b) { return a->microseconds < b->microseconds; });
}

// The usable figures of an operation, sizes rising.
std::vector<std::vector<const LinkFigure*>> BySize(const LinkTable& table,
                                                   const std::string& operation,
                                                   const std::vector<std::string>& allowed) {
  std::vector<const LinkFigure*> usable;
  for (const LinkFigure& figure : table.figures) {
    const bool has_problem =
        std::any_of(table.problems.begin(), table.problems.end(),
                    [&](const LinkProblem& problem) { return problem.way == figure.way; });
    if (figure.operation == operation && !has_problem && IsAllowed(figure.way, allowed)) {
      usable.push_back(&figure);
    }
  }
  std::stable_sort(usable.begin(), usable.end(),
                   [](const LinkFigure* a, const LinkFigure* b) { return a->bytes < b->bytes; });
  std::vector<std::vector<const LinkFigure*>> sizes;
  for (const LinkFigure* figure : usable) {
    if (sizes.empty() || sizes.back().front()->bytes != figure->bytes) sizes.emplace_back();
    sizes.back().push_back(figure);
  }
  return sizes;
}

std::string PreferredOf(const std::vector<const LinkFigure*>& figures, const std::string& main) {
  const LinkFigure* fastest = Fastest(figures);
  for (const LinkFigure* figure : figures) {
    const bool is_close = fastest->microseconds >= kWorthAnotherWay * figure->microseconds;
    if (figure->way == main && is_close) return main;
  }
  return fastest->way;
}

}  // namespace

std::string QuotedName(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte >= 0x7F) {
      quoted += '?';  // names of hosts and devices have none, messages may
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

LinkTable ParseLinkTable(std::string_view text, const std::string& file) {
  const JsonDocument document =
      JsonDocument::Parse(text, file, {.max_values = 100'000}, JsonRefusal::kIoError);
  const JsonNode root = document.root();
  root.RequireObject();
  if (root.Get("links_version").AsInteger(0, INT64_MAX) != kVersion) {
    root.Get("links_version").Fail("is of another version of Hearth; run hearth probe again");
  }
  LinkTable table{.machine = {.host = root.Get("host").AsString(),
                              .driver = root.Get("driver").AsString(),
                              .program = root.Get("program").AsString(),
                              .devices = Strings(root.Get("devices"))},
                  .device = root.Get("device").AsString()};
  const auto ranks = std::ssize(table.machine.devices);
  if (ranks < 1 || ranks > kMostRanks) {
    root.Get("devices").Fail("is no list of a machine's devices; run hearth probe again");
  }
  for (const JsonNode& node : root.Get("directions").AsArray()) {
    table.directions.push_back(ReadDirection(node, ranks));
  }
  for (const JsonNode& node : root.Get("figures").AsArray()) {
    table.figures.push_back(ReadFigure(node));
  }
  for (const JsonNode& node : root.Get("problems").AsArray()) {
    table.problems.push_back({node.Get("way").AsString(), node.Get("problem").AsString()});
  }
  return table;
}

std::string LinkTableText(const LinkTable& table) {
  std::string text = fmt::format("{{\n  \"links_version\": {},\n", kVersion);
  const auto line = [&](std::string_view key, const std::string& value, std::string_view end) {
    text += fmt::format("  \"{}\": {}{}\n", key, value, end);
  };
  line("host", QuotedName(table.machine.host), ",");
  line("driver", QuotedName(table.machine.driver), ",");
  line("program", QuotedName(table.machine.program), ",");
  line("device", QuotedName(table.device), ",");
  line("devices", List(table.machine.devices, QuotedName), ",");
  line("directions",
       List(table.directions,
            [](const LinkDirection& d) {
              return fmt::format(
                  "{{\"from\": {}, \"to\": {}, \"way\": {}, \"problem\": {}, "
                  "\"gb_per_s\": {}, \"both_gb_per_s\": {}}}",
                  d.from, d.to, QuotedName(d.way), QuotedName(d.problem), d.gb_per_s,
                  d.both_gb_per_s);
            }),
       ",");
  line("figures",
       List(table.figures,
            [](const LinkFigure& f) {
              return fmt::format("{{\"operation\": {}, \"way\": {}, \"bytes\": {}, \"us\": {}}}",
                                 QuotedName(f.operation), QuotedName(f.way), f.bytes,
                                 f.microseconds);
            }),
       ",");
  line("problems",
       List(table.problems,
            [](const LinkProblem& p) {
              return fmt::format("{{\"way\": {}, \"problem\": {}}}", QuotedName(p.way),
                                 QuotedName(p.problem));
            }),
       "");
  return text + "}\n";
}

std::string DescribeRanks(const std::string& device, const std::vector<std::string>& identities) {
  const std::set<std::string_view> different(identities.begin(), identities.end());
  return different.size() == 1
             ? fmt::format("{} ranks on one {}", identities.size(), device)
             : fmt::format("{} ranks on {} x {}", identities.size(), different.size(), device);
}

std::string WhyStale(const LinkMachine& there, const LinkMachine& here) {
  const auto differs = [](std::string_view what, const std::string& was, const std::string& is) {
    return fmt::format("measured {} '{}', this is '{}'", what, OneLine(was), OneLine(is));
  };
  if (there.host != here.host) return differs("on host", there.host, here.host);
  if (there.driver != here.driver) return differs("with driver", there.driver, here.driver);
  if (there.program != here.program) return differs("by Hearth", there.program, here.program);
  if (there.devices.size() != here.devices.size()) {
    return fmt::format("measured with {} ranks, this are {}", there.devices.size(),
                       here.devices.size());
  }
  for (size_t rank = 0; rank < there.devices.size(); ++rank) {
    if (there.devices[rank] == here.devices[rank]) continue;
    return differs(fmt::format("with rank {} on", rank), there.devices[rank], here.devices[rank]);
  }
  return "";
}

std::vector<WayRule> ChooseWays(const LinkTable& table, const std::vector<std::string>& allowed) {
  const auto gathers = BySize(table, "all-gather", allowed);
  if (gathers.empty()) return {};
  const std::string main = Fastest(gathers.back())->way;
  std::vector<WayRule> rules;
  for (const char* operation : {"all-gather", "reduce-scatter", "all-reduce"}) {
    const auto sizes = BySize(table, operation, allowed);
    if (sizes.empty()) return {};
    const auto first = std::ssize(rules);
    for (size_t i = 0; i < sizes.size(); ++i) {
      const std::string way = PreferredOf(sizes[i], main);
      if (std::ssize(rules) > first) {
        if (rules.back().way == way) continue;
        const double below = static_cast<double>(sizes[i - 1].front()->bytes);
        const double above = static_cast<double>(sizes[i].front()->bytes);
        rules.back().up_to_bytes = static_cast<int64_t>(std::sqrt(below * above));
      }
      rules.push_back({.operation = operation, .way = way});
    }
  }
  return rules;
}

std::string Describe(const std::vector<WayRule>& rules) {
  std::string text;
  std::string operation;
  for (const WayRule& rule : rules) {
    if (rule.operation != operation) {
      text += fmt::format("{}{} by {}", text.empty() ? "" : "; ", rule.operation, rule.way);
    } else {
      text += fmt::format(", then {}", rule.way);
    }
    if (rule.up_to_bytes != INT64_MAX) text += fmt::format(" up to {} bytes", rule.up_to_bytes);
    operation = rule.operation;
  }
  return text;
}

}  // namespace hearth
