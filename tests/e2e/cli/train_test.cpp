// `hearth train` and its neighbours on a tiny model.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/program.h"

namespace hearth::test {
namespace {

int64_t Lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(TrainTest, ARunLeavesItsFiles) {
  const Workplace workplace;
  WriteTinyRun(workplace, 3);
  const ProgramResult result = workplace.Run({"train", "run.yaml", "-n", "2"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  for (const char* name : {"resolved.yaml", "plan.yaml", "log.jsonl", "tb", "loss.svg"}) {
    EXPECT_TRUE(workplace.Exists(std::string("runs/run/") + name)) << name;
  }
  const std::string log = workplace.Read("runs/run/log.jsonl");
  EXPECT_EQ(Lines(log), 3) << log;
  EXPECT_EQ(log.rfind("{\"step\":1,", 0), 0u) << log;
}

TEST(TrainTest, TheFileMayBeAnOptionAndKeysMayBeOptions) {
  const Workplace workplace;
  WriteTinyRun(workplace, 3);
  const ProgramResult result =
      workplace.Run({"train", "--config", "run.yaml", "--max-steps", "2", "--set",
                     "output_dir=elsewhere", "--report-to=[jsonl]"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(Lines(workplace.Read("elsewhere/log.jsonl")), 2);
  EXPECT_FALSE(workplace.Exists("elsewhere/tb"));
  EXPECT_FALSE(workplace.Exists("runs"));
}

// Two stages in the same processes, the second one from the first one's checkpoint.
TEST(TrainTest, TheLastStepsMayBeInBf16) {
  const Workplace workplace;
  WriteTinyRun(workplace, 4);
  const auto run = [&](const char* command) {
    return workplace.Run({command, "run.yaml", "-n", "2", "--compute-dtype", "fp8",
                          "--bf16-finish-ratio", "0.5", "--resume", "none"});
  };
  const ProgramResult validated = run("validate");
  EXPECT_NE(validated.output.find(", fp8, the last 2 in bf16; 2 ranks"), std::string::npos)
      << validated.output;
  const ProgramResult planned = run("plan");
  EXPECT_NE(planned.output.find("\n# The last 2 of 4 steps are in bf16"), std::string::npos)
      << planned.output;
  const ProgramResult result = run("train");
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  size_t from = 0;
  for (const char* said : {"Its last 2 steps compute in bf16.\n", "over all ranks in fp8 with a",
                           "over all ranks in bf16", "The run lies in runs/run."}) {
    const size_t at = result.output.find(said, from);
    ASSERT_NE(at, std::string::npos) << said << " in " << result.output;
    from = at;
  }
  EXPECT_NE(result.errors.find("going on from runs/run/checkpoint-2\n"), std::string::npos)
      << result.errors;
  const std::string log = workplace.Read("runs/run/log.jsonl");
  EXPECT_EQ(Lines(log), 4) << log;
  for (int step = 1; step <= 4; ++step) {
    EXPECT_NE(log.find("{\"step\":" + std::to_string(step) + ","), std::string::npos) << log;
  }
  const std::string resolved = workplace.Read("runs/run/resolved.yaml");
  EXPECT_NE(resolved.find("resume: none"), std::string::npos) << resolved;
  EXPECT_NE(resolved.find("compute_dtype: fp8"), std::string::npos) << resolved;
  EXPECT_TRUE(workplace.Exists("runs/run/hf/model.safetensors"));
  EXPECT_TRUE(workplace.Exists("runs/run/checkpoint-4"));
  EXPECT_FALSE(workplace.Exists("runs/run/checkpoint-2"));
}

TEST(TrainTest, ValidateAndARefusedTrainCreateNothing) {
  const Workplace workplace;
  WriteTinyRun(workplace, 3);
  const std::vector<std::string> before = workplace.Content();
  const ProgramResult fine = workplace.Run({"validate", "run.yaml"});
  EXPECT_EQ(fine.exit_code, 0) << fine.errors;
  EXPECT_EQ(fine.output.rfind("run.yaml: fine", 0), 0u) << fine.output;
  for (const char* command : {"validate", "train"}) {
    for (const std::vector<std::string>& override :
         std::vector<std::vector<std::string>>{{"--learning-rate", "-1"},
                                               {"--set", "training.global_batch_size=0"},
                                               {"--set", "model.name_or_path=nothing.yaml"},
                                               {"--set", "data.sequence_len=100000"},
                                               {"--warmup-steps", "10"},
                                               {"--zero-stage", "4"},
                                               {"-n", "5000"}}) {
      std::vector<std::string> arguments = {command, "run.yaml"};
      arguments.insert(arguments.end(), override.begin(), override.end());
      const ProgramResult result = workplace.Run(arguments);
      EXPECT_EQ(result.exit_code, 2) << override.back() << ": " << result.errors;
      EXPECT_NE(result.errors.find(": error: "), std::string::npos) << result.errors;
      EXPECT_EQ(Lines(result.errors), 1) << result.errors;
      EXPECT_EQ(workplace.Content(), before) << command << " " << override.back();
    }
  }
}

TEST(TrainTest, ARefusedFileIsNamedWithLineAndColumn) {
  const Workplace workplace;
  workplace.Write("bad.yaml", "model: {name_or_path: x}\ntraining:\n  max_stepz: 3\n");
  for (const char* command : {"validate", "train", "plan", "gradients"}) {
    std::vector<std::string> arguments = {command, "bad.yaml"};
    if (std::string(command) == "gradients") arguments.insert(arguments.end(), {"--out", "g"});
    const ProgramResult result = workplace.Run(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.errors.rfind("bad.yaml:3:3: error: ", 0), 0u) << result.errors;
    EXPECT_NE(result.errors.find("max_steps"), std::string::npos) << result.errors;
  }
}

TEST(TrainTest, AStopSignalEndsARunWell) {
  const Workplace workplace;
  WriteTinyRun(workplace, 1'000'000);
  const pid_t program = workplace.Start({"train", "run.yaml", "-n", "2", "--heartbeat-s", "0.5"});
  for (int i = 0; i < 6000 && Lines(workplace.Read("runs/run/log.jsonl")) < 3; ++i) usleep(10'000);
  kill(program, SIGTERM);
  EXPECT_EQ(Workplace::Await(program), 0) << workplace.Errors();
  const std::string log = workplace.Read("runs/run/log.jsonl");
  EXPECT_GE(Lines(log), 3) << workplace.Errors();
  EXPECT_EQ(log.back(), '\n');
}

TEST(TrainTest, ASecondRunOfTheSameFolderIsRefused) {
  const Workplace workplace;
  WriteTinyRun(workplace, 1'000'000);
  const pid_t first = workplace.Start({"train", "run.yaml"});
  for (int i = 0; i < 6000 && Lines(workplace.Read("runs/run/log.jsonl")) < 1; ++i) usleep(10'000);
  const ProgramResult second = workplace.Run({"train", "run.yaml"});
  EXPECT_EQ(second.exit_code, 2) << second.errors;
  EXPECT_NE(second.errors.find("in use by process "), std::string::npos) << second.errors;
  EXPECT_EQ(kill(first, 0), 0);
  kill(first, SIGTERM);
  EXPECT_EQ(Workplace::Await(first), 0);
}

TEST(TrainTest, GenerateContinuesAPromptTheSameWayEachTime) {
  const Workplace workplace;
  WriteTinyRun(workplace, 2);
  ASSERT_EQ(workplace.Run({"train", "run.yaml"}).exit_code, 0);
  const std::vector<std::string> command = {"generate", "runs/run/hf",  "--prompt",
                                            "line ",    "--max-tokens", "8"};
  const ProgramResult text = workplace.Run(command);
  ASSERT_EQ(text.exit_code, 0) << text.errors;
  EXPECT_EQ(text.output.rfind("line ", 0), 0u);
  EXPECT_LE(text.output.size(), 5u + 8 + 1);
  EXPECT_EQ(workplace.Run(command).output, text.output);
  const ProgramResult ids = workplace.Run({"generate", "runs/run/hf", "--prompt-ids", "108,105",
                                           "--max-tokens", "4", "--temperature", "0"});
  EXPECT_EQ(ids.exit_code, 0) << ids.errors;
  EXPECT_EQ(std::count(ids.output.begin(), ids.output.end(), ','), 3) << ids.output;
}

TEST(TrainTest, ACheckpointIsInspectedExportedAndContinued) {
  const Workplace workplace;
  WriteTinyRun(workplace, 2);
  ASSERT_EQ(workplace.Run({"train", "run.yaml"}).exit_code, 0);
  const ProgramResult inspected = workplace.Run({"inspect", "runs/run/checkpoint-2"});
  EXPECT_EQ(inspected.exit_code, 0) << inspected.errors;
  EXPECT_EQ(inspected.output.find("unknown"), std::string::npos) << inspected.output;
  const ProgramResult exported =
      workplace.Run({"export", "runs/run/checkpoint-2", "--out", "exported"});
  EXPECT_EQ(exported.exit_code, 0) << exported.errors;
  EXPECT_EQ(workplace.Read("exported/model.safetensors"),
            workplace.Read("runs/run/hf/model.safetensors"));
  const ProgramResult text = workplace.Run(
      {"generate", "runs/run/checkpoint-2", "--prompt", "line ", "--max-tokens", "4"});
  EXPECT_EQ(text.exit_code, 0) << text.errors;
  EXPECT_EQ(text.output.rfind("line ", 0), 0u);
  const ProgramResult refused = workplace.Run({"export", "runs/run", "--out", "other"});
  EXPECT_EQ(refused.exit_code, 2) << refused.errors;
  EXPECT_FALSE(workplace.Exists("other"));
}

TEST(TrainTest, GradientsAndPlanWriteWhereTold) {
  const Workplace workplace;
  WriteTinyRun(workplace, 2);
  const ProgramResult gradients =
      workplace.Run({"gradients", "run.yaml", "--out", "g.safetensors", "--logits"});
  EXPECT_EQ(gradients.exit_code, 0) << gradients.errors;
  EXPECT_NE(workplace.Read("g.safetensors").find("\"logits\""), std::string::npos);
  const ProgramResult plan =
      workplace.Run({"plan", "run.yaml", "-n", "2", "--out", "p.yaml", "--tasks"});
  EXPECT_EQ(plan.exit_code, 0) << plan.errors;
  EXPECT_NE(plan.output.find("reduce_gradients"), std::string::npos) << plan.output;
  EXPECT_NE(workplace.Read("p.yaml").find("world: 2\n"), std::string::npos);
  EXPECT_FALSE(workplace.Exists("runs"));
}

}  // namespace
}  // namespace hearth::test
