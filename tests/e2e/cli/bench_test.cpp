// `hearth bench kernels` and `bench step` from outside; their figures are not judged here.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "tests/support/program.h"

namespace hearth::test {
namespace {

std::string LastLine(const std::string& text) {
  const size_t end = text.find_last_not_of('\n') + 1;
  return text.substr(0, end).substr(text.rfind('\n', end - 1) + 1);
}

// Where the program puts temporary files, while it lives.
class TemporaryFolderVariable {
 public:
  explicit TemporaryFolderVariable(const std::filesystem::path& folder) {
    if (const char* value = getenv("TMPDIR")) before_ = value;
    setenv("TMPDIR", folder.c_str(), 1);
  }
  ~TemporaryFolderVariable() {
    before_ ? setenv("TMPDIR", before_->c_str(), 1) : unsetenv("TMPDIR");
  }
  TemporaryFolderVariable(const TemporaryFolderVariable&) = delete;
  TemporaryFolderVariable& operator=(const TemporaryFolderVariable&) = delete;

 private:
  std::optional<std::string> before_;
};

TEST(BenchTest, KernelsPrintsATableAndALineOfJson) {
  const Workplace workplace;
  WriteTinyRun(workplace, 3);
  const std::vector<std::string> before = workplace.Content();
  const ProgramResult result = workplace.Run(
      {"bench", "kernels", "run.yaml", "--repetitions", "1", "--compute-dtype", "fp32"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(workplace.Content(), before);
  const auto json = nlohmann::json::parse(LastLine(result.output));
  EXPECT_EQ(json.at("bench"), "kernels");
  EXPECT_EQ(json.at("compute_dtype"), "fp32");
  std::set<std::string> ops;
  for (const auto& op : json.at("ops")) {
    ops.insert(op.at("op"));
    EXPECT_GT(op.at("us").get<double>(), 0);
    EXPECT_GT(op.at("calls").get<int64_t>(), 0);
    EXPECT_NE(result.output.find(op.at("shape").get<std::string>()), std::string::npos);
  }
  for (const char* op : {"gemm", "attention backward", "cross entropy", "adamw"}) {
    EXPECT_EQ(ops.count(op), 1u) << op;
  }
}

// Of three steps of so many tokens.
void ExpectConsistentTimes(const nlohmann::json& json, double tokens) {
  auto times = json.at("step_ms").get<std::vector<double>>();
  std::sort(times.begin(), times.end());
  ASSERT_EQ(times.size(), 3u);
  EXPECT_GT(times[0], 0);
  EXPECT_EQ(json.at("step_ms_min"), times[0]);
  EXPECT_EQ(json.at("step_ms_median"), times[1]);
  EXPECT_EQ(json.at("step_ms_max"), times[2]);
  const double speed = tokens / times[1] * 1e3;
  EXPECT_FALSE(!(std::abs(json.at("tokens_per_second").get<double>() - speed) <= 1e-9 * speed));
}

void ExpectMemoryAsPlanned(const nlohmann::json& json) {
  EXPECT_GT(json.at("device_bytes_predicted").get<int64_t>(), 0);
  EXPECT_EQ(json.at("device_bytes_measured"), json.at("device_bytes_predicted"));
  EXPECT_GT(json.at("arena_bytes_predicted").get<int64_t>(), 0);
  EXPECT_EQ(json.at("arena_bytes_measured"), json.at("arena_bytes_predicted"));
  EXPECT_EQ(json.at("host_arena_bytes_measured"), json.at("host_arena_bytes_predicted"));
}

// Data that is not there does not matter, and nothing is left anywhere.
TEST(BenchTest, StepMakesWholeStepsAndKeepsNothing) {
  const Workplace workplace;
  workplace.Write("run.yaml",
                  fmt::format("model: {{name_or_path: {}/configs/models/tiny.yaml}}\n"
                              "data: {{eval_datasets: [{{path: absent}}], sequence_len: 32}}\n"
                              "training: {{max_steps: 40, global_batch_size: 6, "
                              "micro_batch_size: 2}}\n"
                              "lr_scheduler: {{lr_scheduler_type: wsd, warmup_ratio: 0.1, "
                              "decay_steps: 20}}\n"
                              "memory: {{recompute: [swiglu], head_slab_tokens: 16, "
                              "lm_head_chunks: 4}}\n"
                              "parallel: {{zero_stage: 0}}\n",
                              HEARTH_SOURCE_DIR));
  const std::filesystem::path temporary = workplace.folder() / "tmp";
  std::filesystem::create_directory(temporary);
  const std::vector<std::string> before = workplace.Content();
  const TemporaryFolderVariable variable(temporary);
  const ProgramResult result =
      workplace.Run({"bench", "step", "run.yaml", "--steps", "3", "--device", "cpu"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(workplace.Content(), before);
  EXPECT_TRUE(std::filesystem::is_empty(temporary));

  const auto json = nlohmann::json::parse(LastLine(result.output));
  const nlohmann::json expected = {{"bench", "step"},
                                   {"ranks", 1},
                                   {"parameters", 194032},
                                   {"compute_dtype", "fp8"},
                                   {"fp8_recipe", "tensorwise_current"},
                                   {"fp8_fast_accumulation", false},
                                   {"lm_head", "bf16"},
                                   {"sequence_len", 32},
                                   {"global_batch_size", 6},
                                   {"micro_batch_size", 2},
                                   {"micro_batches", 3},
                                   {"head_slab_tokens", 16},
                                   {"head_chunks", 4},
                                   {"recompute", {"swiglu"}},
                                   {"zero_stage", 0},
                                   {"attention", "reference"},
                                   {"deterministic", true},
                                   {"steps", 3},
                                   {"sol", nullptr},
                                   {"mfu", nullptr}};
  for (const auto& [key, value] : expected.items()) EXPECT_EQ(json.at(key), value) << key;
  EXPECT_EQ(json.at("device").get<std::string>().substr(0, 3), "CPU");
  ExpectConsistentTimes(json, 6 * 32);
  EXPECT_GT(json.at("predicted_step_ms").get<double>(), 0);
  EXPECT_EQ(json.at("chosen").at("memory.schedule"), "horizontal");
  EXPECT_EQ(json.at("chosen").count("memory.recompute"), 0u) << "was given";
  ExpectMemoryAsPlanned(json);
  // Nothing can be learnt: random tokens of 256 kinds, and weights that have hardly moved.
  const double loss = json.at("loss");
  EXPECT_FALSE(!(std::abs(loss - std::log(256.0)) <= 0.5)) << loss;
  // For people: the steps with the time left, then the table.
  EXPECT_NE(result.output.find("step 3/5"), std::string::npos);
  EXPECT_NE(result.output.find("ETA"), std::string::npos);
  EXPECT_NE(result.output.find("tokens/s"), std::string::npos);
}

// What crosses the link is counted by the copies themselves, besides a few words of the step; a
// step that is traced is not measured.
TEST(BenchTest, StepCountsTheLinkAndWritesTimelines) {
  const Workplace workplace;
  WriteTinyRun(workplace, 3);
  std::vector<std::string> arguments = {"bench",       "step",    "run.yaml",
                                        "--steps",     "3",       "--device",
                                        "cpu",         "--set",   "memory.optimizer_device=gpu",
                                        "--recompute", "[block]", "--schedule",
                                        "vertical"};
  for (const char* key : {"residual", "optimizer", "gradients", "weights"}) {
    arguments.insert(arguments.end(), {"--set", fmt::format("memory.offload.{}=host", key)});
  }
  arguments.insert(arguments.end(), {"--trace-steps", "[1, 4]"});
  const ProgramResult result = workplace.Run(arguments);
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const auto json = nlohmann::json::parse(LastLine(result.output));
  EXPECT_EQ(json.at("steps"), 2);
  for (const char* way : {"to_device", "to_host"}) {
    const int64_t predicted = json.at(std::string(way) + "_bytes_predicted");
    const int64_t measured = json.at(std::string(way) + "_bytes_measured");
    EXPECT_GT(predicted, 100'000);
    EXPECT_GE(measured, predicted);
    EXPECT_LE(measured, predicted + 1024);
  }
  ASSERT_EQ(json.at("traces").size(), 2u);
  for (const auto& path : json.at("traces").get<std::vector<std::string>>()) {
    std::ifstream file(workplace.folder() / path);
    EXPECT_GT(nlohmann::json::parse(file).at("traceEvents").size(), 20u) << path;
  }
  for (const char* steps : {"[6]", "[3, 4, 5]"}) {
    std::vector<std::string> wrong = arguments;
    wrong.back() = steps;
    const ProgramResult refused = workplace.Run(wrong);
    EXPECT_EQ(refused.exit_code, 2);
    EXPECT_NE(refused.errors.find("logging.trace_steps"), std::string::npos) << refused.errors;
  }
}

// The rows of a table of predictions, kept for the next go; the times are not judged here.
TEST(BenchTest, PredictionsAreListedBesideWhatIsMeasured) {
  const Workplace workplace;
  const auto make_table = [&](const std::string& more) {
    const std::string command = fmt::format(
        "cd {0} && timeout 100 tests/bench/predictions.sh {1} {2}/rows -m tiny -b '20MiB 400MiB' "
        "-s 4 "
        "-n 1 {3} -- --device cpu --sequence-len 32 >{2}/table 2>{2}/errors",
        HEARTH_SOURCE_DIR, HEARTH_BINARY, workplace.folder().string(), more);
    // Short steps are not predicted within any bound.
    EXPECT_TRUE(WIFEXITED(std::system(command.c_str())));
    return workplace.Read("table");
  };
  const std::string table = make_table("");
  for (const char* row : {"| tiny | 20MiB | chosen | does not fit |", "| tiny | 400MiB | 1 |",
                          "| tiny | 400MiB | 4, chosen |", "| tiny | 400MiB | 8 |"}) {
    EXPECT_NE(table.find(row), std::string::npos) << row << " is missing in:\n" << table;
  }
  EXPECT_NE(table.find("\n3 rows measured: worst error "), std::string::npos) << table;
  EXPECT_EQ(table.find("| no |"), std::string::npos) << "arenas as predicted:\n" << table;
  EXPECT_EQ(make_table("-t 0"), table) << "what is there is not run again";
}

TEST(BenchTest, TheBenchRunsThatComeWithHearthAreComplete) {
  const Workplace workplace;
  int runs = 0;
  for (const auto& file : std::filesystem::directory_iterator(
           std::filesystem::path(HEARTH_SOURCE_DIR "/configs/runs/bench"))) {
    SCOPED_TRACE(file.path());
    const ProgramResult result =
        workplace.Run({"bench", "step", file.path(), "--steps", "1", "--device", "cpu",
                       "--name-or-path", "configs/models/tiny.yaml", "--sequence-len", "16",
                       "--micro-batch-size", "1", "--global-batch-size", "2"});
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    ++runs;
  }
  EXPECT_GE(runs, 6);
}

TEST(BenchTest, StepFailsWhereTheLossIsNotFinite) {
  const Workplace workplace;
  WriteTinyRun(workplace, 3);
  const ProgramResult result = workplace.Run({"bench", "step", "run.yaml", "--steps", "12",
                                              "--device", "cpu", "--learning-rate", "1000",
                                              "--weight-decay", "1000", "--on-nonfinite", "skip"});
  EXPECT_EQ(result.exit_code, 1) << result.output;
  EXPECT_NE(result.errors.find("not finite"), std::string::npos) << result.errors;
  EXPECT_EQ(result.output.find("\"bench\""), std::string::npos);
}

TEST(BenchTest, RefusesWhatDoesNotBelongTogether) {
  const Workplace workplace;
  WriteTinyRun(workplace, 3);
  struct Case {
    std::vector<std::string> arguments;
    std::string message;
  };
  for (const Case& c :
       {Case{{"bench", "kernels"}, "RUN.yaml is missing"},
        {{"bench", "kernels", "absent.yaml"}, "absent.yaml"},
        {{"bench", "kernels", "run.yaml", "more.yaml"}, "'more.yaml' is one argument too many"},
        {{"bench", "kernels", "run.yaml", "--threads", "2"}, "--threads belongs to"},
        {{"bench", "kernels", "run.yaml", "--repetitions", "0"}, "--repetitions is a count"},
        {{"bench", "kernels", "run.yaml", "--steps", "2"}, "--steps belongs to hearth bench step"},
        {{"bench", "step"}, "RUN.yaml is missing; usage: hearth bench step"},
        {{"bench", "step", "absent.yaml"}, "absent.yaml"},
        {{"bench", "step", "run.yaml", "--steps", "0"}, "--steps is a count"},
        {{"bench", "step", "run.yaml", "--warmup", "0"}, "--warmup"},
        {{"bench", "step", "run.yaml", "--elements", "2"},
         "--elements belongs to hearth bench cpu"},
        {{"bench", "step", "run.yaml", "--repetitions", "2"}, "--repetitions belongs to"},
        {{"bench", "step", "run.yaml", "-n", "2"}, "-n belongs to hearth bench links"},
        {{"bench", "steps", "run.yaml"}, "no bench 'steps'"},
        {{"bench", "cpu", "--steps", "2"}, "--steps belongs to hearth bench step"},
        {{"bench", "cpu", "run.yaml"}, "takes no run"},
        {{"bench", "cpu", "--learning-rate", "1"}, "takes no run"},
        {{"validate", "run.yaml", "more.yaml"}, "'more.yaml' is one argument too many"}}) {
    const ProgramResult result = workplace.Run(c.arguments);
    EXPECT_EQ(result.exit_code, 2) << result.errors;
    EXPECT_NE(result.errors.find(c.message), std::string::npos) << result.errors;
    EXPECT_EQ(result.output, "");
  }
}

}  // namespace
}  // namespace hearth::test
