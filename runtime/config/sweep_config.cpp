#include "runtime/config/sweep_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "runtime/config/codecs.h"
#include "runtime/config/suggestion.h"
#include "runtime/config/sweep_axes.h"

namespace hearth {

template <>
inline constexpr EnumWords<SweepMethod, 3> kEnumWords<SweepMethod> = {
    {{"grid", SweepMethod::kGrid}, {"random", SweepMethod::kRandom}, {"list", SweepMethod::kList}}};

template <>
inline constexpr EnumWords<MetricGoal, 2> kEnumWords<MetricGoal> = {
    {{"minimize", MetricGoal::kMinimize}, {"maximize", MetricGoal::kMaximize}}};

template <>
inline constexpr EnumWords<StoppingRule, 3> kEnumWords<StoppingRule> = {
    {{"none", StoppingRule::kNone},
     {"median", StoppingRule::kMedian},
     {"threshold", StoppingRule::kThreshold}}};

template <>
inline constexpr EnumWords<OnFailure, 2> kEnumWords<OnFailure> = {
    {{"continue", OnFailure::kContinue}, {"stop", OnFailure::kStop}}};

namespace {

constexpr IntegerRange kSteps{.min = 1, .max = kMaxConfigInteger};

// What log.jsonl calls the quantities that a sweep can be about.
constexpr std::array<std::string_view, 6> kMetrics = {
    "eval/loss",           "train/loss", "train/grad_norm", "train/tokens_per_second",
    "train/learning_rate", "mem/device"};
constexpr std::array<std::string_view, 6> kMetricFamilies = {"train/", "eval/", "fp8/",
                                                             "mem/",   "comm/", "gpu/"};

// Reads one map of the file, each key once.
class SectionReader {
 public:
  SectionReader(const YamlDocument& document, const YamlNode& node, std::string_view name,
                const std::vector<std::string_view>& keys)
      : document_(document), node_(node), prefix_(name.empty() ? "" : std::string(name) + ".") {
    document.CheckKeys(node, name.empty() ? "a sweep" : name, keys, {});
  }

  const YamlNode* Find(std::string_view key) const { return node_.Find(key); }
  std::string Place(std::string_view key) const {
    const YamlNode* value = Find(key);
    return document_.Place(value != nullptr ? value->mark : node_.mark);
  }

  template <typename Enum>
  void Word(std::string_view key, Enum* value) const {
    const EnumCodec<Enum> codec;
    if (const YamlNode* node = Find(key)) {
      *value = codec.Read({document_, *node, prefix_ + std::string(key), codec.Form()});
    }
  }
  template <typename Value>
  void Integer(std::string_view key, const IntegerRange& range, Value* value) const {
    if (const YamlNode* node = Find(key)) *value = document_.Integer(*node, Name(key), range);
  }
  void Number(std::string_view key, double* value) const {
    if (const YamlNode* node = Find(key)) *value = document_.Number(*node, Name(key), {});
  }
  void Text(std::string_view key, std::string* value) const {
    if (const YamlNode* node = Find(key)) *value = document_.Text(*node, Name(key));
  }
  // A count, or the word auto for none.
  void CountOrAuto(std::string_view key, std::optional<int64_t>* value) const {
    const YamlNode* node = Find(key);
    if (node == nullptr || (node->IsScalar() && node->text == "auto")) return;
    *value = document_.Integer(*node, Name(key), {.min = 1, .max = 4096});
  }
  [[noreturn]] void Fail(std::string_view key, std::string_view message) const {
    const YamlNode* value = Find(key);
    document_.Fail(value != nullptr ? value->mark : node_.mark,
                   fmt::format("{}: {}", Name(key), message));
  }

 private:
  std::string Name(std::string_view key) const { return prefix_ + std::string(key); }

