#include "runtime/config/resolved_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>

#include "kernels/core/error.h"
#include "runtime/config/config_paths.h"
#include "runtime/config/field_table.h"
#include "tests/unit/config/config_test_support.h"

namespace hearth {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kExample = std::string(HEARTH_SOURCE_DIR) + "/configs/runs/example.yaml";

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// A configuration in which every leaf that can differ from its default does.
const std::string kUnusual =
    "run_name: 'null'\n"
    "output_dir: \"o \\\" ut: #1\"\n"
    "seed: 7\ndeterministic: false\ndevice: cpu\n"
    "model: {name_or_path: \"m: [x]\", init: random}\n"
    "data:\n"
    "  datasets:\n"
    "    - {path: 'd, e]  # default', format: llmq, weight: 0.3333333333333333}\n"
    "    - {path: '~'}\n"
    "  eval_datasets: [{path: \"\xC3\xA9\"}]\n"
    "  sequence_len: 48\n  sample_packing: false\n  data_seed: 9\n"
    "training: {max_tokens: 1000000, micro_batch_size: 2, gradient_accumulation_steps: 3,\n"
    "           max_grad_norm: 0.7, z_loss: 1e-4}\n"
    "optimizer: {learning_rate: 1.2345678901234567e-3, adam_beta1: 0.85, adam_beta2: 0.999,\n"
    "            adam_epsilon: 1e-7, weight_decay: 0, m_dtype: fp32, v_dtype: fp32,\n"
    "            master_dtype: bf16_stochastic}\n"
    "lr_scheduler: {lr_scheduler_type: wsd, warmup_steps: 3, decay_steps: 5, min_lr_ratio: 0.2}\n"
    "precision: {compute_dtype: bf16, fp8_format: hybrid, grad_dtype: fp32}\n"
    "parallel: {zero_stage: 0, reduction_order: rank_then_micro}\n"
    "memory:\n"
    "  plan: manual\n  gpu_budget: 15.6GiB\n  host_budget: 3GiB\n  recompute: [norm, block]\n"
    "  offload: {optimizer: host, weights: none}\n"
    "  schedule: horizontal\n  micro_batches_per_group: 1\n  optimizer_device: cpu\n"
    "  lm_head_chunks: 2\n  head_slab_tokens: 128\n  attention_chunks: 1\n"
    "comm: {backend: mpi, init_timeout_s: 2.5, collective_timeout_s: 3}\n"
    "checkpoint: {resume: some/folder, save_steps: 0, save_interval_minutes: 0.1,\n"
    "             save_total_limit: null, async_save: false, export_hf: none}\n"
    "resilience: {on_nonfinite: skip, max_skipped_steps: 1, max_restarts: 0, heartbeat_s: 0.5}\n"
    "eval: {eval_steps: 0, eval_max_batches: null}\n"
    "logging: {logging_steps: 3, report_to: []}\n"
    "launch: {nproc_per_node: 2, bind_cores: false}\n";

TEST(ResolvedConfig, TextHasEveryKeyOncePerLineWithItsOrigin) {
  ResolvedConfig resolved = ParseRun(kMinimal + "seed: 7\n", {"--learning-rate", "1e-4"});
  resolved.SetPlanned("training.micro_batch_size", "8");
  const std::string text = resolved.ToYaml();
  EXPECT_THAT(text, HasSubstr("\nmodel:\n  name_or_path: tiny.yaml  # run.yaml:2\n"));
  EXPECT_THAT(text, HasSubstr("\nseed: 7  # run.yaml:5\n"));
  EXPECT_THAT(text, HasSubstr("\n  learning_rate: 0.0001  # command line\n"));
  EXPECT_THAT(text, HasSubstr("\n  micro_batch_size: 8  # planner\n"));
  EXPECT_THAT(text, HasSubstr("\n  adam_beta1: 0.9  # default\n"));
  EXPECT_THAT(text, HasSubstr("\n  offload:\n    m: auto  # default\n"));
  EXPECT_THAT(text, HasSubstr("\n    optimizer: null  # default\n  schedule: auto  # default\n"));
  const auto lines = std::count(text.begin(), text.end(), '\n');
  const int64_t sections = 15;  // 14, and offload
  EXPECT_EQ(lines, 1 + sections + static_cast<int64_t>(FieldTable().size()));
}

TEST(ResolvedConfig, TextLoadsToTheSameConfiguration) {
  for (const std::string& source : {kMinimal, kUnusual, ReadAll(kExample)}) {
    const ResolvedConfig first = ParseRun(source, {"--data-seed", "3"});
    const ResolvedConfig again = ParseConfig(
        {.text = first.ToYaml(), .file_name = "resolved.yaml", .overrides = {}, .features = {}});
    EXPECT_EQ(again.config, first.config);
    EXPECT_THAT(again.ToYaml(), HasSubstr("# resolved.yaml:"));
  }
}

TEST(ResolvedConfig, ParseResolvedGivesTheSameText) {
  for (const std::string& source : {kMinimal, kUnusual, ReadAll(kExample)}) {
    ResolvedConfig first = ParseRun(source, {"--data-seed", "3"});
    first.SetPlanned("memory.lm_head_chunks", "5");
    const ResolvedConfig again = ParseResolved(first.ToYaml(), "run.yaml", {});
    EXPECT_EQ(again.config, first.config);
    EXPECT_EQ(again.ToYaml(), first.ToYaml());
  }
}

TEST(ResolvedConfig, ParseResolvedKeepsPlacesForMessages) {
  const ResolvedConfig first = ParseRun(kMinimal + "lr_scheduler: {warmup_steps: 11}\n");
  const ResolvedConfig again = ParseResolved(first.ToYaml(), "run.yaml", {});
  EXPECT_THAT(ErrorOf([&] { CheckRunLength(again, 10); }),
              StartsWith("run.yaml:5: error: lr_scheduler.warmup_steps: "));
}

TEST(ResolvedConfig, ParseResolvedRefusesOtherTexts) {
  EXPECT_THAT(ErrorOf([&] { ParseResolved(kMinimal, "x", {}); }),
              HasSubstr("not a text written by"));
  std::string cut = ParseRun(kMinimal).ToYaml();
  cut.resize(cut.rfind("  bind_cores"));
  EXPECT_THAT(ErrorOf([&] { ParseResolved(cut, "x", {}); }), HasSubstr("not a text written by"));
}

TEST(ResolvedConfig, OriginNeverBreaksALine) {
  const ResolvedConfig resolved = ParseConfig({.text = kMinimal,
                                               .file_name = "a\nmodel: {x}  # y\n.yaml",
                                               .overrides = {},
                                               .features = {}});
  const ResolvedConfig again = ParseResolved(resolved.ToYaml(), "x", {});
  EXPECT_EQ(again.config, resolved.config);
  EXPECT_EQ(again.ToYaml(), resolved.ToYaml());
}

TEST(ResolvedConfig, OverridesApplyToAResolvedFile) {
  const std::string text = ParseRun(kUnusual).ToYaml();
  const RunConfig config =
      ParseRun(text, {"--max-steps", "20", "--global-batch-size", "16", "--lr-scheduler-type",
                      "cosine", "--compute-dtype", "fp32"})
          .config;
  EXPECT_EQ(config.training.max_steps, 20);
  EXPECT_FALSE(config.training.max_tokens.has_value());
  EXPECT_EQ(config.training.global_batch_size, 16);
  EXPECT_FALSE(config.training.gradient_accumulation_steps.has_value());
  EXPECT_FALSE(config.lr_scheduler.decay_steps.has_value());
}

TEST(ResolvedConfig, IdentityIgnoresNameFolderAndOrigin) {
  const ResolvedConfig a = ParseRun(kMinimal + "seed: 7\n");
  const ResolvedConfig b =
      ParseRun(kMinimal, {"--seed", "7", "--run-name", "x", "--output-dir", "y"});
  const ResolvedConfig c = ParseRun(kMinimal, {"--seed", "8"});
  EXPECT_EQ(a.IdentityText(), b.IdentityText());
  EXPECT_NE(a.IdentityText(), c.IdentityText());
  EXPECT_THAT(a.IdentityText(), HasSubstr("training.global_batch_size: 64\n"));
  EXPECT_THAT(a.IdentityText(), Not(HasSubstr("run_name")));
}

TEST(ResolvedConfig, PlannedValuesAreChecked) {
  ResolvedConfig resolved = ParseRun(kMinimal);
  resolved.SetPlanned("memory.recompute", "[swiglu]");
  EXPECT_EQ(resolved.config.memory.recompute->size(), 1U);
  EXPECT_THAT(ErrorOf([&] { resolved.SetPlanned("memory.lm_head_chunks", "0"); }),
              StartsWith("planner: error: memory.lm_head_chunks: "));
  EXPECT_THROW(resolved.SetPlanned("memory.nothing", "0"), CheckError);
}

TEST(ExampleConfig, HoldsEveryKeyWithItsDefault) {
  const ResolvedConfig example = LoadConfig(kExample, "", {}, {});
  RunConfig expected;
  expected.run_name = "example";
  expected.output_dir = "runs/example";
  expected.model.name_or_path = example.config.model.name_or_path;
  expected.data.datasets = example.config.data.datasets;
  EXPECT_EQ(example.config, expected);
  for (const auto& [path, origin] : example.origins) {
    EXPECT_EQ(origin.kind, OriginKind::kFile) << path << " is missing";
  }
}

TEST(ExampleConfig, EveryRunInTheRepositoryIsValid) {
  const std::filesystem::path folder = std::string(HEARTH_SOURCE_DIR) + "/configs/runs";
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".yaml") continue;
    ++files;
    EXPECT_EQ(ErrorOf([&] { LoadConfig(entry.path().string(), "", {}, {}); }), "no error");
  }
  EXPECT_GE(files, 1);
}

