// Reading single keys of run.yaml: values, places of errors, advice.
#include "runtime/config/run_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "runtime/config/field_table.h"
#include "tests/unit/config/config_test_support.h"

namespace hearth {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(RunConfig, MinimalFileGetsEveryDefault) {
  RunConfig expected;
  expected.model.name_or_path = "tiny.yaml";
  expected.data.datasets = {{.path = "a.hearth"}};
  expected.run_name = "run";
  expected.output_dir = "runs/run";
  EXPECT_EQ(ParseRun(kMinimal).config, expected);
}

// The values of the design, written out once more.
TEST(RunConfig, DefaultsAreThoseOfTheDesign) {
  const RunConfig config = ParseRun(kMinimal).config;
  EXPECT_EQ(config.seed, 42);
  EXPECT_TRUE(config.deterministic);
  EXPECT_EQ(config.device, DeviceKind::kAuto);
  EXPECT_EQ(config.data.sequence_len, 1024);
  EXPECT_EQ(config.training.num_epochs, 1);
  EXPECT_FALSE(config.training.max_steps.has_value());
  EXPECT_EQ(config.training.global_batch_size, 64);
  EXPECT_FALSE(config.training.micro_batch_size.has_value());
  EXPECT_EQ(config.optimizer.learning_rate, 3.0e-4);
  EXPECT_EQ(config.optimizer.adam_beta2, 0.95);
  EXPECT_EQ(config.optimizer.adam_epsilon, 1.0e-8);
  EXPECT_EQ(config.optimizer.m_dtype, FloatDtype::kBf16);
  EXPECT_EQ(config.optimizer.master_dtype, MasterDtype::kFp32);
  EXPECT_EQ(config.lr_scheduler.warmup_ratio, 0.03);
  EXPECT_EQ(config.precision.compute_dtype, ComputeDtype::kFp8);
  EXPECT_EQ(config.precision.grad_dtype, FloatDtype::kBf16);
  EXPECT_EQ(config.parallel.zero_stage, 1);
  EXPECT_EQ(config.memory.gpu_budget.fraction, 0.95);
  EXPECT_EQ(config.memory.host_budget.fraction, 0.80);
  EXPECT_EQ(config.memory.head_slab_tokens, 4096);
  EXPECT_EQ(config.comm.init_timeout_s, 300);
  EXPECT_EQ(config.comm.collective_timeout_s, 100);
  EXPECT_EQ(config.checkpoint.save_steps, 500);
  EXPECT_EQ(config.checkpoint.save_interval_minutes, 15);
  EXPECT_EQ(config.checkpoint.save_total_limit, 3);
  EXPECT_EQ(config.resilience.max_skipped_steps, 10);
  EXPECT_EQ(config.eval.eval_steps, 100);
  EXPECT_EQ(config.eval.eval_max_batches, 40);
}

TEST(RunConfig, LeafNamesAreUniqueOutsideOffload) {
  std::set<std::string_view> seen;
  for (const Field& field : FieldTable()) {
    EXPECT_FALSE(field.meaning.empty()) << field.path;
    EXPECT_FALSE(field.form.empty()) << field.path;
    EXPECT_FALSE(IsSection(field.path)) << field.path;
    if (field.section() == "memory.offload") continue;
    EXPECT_TRUE(seen.insert(field.leaf()).second) << field.path;
  }
  EXPECT_GT(seen.size(), 60U);
}

TEST(RunConfig, NamesComeFromTheFile) {
  const ResolvedConfig resolved = ParseConfig(
      {.text = kMinimal, .file_name = "some/where/my.run.yaml", .overrides = {}, .features = {}});
  EXPECT_EQ(resolved.config.run_name, "my.run");
  EXPECT_EQ(resolved.config.output_dir, "runs/my.run");
  EXPECT_EQ(MoreConfig("run_name: abc\n").output_dir, "runs/abc");
  EXPECT_EQ(MoreConfig("run_name: abc\noutput_dir: /x/y\n").output_dir, "/x/y");
  for (const char* name : {"a/b", "..", "."}) {
    EXPECT_THAT(MoreError(std::string("run_name: ") + name + "\n"),
                StartsWith("run.yaml:5:11: error: run_name: a run's name is that of a folder; "));
  }
}

TEST(RunConfig, RequiredKeysAreAskedFor) {
  EXPECT_EQ(RunError("data: {datasets: [{path: x}]}\n"),
            "run.yaml: error: model.name_or_path is required; add model: {name_or_path: "
            "configs/models/tiny.yaml}");
  EXPECT_EQ(RunError("model: {name_or_path: x}\n"),
            "run.yaml: error: data.datasets is required; add data: {datasets: [{path: FILE}]}");
  EXPECT_EQ(RunError("model: {name_or_path: x}\ndata: {datasets: [{weight: 2.0}]}\n"),
            "run.yaml:2:19: error: data.datasets[0] has no 'path'; add it");
  EXPECT_THAT(
      RunError("model: {name_or_path: x}\ndata: {datasets: []}\n"),
      StartsWith("run.yaml:2:18: error: data.datasets: the list is empty; write a list of"));
  EXPECT_THAT(RunError(""), StartsWith("run.yaml: error: the file is empty; "));
  EXPECT_THAT(RunError("# nothing\n"), StartsWith("run.yaml: error: the file is empty; "));
  EXPECT_THAT(RunError("- a\n"), StartsWith("run.yaml:1:1: error: a configuration is a map"));
  EXPECT_THAT(RunError("hello\n"), StartsWith("run.yaml:1:1: error: a configuration is a map"));
}

TEST(RunConfig, RequiredKeysMayComeFromTheCommandLine) {
  const RunConfig config =
      ParseRun("seed: 1\n", {"--name-or-path", "m", "--datasets", "[{path: d}]"}).config;
  EXPECT_EQ(config.model.name_or_path, "m");
  EXPECT_EQ(config.data.datasets[0].path, "d");
}

TEST(RunConfig, UnknownKeyNamesTheNearest) {
  EXPECT_EQ(MoreError("optimizer: {learning_rat: 1e-4}\n"),
            "run.yaml:5:13: error: unknown key 'learning_rat' in 'optimizer'; did you mean "
            "'learning_rate'?");
  EXPECT_EQ(MoreError("optimiser:\n  learning_rate: 1e-4\n"),
            "run.yaml:5:1: error: unknown key 'optimiser'; did you mean 'optimizer'?");
  EXPECT_EQ(MoreError("sed: 1\n"), "run.yaml:5:1: error: unknown key 'sed'; did you mean 'seed'?");
  EXPECT_EQ(
      MoreError("memory: {offload: {mastr: host}}\n"),
      "run.yaml:5:20: error: unknown key 'mastr' in 'memory.offload'; did you mean 'master'?");
  EXPECT_THAT(
      RunError("model: {name_or_path: x}\ndata: {datasets: [{path: x, wieght: 2}]}\n"),
      StartsWith("run.yaml:2:29: error: unknown key 'wieght' in data.datasets[0]; did you mean "
                 "'weight'?"));
  EXPECT_THAT(MoreError("parallel: {qqqqqqqqqqq: 1}\n"),
              HasSubstr("allowed here are zero_stage, reduction_order"));
}

TEST(RunConfig, MisplacedKeyNamesItsSection) {
  EXPECT_EQ(
      MoreError("training: {learning_rate: 1e-4}\n"),
      "run.yaml:5:12: error: unknown key 'learning_rate' in 'training'; 'learning_rate' belongs "
      "to section 'optimizer'; move it there (optimizer.learning_rate)");
  EXPECT_EQ(
      MoreError("max_steps: 3\n"),
      "run.yaml:5:1: error: unknown key 'max_steps'; 'max_steps' belongs to section 'training'; "
      "move it there (training.max_steps)");
  EXPECT_EQ(
      MoreError("training: {seed: 3}\n"),
      "run.yaml:5:12: error: unknown key 'seed' in 'training'; 'seed' belongs to the top level; "
      "move it there");
  EXPECT_THAT(MoreError("offload: {m: host}\n"),
              HasSubstr("'offload' belongs to section 'memory'"));
  EXPECT_THAT(MoreError("training: {memory: {plan: auto}}\n"),
              HasSubstr("'memory' belongs to the top level"));
  EXPECT_EQ(
      MoreError("optimizer.learning_rate: 1e-4\n"),
      "run.yaml:5:1: error: unknown key 'optimizer.learning_rate'; sections are nested; write "
      "optimizer: {learning_rate: ...}");
}

TEST(RunConfig, NamesOfOtherTrainersAreTranslated) {
  EXPECT_THAT(MoreError("optimizer: {lr: 1e-4}\n"),
              HasSubstr("did you mean 'optimizer.learning_rate'?"));
  EXPECT_THAT(MoreError("training: {per_device_train_batch_size: 1}\n"),
              HasSubstr("did you mean 'training.micro_batch_size'?"));
}

TEST(RunConfig, DuplicateKeyAndSectionAreErrors) {
  EXPECT_THAT(MoreError("seed: 1\nseed: 1\n"),
              StartsWith("run.yaml:6:1: error: duplicate key 'seed', already given in line 5"));
  EXPECT_THAT(MoreError("data: {sequence_len: 8}\n"),
              StartsWith("run.yaml:5:1: error: duplicate key 'data', already given in line 3"));
}

TEST(RunConfig, SectionsAreMaps) {
  EXPECT_THAT(MoreError("training: 5\n"),
              StartsWith("run.yaml:5:11: error: section 'training' has no keys; "));
  EXPECT_THAT(MoreError("training:\n"), StartsWith("run.yaml:5:1: error: section 'training'"));
  EXPECT_THAT(MoreError("training: [max_steps]\n"), StartsWith("run.yaml:5:11: error: section"));
  EXPECT_EQ(MoreError("training: {}\n"), "no error");
  EXPECT_THAT(MoreError("seed: {a: 1}\n"),
              StartsWith("run.yaml:5:7: error: seed: a map is not allowed here; write an integer"));
}

TEST(RunConfig, SchemaVersionIsOneAndComesFirst) {
  EXPECT_EQ(MoreError("schema_version: 1\n"), "no error");
  EXPECT_EQ(RunError("new_key: 1\nschema_version: 2\n"),
            "run.yaml:2:17: error: schema_version: 2 is not 1; write 1");
}

TEST(RunConfig, NumbersAreStrict) {
  const auto seed = [](const std::string& text) { return MoreError("seed: " + text + "\n"); };
  EXPECT_EQ(seed("010"),
            "run.yaml:5:7: error: seed: '010' has a leading zero; write an integer at least 0");
  EXPECT_THAT(seed("+1"), HasSubstr("has a sign +"));
  EXPECT_THAT(seed("1_000"), HasSubstr("has an underscore"));
  EXPECT_THAT(seed("0x10"), HasSubstr("has a base prefix"));
  EXPECT_THAT(seed("0o10"), HasSubstr("has a base prefix"));
  EXPECT_THAT(seed("1.0"), HasSubstr("has a fraction or an exponent"));
  EXPECT_THAT(seed("1e3"), HasSubstr("has a fraction or an exponent"));
  EXPECT_THAT(seed("1099511627777"), HasSubstr("is beyond 2^40"));
  EXPECT_THAT(seed("-1"), HasSubstr("-1 is not at least 0"));
  EXPECT_THAT(seed("\"42\""), HasSubstr("is in quotes"));
  EXPECT_THAT(seed("null"), HasSubstr("there is no value"));
  EXPECT_THAT(seed("true"), HasSubstr("is not an integer"));
  const auto rate = [](const std::string& text) {
    return MoreError("optimizer: {learning_rate: " + text + "}\n");
  };
  for (const char* text : {".nan", ".inf", "-.inf", "nan", "inf"}) {
    EXPECT_THAT(rate(text), StartsWith("run.yaml:5:28: error: optimizer.learning_rate: ")) << text;
  }
  EXPECT_THAT(rate("0"), HasSubstr("0 is not above 0 and at most 1000"));
  EXPECT_THAT(rate("1e400"), HasSubstr("too large or too small"));
  EXPECT_EQ(rate("1e-4"), "no error");
}

TEST(RunConfig, RangesHold) {
  const auto error = [](const std::string& section, const std::string& pair) {
    return MoreError(section + ": {" + pair + "}\n");
  };
  for (const auto& [section, pair] :
       {std::pair{"training", "max_steps: 0"}, {"training", "num_epochs: 0"},
        {"training", "micro_batch_size: 0"},   {"training", "global_batch_size: 0"},
        {"training", "max_grad_norm: -1"},     {"training", "z_loss: -0.1"},
        {"optimizer", "adam_beta1: 1.0"},      {"optimizer", "adam_beta2: -0.1"},
        {"optimizer", "adam_epsilon: 0"},      {"optimizer", "weight_decay: -0.1"},
        {"lr_scheduler", "warmup_ratio: 1.1"}, {"lr_scheduler", "min_lr_ratio: 2"},
        {"parallel", "zero_stage: 4"},         {"memory", "gpu_budget: 1.5"},
        {"memory", "gpu_budget: 0"},           {"memory", "gpu_budget: 0GiB"},
        {"memory", "gpu_budget: 12"},          {"memory", "head_slab_tokens: 0"},
        {"comm", "init_timeout_s: 0"},         {"checkpoint", "save_total_limit: 0"},
        {"logging", "logging_steps: 0"},       {"launch", "nproc_per_node: 0"}}) {
    EXPECT_THAT(error(section, pair), HasSubstr(" is ")) << pair;
    EXPECT_THAT(error(section, pair), HasSubstr("; write ")) << pair;
  }
}

TEST(RunConfig, WordsAreChecked) {
  EXPECT_EQ(MoreError("precision: {compute_dtype: bf61}\n"),
            "run.yaml:5:28: error: precision.compute_dtype: 'bf61' is not known (did you mean "
            "'bf16'?); write fp32 | bf16 | fp8");
  EXPECT_THAT(MoreError("device: tpu\n"), HasSubstr("write auto | cpu | cuda"));
  EXPECT_EQ(MoreConfig("precision: {compute_dtype: 'bf16'}\n").precision.compute_dtype,
            ComputeDtype::kBf16);
}

TEST(RunConfig, BooleansAreStrict) {
  for (const char* word : {"yes", "True", "1", "on", "'true'"}) {
    EXPECT_THAT(MoreError(std::string("deterministic: ") + word + "\n"),
                HasSubstr("; write true or false"));
  }
  EXPECT_FALSE(MoreConfig("deterministic: false\n").deterministic);
}

TEST(RunConfig, ListsAreRead) {
  const RunConfig config =
      MoreConfig("memory: {recompute: [swiglu, block]}\nlogging: {report_to: []}\n");
  ASSERT_TRUE(config.memory.recompute.has_value());
  EXPECT_EQ(*config.memory.recompute,
            (std::vector<RecomputeItem>{RecomputeItem::kSwiglu, RecomputeItem::kBlock}));
  EXPECT_TRUE(config.logging.report_to.empty());
  EXPECT_TRUE(MoreConfig("memory: {recompute: none}\n").memory.recompute->empty());
  EXPECT_FALSE(MoreConfig("memory: {recompute: auto}\n").memory.recompute.has_value());
  EXPECT_EQ(MoreError("logging:\n  report_to: [jsonl, jsonl]\n"),
            "run.yaml:6:22: error: logging.report_to: jsonl is given twice; remove one");
  EXPECT_THAT(MoreError("logging: {report_to: jsonl}\n"), HasSubstr("is not a list"));
  EXPECT_THAT(MoreError("logging: {report_to: [jsonl, comet]}\n"),
              StartsWith("run.yaml:5:30: error: logging.report_to: 'comet' is not known"));
  EXPECT_THAT(MoreError("logging: {report_to: [jsonl,,tensorboard]}\n"), HasSubstr("error: "));
}

TEST(RunConfig, DatasetsAreRead) {
  const RunConfig config = ParseRun(
                               "model: {name_or_path: m}\n"
                               "data:\n"
                               "  datasets:\n"
                               "    - path: a/*.bin\n"
                               "      format: llmc\n"
                               "      weight: 0.25\n"
                               "    - {path: 'b c'}\n"
                               "  eval_datasets: [{path: e}]\n")
                               .config;
  EXPECT_EQ(config.data.datasets[0], (DatasetEntry{"a/*.bin", DataFormat::kLlmc, 0.25}));
  EXPECT_EQ(config.data.datasets[1], (DatasetEntry{"b c", DataFormat::kAuto, 1.0}));
  EXPECT_EQ(config.data.eval_datasets.size(), 1U);
  const auto error = [](const std::string& entry) {
    return RunError("model: {name_or_path: m}\ndata: {datasets: [" + entry + "]}\n");
  };
  EXPECT_THAT(error("{path: x, weight: 0}"),
              StartsWith("run.yaml:2:37: error: data.datasets[0].weight: 0 is not above 0"));
  EXPECT_THAT(error("{path: x, format: csv}"),
              StartsWith("run.yaml:2:37: error: data.datasets[0].format: 'csv' is not known"));
  EXPECT_THAT(error("x.hearth"),
              StartsWith("run.yaml:2:19: error: data.datasets[0] must be a map"));
  EXPECT_THAT(error("{path: ''}"), HasSubstr("the text is empty"));
}

TEST(RunConfig, BudgetsAreSharesOrSizes) {
  EXPECT_EQ(MoreConfig("memory: {gpu_budget: 0.5}\n").memory.gpu_budget,
            (MemoryBudget{.fraction = 0.5, .bytes = std::nullopt}));
  EXPECT_EQ(MoreConfig("memory: {gpu_budget: 15.6GiB}\n").memory.gpu_budget.bytes, 16750372454);
  EXPECT_THAT(MoreError("memory: {gpu_budget: 15.6 GiB}\n"), HasSubstr("a size such as 15.6GiB"));
}

TEST(RunConfig, ResumeIsAWordOrAFolder) {
  EXPECT_EQ(MoreConfig("checkpoint: {resume: none}\n").checkpoint.resume.mode, ResumeMode::kNone);
  const ResumeChoice folder = MoreConfig("checkpoint: {resume: ./none}\n").checkpoint.resume;
  EXPECT_EQ(folder.mode, ResumeMode::kFolder);
  EXPECT_EQ(folder.path, "./none");
}

TEST(RunConfig, WarmupStepsRoundUp) {
  const auto steps = [](double ratio, int64_t total) {
    LrSchedulerSection section;
    section.warmup_ratio = ratio;
    return WarmupSteps(section, total);
  };
  EXPECT_EQ(steps(0.03, 1000), 30);
  EXPECT_EQ(steps(0.07, 100), 7);
  EXPECT_EQ(steps(0.03, 10), 1);
  EXPECT_EQ(steps(0.0, 10), 0);
  EXPECT_EQ(steps(1.0, 10), 10);
  LrSchedulerSection section;
  section.warmup_steps = 5;
  section.warmup_ratio.reset();
  EXPECT_EQ(WarmupSteps(section, 1000), 5);
}

}  // namespace
}  // namespace hearth