  const YamlDocument& document_;
  const YamlNode& node_;
  std::string prefix_;
};

SweepMetric ReadMetric(const YamlDocument& document, const YamlNode& node) {
  const SectionReader section(document, node, "metric", {"name", "goal"});
  SweepMetric metric{.place = section.Place("name")};
  section.Text("name", &metric.name);
  section.Word("goal", &metric.goal);
  const std::vector<std::string_view> known(kMetrics.begin(), kMetrics.end());
  const bool is_family =
      std::any_of(kMetricFamilies.begin(), kMetricFamilies.end(), [&](std::string_view family) {
        return metric.name.starts_with(family) && metric.name.size() > family.size();
      });
  if (!is_family || (metric.name.starts_with("eval/") && metric.name != "eval/loss")) {
    const std::string_view meant = ClosestWord(metric.name, known);
    section.Fail("name", fmt::format("no run logs '{}'; {}", Printable(metric.name),
                                     meant.empty() ? fmt::format("write one of {}, or another name "
                                                                 "of log.jsonl",
                                                                 fmt::join(known, ", "))
                                                   : fmt::format("did you mean '{}'?", meant)));
  }
  return metric;
}

SweepEarlyTerminate ReadEarlyTerminate(const YamlDocument& document, const YamlNode& node) {
  const SectionReader section(document, node, "early_terminate",
                              {"type", "threshold", "min_steps", "every"});
  SweepEarlyTerminate early;
  section.Word("type", &early.type);
  section.Number("threshold", &early.threshold);
  section.Integer("every", kSteps, &early.every);
  early.min_steps = early.every;
  section.Integer("min_steps", kSteps, &early.min_steps);
  const bool has_threshold = section.Find("threshold") != nullptr;
  if (early.type == StoppingRule::kThreshold && !has_threshold) {
    section.Fail("threshold",
                 "type threshold needs the value that a run must not be worse than; "
                 "add threshold: NUMBER");
  }
  if (early.type != StoppingRule::kThreshold && has_threshold) {
    section.Fail("threshold", "only type threshold has it; remove it, or write type: threshold");
  }
  for (const char* key : {"min_steps", "every"}) {
    if (early.type == StoppingRule::kNone && section.Find(key) != nullptr) {
      section.Fail(key,
                   "no run is ever stopped early; write type: median or threshold, or remove "
                   "it");
    }
  }
  return early;
}

SweepSchedule ReadSchedule(const YamlDocument& document, const YamlNode& node) {
  const SectionReader section(document, node, "schedule",
                              {"gpus_per_run", "max_parallel", "on_failure", "retries"});
  SweepSchedule schedule{.gpus_per_run_place = section.Place("gpus_per_run")};
  section.CountOrAuto("gpus_per_run", &schedule.gpus_per_run);
  section.CountOrAuto("max_parallel", &schedule.max_parallel);
  section.Word("on_failure", &schedule.on_failure);
  section.Integer("retries", {.min = 0, .max = 100}, &schedule.retries);
  return schedule;
}

void ReadAxes(const YamlDocument& document, const SectionReader& top, SweepConfig* sweep) {
  const YamlNode* parameters = top.Find("parameters");
  const YamlNode* groups = top.Find("groups");
  if (sweep->method == SweepMethod::kList) {
    if (parameters == nullptr) top.Fail("parameters", "a list has none; add the runs");
    if (groups != nullptr) top.Fail("groups", "a list says which values go together; remove it");
    sweep->axes.push_back(ReadList(document, *parameters));
  } else {
    if (parameters != nullptr) {
      sweep->axes = ReadParameters(document, *parameters, sweep->method);
    }
    if (groups != nullptr) ReadGroups(document, *groups, &sweep->axes);
  }
  if (const YamlNode* seeds = top.Find("seeds")) {
    const std::vector<std::string> keys = sweep->Keys();
    if (std::find(keys.begin(), keys.end(), "seed") != keys.end()) {
      top.Fail("seeds", "'seed' varies already; keep one of the two");
    }
    sweep->seeds = ReadSeeds(document, *seeds);
  }
  if (sweep->Keys().empty()) {
    top.Fail("parameters",
             "nothing varies; add parameters: {optimizer.learning_rate: {values: "
             "[...]}}");
  }
  if (const YamlNode* exclude = top.Find("exclude")) {
    sweep->exclusions = ReadExclusions(document, *exclude, sweep->Keys());
  }
}

void CheckMethod(const SectionReader& top, const SweepConfig& sweep) {
  if (sweep.method == SweepMethod::kRandom) {
    if (!sweep.run_cap)
      top.Fail("run_cap", "method random draws as many runs as this says; add it");
  } else if (top.Find("seed") != nullptr) {
    top.Fail("seed",
             "this is the seed of the draws of method random; for the runs' own write "
             "seeds: [...]");
  }
}

}  // namespace

std::vector<std::string> SweepAxis::Paths() const {
  if (draw) return {draw->path};
  std::vector<std::string> paths;
  for (const SweepAlternative& alternative : alternatives) {
    for (const SweepSetting& setting : alternative) {
      if (std::find(paths.begin(), paths.end(), setting.path) == paths.end()) {
        paths.push_back(setting.path);
      }
    }
  }
  return paths;
}

std::vector<std::string> SweepConfig::Keys() const {
  std::vector<std::string> keys;
  for (const SweepAxis& axis : axes) {
    for (std::string& path : axis.Paths()) keys.push_back(std::move(path));
  }
  if (!seeds.empty()) keys.push_back("seed");
  return keys;
}

SweepConfig ParseSweep(std::string_view text, const std::string& file_name) {
  const YamlDocument document = YamlDocument::Parse(text, file_name);
  const YamlNode& root = document.root();
  if (root.IsNull()) document.Fail("the file is empty; write at least base and parameters");
  const SectionReader top(
      document, root, "",
      {"schema_version", "base", "output_dir", "method", "parameters", "groups", "exclude", "seeds",
       "seed", "run_cap", "metric", "early_terminate", "schedule"});
  int64_t version = 1;
  top.Integer("schema_version", {.min = 1, .max = 1}, &version);

  SweepConfig sweep{.file_name = file_name};
  if (top.Find("base") == nullptr) {
    document.Fail(root.mark, "a sweep has no base; add base: RUN.yaml, the run that it varies");
  }
  top.Text("base", &sweep.base);
  sweep.base_place = top.Place("base");
  std::string name = std::filesystem::path(file_name).stem().string();
  if (name.empty() || name == "." || name == "..") name = "sweep";
  sweep.output_dir = "runs/" + name;
  top.Text("output_dir", &sweep.output_dir);
  top.Word("method", &sweep.method);
  top.Integer("seed", {.min = 0, .max = kMaxConfigInteger}, &sweep.seed);
  top.Integer("run_cap", {.min = 1, .max = kMaxSweepRuns}, &sweep.run_cap);
  CheckMethod(top, sweep);
  ReadAxes(document, top, &sweep);
  sweep.metric.place = document.Place(root.mark);
  if (const YamlNode* node = top.Find("metric")) sweep.metric = ReadMetric(document, *node);
  if (const YamlNode* node = top.Find("early_terminate")) {
    sweep.early_terminate = ReadEarlyTerminate(document, *node);
  }
  if (const YamlNode* node = top.Find("schedule")) sweep.schedule = ReadSchedule(document, *node);
  return sweep;
}

}  // namespace hearth
