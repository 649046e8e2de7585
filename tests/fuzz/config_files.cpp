// run.yaml, the command line, sweep.yaml and hardware files: read, resolved and validated.
#include <algorithm>

#include "runtime/config/field_table.h"
#include "runtime/config/overrides.h"
#include "runtime/config/resolved_config.h"
#include "runtime/config/sweep_runs.h"
#include "runtime/plan/hardware_profile.h"
#include "tests/fuzz/targets.h"

namespace hearth::test {

namespace {

// Of a sweep that is expanded; the real limits take seconds.
constexpr int64_t kMaxCombinations = 1000;
constexpr int64_t kMaxRuns = 4;

// What is accepted prints as a text that means the same, origins included.
void RequireSameReadBack(const ResolvedConfig& resolved, const BuildFeatures& features) {
  RunAccepted("its resolved.yaml is refused", [&] {
    const std::string text = resolved.ToYaml();
    const ResolvedConfig again = ParseResolved(text, "resolved.yaml", features);
    Require(again.IdentityText() == resolved.IdentityText(), "resolved.yaml means something else");
    Require(again.ToYaml() == text, "resolved.yaml changes when it is read back");
  });
}

// What every run.yaml has.
constexpr char kLeast[] = "model: {name_or_path: m.yaml}\ndata: {datasets: [{path: a}]}\n";

// Each section of a run.yaml alone.
std::vector<std::string> Sections(const std::string& yaml) {
  std::vector<std::string> sections;
  for (size_t at = 0; at < yaml.size();) {
    size_t end = yaml.find('\n', at);
    while (end != std::string::npos && end + 1 < yaml.size() && yaml[end + 1] == ' ') {
      end = yaml.find('\n', end + 1);
    }
    end = end == std::string::npos ? yaml.size() : end + 1;
    sections.push_back(yaml.substr(at, end - at));
    at = end;
  }
  return sections;
}

std::vector<std::string> Lines(std::string_view text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

}  // namespace

int FuzzRunYaml(const uint8_t* data, size_t size) {
  // Either kind of binary reads every other length.
  const BuildFeatures features{.cuda = size % 2 == 1};
  return RunReader([&] {
    const ResolvedConfig resolved = ParseConfig({.text = std::string(AsText(data, size)),
                                                 .file_name = "run.yaml",
                                                 .overrides = {},
                                                 .features = features});
    // Takes several times as long.
    if (IsInShare(AsText(data, size), 8)) RequireSameReadBack(resolved, features);
  });
}

std::vector<std::string> RunYamlSeeds() {
  std::vector<std::string> seeds = YamlSourceFiles("configs/runs");
  for (const std::string& section : Sections(seeds.at(0))) {
    const bool is_required = section.starts_with("model:") || section.starts_with("data:");
    seeds.push_back(is_required ? section : kLeast + section);
  }
  seeds.push_back(
      "model: {name_or_path: m.yaml}\ndata: {datasets: [{path: 'a*', format: llmc, weight: "
      "0.5}]}\n");
  seeds.push_back(
      ParseConfig({.text = seeds.back(), .file_name = "r.yaml", .overrides = {}, .features = {}})
          .ToYaml());
  return seeds;
}

std::vector<std::string> RunYamlWords() {
  std::vector<std::string> words = StructureWords();
  for (const Field& field : FieldTable()) {
    words.emplace_back(field.leaf());
    words.push_back("\n" + std::string(field.section()) + ":\n  " + std::string(field.leaf()) +
                    ": ");
    for (std::string_view word : field.words) words.emplace_back(word);
  }
  return words;
}

// One argument a line.
int FuzzOverrides(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const SplitArguments split = SplitOverrides(Lines(AsText(data, size)));
    const ResolvedConfig resolved = ParseConfig(
        {.text = kLeast, .file_name = "run.yaml", .overrides = split.overrides, .features = {}});
    // Takes ten times as long.
    if (IsInShare(AsText(data, size), 64)) RequireSameReadBack(resolved, {});
  });
}

std::vector<std::string> OverridesSeeds() {
  return {
      "--learning-rate\n1e-4\n--set\ndata.datasets=[{path: x, weight: 2}]\n",
      "--set=memory.gpu_budget=15.6GiB\n--max-steps=10\nrest\n--\n--seed=1\n",
      "--set\ntraining.max_grad_norm=0\n--recompute=[attention, ffn]\n--set\nrun_name=null\n",
  };
}

std::vector<std::string> OverridesWords() {
  std::vector<std::string> words = {"--set\n", "--set=", "--", "\n", "="};
  for (const Field& field : FieldTable()) {
    std::string option = "--" + std::string(field.leaf());
    std::replace(option.begin(), option.end(), '_', '-');
    words.push_back(option + "=");
    words.push_back("--set\n" + field.path + "=");
    for (std::string_view word : field.words) words.emplace_back(word);
  }
  return words;
}

