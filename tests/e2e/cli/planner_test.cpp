// What `auto` becomes under a budget, and plans that are passed back.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/program.h"

namespace hearth::test {
namespace {

// Model, data and a budget; 2,048 tokens a step.
std::string BudgetRun(const std::string& budget) {
  return "model: {name_or_path: " HEARTH_SOURCE_DIR
         "/configs/models/tiny.yaml}\n"
         "data: {datasets: [{path: tokens.hearth}], sequence_len: 32}\n"
         "memory: {gpu_budget: " +
         budget + "}\n";
}

std::string ValueOf(const std::string& yaml, const std::string& key) {
  const size_t at = yaml.find(key + ": ");
  if (at == std::string::npos) return "absent";
  const size_t begin = at + key.size() + 2;
  return yaml.substr(begin, yaml.find_first_of("\n", begin) - begin);
}

TEST(PlannerTest, ModelDataAndABudgetAreEnough) {
  const Workplace workplace;
  WriteTinyRun(workplace, 3);
  workplace.Write("run.yaml", BudgetRun("1GiB"));
  const ProgramResult roomy = workplace.Run({"plan", "run.yaml"});
  ASSERT_EQ(roomy.exit_code, 0) << roomy.errors;
  EXPECT_NE(roomy.output.find("everything as without a planner"), std::string::npos)
      << roomy.output;

  workplace.Write("run.yaml", BudgetRun("36MiB"));
  const ProgramResult plan = workplace.Run({"plan", "run.yaml"});
  ASSERT_EQ(plan.exit_code, 0) << plan.errors;
  EXPECT_NE(plan.output.find("# Predicted on CPU: a step of "), std::string::npos) << plan.output;
  EXPECT_NE(plan.output.find("# Chosen of "), std::string::npos) << plan.output;
  EXPECT_NE(plan.output.find("# Does not fit: "), std::string::npos) << plan.output;

  const ProgramResult train = workplace.Run({"train", "run.yaml", "-n", "1"});
  ASSERT_EQ(train.exit_code, 0) << train.errors;
  const std::string written = workplace.Read("runs/run/plan.yaml");
  EXPECT_EQ(written.find("everything as without a planner"), std::string::npos) << written;
  for (const char* key : {"  training.micro_batch_size", "  memory.recompute", "  memory.offload.m",
                          "  memory.optimizer_device"}) {
    EXPECT_EQ(ValueOf(written, key), ValueOf(plan.output, key)) << key;
  }
  EXPECT_NE(workplace.Read("runs/run/log.jsonl").find("\"train/loss\":"), std::string::npos);

  // Less than a matmul's workspace.
  workplace.Write("run.yaml", BudgetRun("30MiB"));
  const ProgramResult refused = workplace.Run({"train", "run.yaml", "-n", "1"});
  EXPECT_EQ(refused.exit_code, 3) << refused.errors;
}

TEST(PlannerTest, APlanIsPassedBackAsEdited) {
  const Workplace workplace;
  WriteTinyRun(workplace, 2);
  std::string run = workplace.Read("run.yaml");
  run.replace(run.find(", micro_batch_size: 2"), 21, "");
  workplace.Write("run.yaml", run);
  ASSERT_EQ(workplace.Run({"plan", "run.yaml", "--out", "plan.yaml"}).exit_code, 0);
  std::string plan = workplace.Read("plan.yaml");
  const std::string choice = "  training.micro_batch_size: 4\n";
  ASSERT_NE(plan.find(choice), std::string::npos) << plan;
  workplace.Write("plan.yaml", plan.replace(plan.find(choice), choice.size(),
                                            "  training.micro_batch_size: 1\n"));
  const ProgramResult train =
      workplace.Run({"train", "run.yaml", "-n", "1", "--set", "memory.plan=plan.yaml"});
  ASSERT_EQ(train.exit_code, 0) << train.errors;
  EXPECT_NE(train.output.find("were predicted on CPU"), std::string::npos) << train.output;
  const std::string resolved = workplace.Read("runs/run/resolved.yaml");
  EXPECT_EQ(ValueOf(resolved, "  micro_batch_size").substr(0, 13), "1  # plan.yam") << resolved;
  const std::string written = workplace.Read("runs/run/plan.yaml");
  EXPECT_EQ(ValueOf(written, "micro_batches"), "4");
  EXPECT_NE(written.find("measured_step_ms: "), std::string::npos) << written;
  EXPECT_NE(workplace.Read("runs/run/log.jsonl").find("\"plan/predicted_step_ms\":"),
            std::string::npos);

  workplace.Write("plan.yaml", "plan_version: 1\nchoices:\n  memory.recompute: sometimes\n");
  const ProgramResult wrong =
      workplace.Run({"train", "run.yaml", "--set", "memory.plan=plan.yaml"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_EQ(wrong.errors.rfind("plan.yaml:3:21: error: ", 0), 0u) << wrong.errors;
}

TEST(PlannerTest, OtherHardwareIsPlannedFor) {
  const Workplace workplace;
  WriteTinyRun(workplace, 2);
  const ProgramResult plan =
      workplace.Run({"plan", "run.yaml", "--hardware", "rtx-5060-ti", "--out", "plan.yaml"});
  ASSERT_EQ(plan.exit_code, 0) << plan.errors;
  EXPECT_NE(plan.output.find("Predicted on NVIDIA GeForce RTX 5060 Ti"), std::string::npos);
  EXPECT_NE(workplace.Read("plan.yaml").find("hardware: \"NVIDIA GeForce RTX 5060 Ti, 16 GB\""),
            std::string::npos);
  const ProgramResult unknown = workplace.Run({"plan", "run.yaml", "--hardware", "rtx-5060-it"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_NE(unknown.errors.find("did you mean 'rtx-5060-ti'?"), std::string::npos);
}

}  // namespace
}  // namespace hearth::test