// A mutated file is read or refused with its name in front; nothing else may happen. What is read
// must survive the way through resolved.yaml.
TEST(ConfigMutation, MutatedFilesAreReadOrRefused) {
  const std::string seed_texts[] = {ReadAll(kExample), kUnusual};
  std::mt19937_64 random(20261122);
  const auto below = [&](size_t limit) { return static_cast<size_t>(random() % limit); };
  const std::string kAlphabet =
      "\n\n  :-[]{},#'\"|>&*!%@?~0123456789.+eE_xnulautofalse\t\r\\\xC3\xA9";
  int read = 0;
  int refused = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string text = seed_texts[round % 2];
    const size_t edits = 1 + below(4);
    for (size_t edit = 0; edit < edits && !text.empty(); ++edit) {
      const size_t at = below(text.size());
      const size_t length = std::min(1 + below(8), text.size() - at);
      switch (below(5)) {
        case 0:
          text[at] = kAlphabet[below(kAlphabet.size())];
          break;
        case 1:
          text[at] = static_cast<char>(below(256));
          break;
        case 2:
          text.insert(at, 1, kAlphabet[below(kAlphabet.size())]);
          break;
        case 3:
          text.erase(at, length);
          break;
        default:
          text.insert(below(text.size()), text.substr(at, length * 4));
          break;
      }
    }
    try {
      const ResolvedConfig resolved = ParseRun(text);
      ASSERT_EQ(ParseResolved(resolved.ToYaml(), "run.yaml", {}).config, resolved.config) << text;
      ++read;
    } catch (const ConfigError& error) {
      ASSERT_THAT(error.what(), StartsWith("run.yaml:"));
      ASSERT_THAT(error.what(), HasSubstr(": error: "));
      ASSERT_THAT(error.what(), Not(HasSubstr("\n")));
      ++refused;
    }
  }
  EXPECT_GT(read, 100);
  EXPECT_GT(refused, 1000);
}

class ConfigFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::path(::testing::TempDir()) /
        ("hearth_config_" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) +
         "_" + ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_ / "installed/runs");
    std::ofstream(folder_ / "installed/runs/a.yaml") << kMinimal;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

TEST_F(ConfigFiles, AreFoundInTheWorkingDirectoryThenInstalled) {
  const std::string installed = (folder_ / "installed").string();
  EXPECT_EQ(FindConfigFile("configs/runs/a.yaml", installed), folder_ / "installed/runs/a.yaml");
  EXPECT_EQ(FindConfigFile("runs/a.yaml", installed), folder_ / "installed/runs/a.yaml");
  EXPECT_EQ(FindConfigFile("runs/b.yaml", installed), std::nullopt);
  EXPECT_EQ(FindConfigFile("", installed), std::nullopt);
  EXPECT_EQ(FindConfigFile("/configs/runs/a.yaml", installed), std::nullopt);
  EXPECT_EQ(FindConfigFile("runs/a.yaml", ""), std::nullopt);
  const std::string absolute = (folder_ / "installed/runs/a.yaml").string();
  EXPECT_EQ(FindConfigFile(absolute, ""), absolute);
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::create_directories(folder_ / "work/runs");
  std::ofstream(folder_ / "work/runs/a.yaml") << kMinimal;
  std::filesystem::current_path(folder_ / "work");
  const auto found = FindConfigFile("runs/a.yaml", installed);
  std::filesystem::current_path(before);
  EXPECT_EQ(found, "runs/a.yaml");
}

TEST_F(ConfigFiles, AreNamedAsGiven) {
  const std::string installed = (folder_ / "installed").string();
  const ResolvedConfig resolved = LoadConfig("configs/runs/a.yaml", installed, {}, {});
  EXPECT_EQ(resolved.Place("model.name_or_path"), "configs/runs/a.yaml:2:17");
  EXPECT_EQ(resolved.config.run_name, "a");
  EXPECT_EQ(ErrorOf([&] { LoadConfig("no/such.yaml", installed, {}, {}); }),
            "no/such.yaml: error: there is no such file; give the path of a run.yaml");
}

TEST_F(ConfigFiles, FoldersAndLargeFilesAreRefused) {
  EXPECT_THAT(ErrorOf([&] { ReadConfigText(folder_, "f"); }),
              StartsWith("f: error: this is a folder"));
  std::ofstream(folder_ / "large") << std::string((1 << 20) + 1, '#');
  EXPECT_THAT(ErrorOf([&] { ReadConfigText(folder_ / "large", "f"); }),
              StartsWith("f: error: the file is larger than 1 MiB"));
  EXPECT_THAT(ErrorOf([&] { ReadConfigText(folder_ / "missing", "f"); }),
              StartsWith("f: error: cannot be opened"));
}

}  // namespace
}  // namespace hearth
