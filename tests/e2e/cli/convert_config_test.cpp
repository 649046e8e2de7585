// `hearth convert-config` from outside: what it writes is what `validate` takes.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/program.h"

namespace hearth::test {
namespace {

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ConvertConfigTest, TheResultIsARunThatValidates) {
  const Workplace workplace;
  WriteTinyRun(workplace, 2);
  workplace.Write("args.json",
                  "{\"max_steps\": 2, \"per_device_train_batch_size\": 2, \"learning_rate\": 1e-4, "
                  "\"output_dir\": \"out\", \"label_smoothing_factor\": 0.1}");
  const std::string model = std::string(HEARTH_SOURCE_DIR) + "/configs/models/tiny.yaml";
  const ProgramResult converted =
      workplace.Run({"convert-config", "args.json", "--from", "hf", "--model", model, "--data",
                     "tokens.hearth", "--out", "converted.yaml"});
  EXPECT_EQ(converted.exit_code, 0) << converted.errors;
  EXPECT_EQ(converted.output, "");
  EXPECT_TRUE(Contains(converted.errors, "label_smoothing_factor: 0.1")) << converted.errors;
  EXPECT_TRUE(Contains(converted.errors, "optimizer.adam_beta2: 0.999")) << converted.errors;
  EXPECT_TRUE(Contains(workplace.Read("converted.yaml"), "#   label_smoothing_factor: 0.1"));
  const ProgramResult valid = workplace.Run({"validate", "converted.yaml", "--sequence-len", "32"});
  EXPECT_EQ(valid.exit_code, 0) << valid.errors;
  EXPECT_TRUE(Contains(valid.output, "fine: 2 steps of 2 sequences of 32 tokens")) << valid.output;

  const ProgramResult printed = workplace.Run({"convert-config", "args.json", "--from", "hf"});
  EXPECT_EQ(printed.exit_code, 0) << printed.errors;
  EXPECT_TRUE(Contains(printed.output, "name_or_path: MODEL  # to be filled in")) << printed.output;
}

TEST(ConvertConfigTest, ValuesThatExcludeEachOtherAreNamed) {
  const Workplace workplace;
  workplace.Write("args.json", "{\"max_steps\": 10, \"warmup_steps\": 20}");
  const ProgramResult result = workplace.Run({"convert-config", "args.json", "--from", "hf"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_TRUE(Contains(result.errors, "To be mended before it can run:\n  run.yaml:"))
      << result.errors;
  EXPECT_EQ(workplace.Run({"convert-config", "args.json", "--from", "nemo"}).exit_code, 2);
  EXPECT_EQ(workplace.Run({"convert-config", "absent.json", "--from", "hf"}).exit_code, 2);
}

}  // namespace
}  // namespace hearth::test
