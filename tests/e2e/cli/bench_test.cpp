// `hearth bench kernels` from outside; its figures are not judged here.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/e2e/cli/program.h"

namespace hearth::test {
namespace {

std::string LastLine(const std::string& text) {
  const size_t end = text.find_last_not_of('\n') + 1;
  return text.substr(0, end).substr(text.rfind('\n', end - 1) + 1);
}

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