int FuzzSweepYaml(const uint8_t* data, size_t size) {
  static const std::string base = kLeast;
  return RunReader([&] {
    SweepConfig sweep = ParseSweep(AsText(data, size), "sweep.yaml");
    Require(!sweep.output_dir.empty() && !sweep.base.empty(), "a sweep without base or output");
    int64_t combinations = 1;
    for (const SweepAxis& axis : sweep.axes) {
      Require(axis.draw.has_value() != !axis.alternatives.empty(), "an axis without values");
      if (!axis.draw && combinations <= kMaxCombinations) {
        combinations *= std::ssize(axis.alternatives);
      }
    }
    if (combinations > kMaxCombinations) return;
    const int64_t most_runs = IsInShare(AsText(data, size), 4) ? kMaxRuns : 1;
    sweep.run_cap = std::min(sweep.run_cap.value_or(most_runs), most_runs);
    for (const SweepRun& run : ExpandSweep(sweep, base, {}).runs) {
      Require(run.values.size() == sweep.Keys().size(), "a run without all values");
      // Takes ten times as long.
      if (IsInShare(AsText(data, size), 16)) RequireSameReadBack(run.resolved, {});
    }
  });
}

std::vector<std::string> SweepYamlSeeds() {
  std::vector<std::string> seeds = YamlSourceFiles("configs/sweeps");
  seeds.push_back(R"(base: configs/runs/quickstart.yaml
output_dir: runs/x
method: grid
parameters:
  optimizer.learning_rate: {values: [1.0e-4, 3e-4]}
  training.max_steps: {values: [10, 20]}
  optimizer.weight_decay: {values: [0, 0.1]}
groups: [[optimizer.learning_rate, training.max_steps]]
exclude: [{optimizer.weight_decay: 0.1, seed: 2}]
seeds: [1, 2]
metric: {name: eval/loss, goal: minimize}
early_terminate: {type: median, min_steps: 5, every: 5}
schedule: {gpus_per_run: 1, max_parallel: 2, on_failure: continue, retries: 1}
run_cap: 6
)");
  seeds.push_back(R"(base: b.yaml
method: random
seed: 7
parameters:
  optimizer.learning_rate: {distribution: log_uniform, min: 1e-5, max: 1e-2}
  training.micro_batch_size: {distribution: int_uniform, min: 1, max: 8}
  data.sequence_len: {distribution: int_log_uniform, min: 16, max: 4096}
  optimizer.adam_beta1: {distribution: uniform, min: 0.5, max: 0.95}
run_cap: 3
metric: {name: train/loss, goal: maximize}
early_terminate: {type: threshold, threshold: 9.5, min_steps: 2, every: 1}
)");
  seeds.push_back(R"(base: b.yaml
method: list
parameters: [{seed: 1, optimizer.learning_rate: 1e-3}, {seed: 2, optimizer.learning_rate: 2e-3}]
groups: [[{memory.recompute: none}, {memory.recompute: [ffn]}]]
)");
  return seeds;
}

std::vector<std::string> SweepYamlWords() {
  std::vector<std::string> words = StructureWords();
  for (const char* word : {"base: ",
                           "method: ",
                           "grid",
                           "random",
                           "list",
                           "parameters:",
                           "values: [",
                           "distribution: ",
                           "uniform",
                           "log_uniform",
                           "int_uniform",
                           "int_log_uniform",
                           "min: ",
                           "max: ",
                           "groups: ",
                           "exclude: ",
                           "seeds: ",
                           "metric: ",
                           "early_terminate: ",
                           "schedule: ",
                           "run_cap: ",
                           "threshold",
                           "median",
                           "goal: maximize",
                           "1e308",
                           "1e-308",
                           "5e-324"}) {
    words.emplace_back(word);
  }
  for (const Field& field : FieldTable()) words.push_back(field.path + ": ");
  return words;
}

int FuzzHardware(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const HardwareProfile profile = ParseHardware(AsText(data, size), "hardware.yaml");
    if (!IsInShare(AsText(data, size), 4)) return;
    Require(ParseHardware(HardwareYaml(profile), "again.yaml") == profile,
            "a hardware file means something else when it is read back");
  });
}

std::vector<std::string> HardwareSeeds() { return YamlSourceFiles("configs/hardware"); }

std::vector<std::string> HardwareWords() {
  std::vector<std::string> words = StructureWords();
  for (const char* word :
       {"kind: cpu", "devices: [", "size_gib: 0", "_share: ", "_gbps: ", "1e6"}) {
    words.emplace_back(word);
  }
  return words;
}

}  // namespace hearth::test
