// Help, refusals and exit codes, as scripts see them.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/program.h"

namespace hearth::test {
namespace {

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The names in the list of commands of --help.
std::vector<std::string> ListedCommands(const Workplace& workplace) {
  const std::string help = workplace.Run({"--help"}).output;
  std::vector<std::string> names;
  for (size_t at = help.find("\n  "); at != std::string::npos; at = help.find("\n  ", at + 1)) {
    names.push_back(help.substr(at + 3, help.find(' ', at + 3) - at - 3));
  }
  return names;
}

TEST(CommandLineTest, HelpAndVersionSucceed) {
  const Workplace workplace;
  const ProgramResult help = workplace.Run({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_TRUE(Contains(help.output, "Usage: hearth COMMAND FILE")) << help.output;
  const ProgramResult version = workplace.Run({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.output.rfind("hearth ", 0), 0u);
  for (const char* fact : {"\ncommit ", "\ncompiler ", "\nbackends cpu"}) {
    EXPECT_TRUE(Contains(version.output, fact)) << version.output;
  }
}

TEST(CommandLineTest, EveryListedCommandHasCompleteHelp) {
  const Workplace workplace;
  const std::vector<std::string> names = ListedCommands(workplace);
  ASSERT_GE(names.size(), 4u);
  for (const std::string& name : names) {
    const ProgramResult help = workplace.Run({name, "--help"});
    EXPECT_EQ(help.exit_code, 0) << name;
    EXPECT_EQ(help.output.rfind("Usage: hearth " + name + " ", 0), 0u) << help.output;
    EXPECT_TRUE(Contains(help.output, "--help")) << help.output;
  }
  const std::string train = workplace.Run({"train", "--help"}).output;
  for (const char* option : {"-n N", "--learning-rate", "default 0.0003", "--collective-timeout-s",
                             "--set memory.offload.m=VALUE"}) {
    EXPECT_TRUE(Contains(train, option)) << option << " is missing in:\n" << train;
  }
}

TEST(CommandLineTest, CommandsThatAreNotBuiltAreRefusedByName) {
  const Workplace workplace;
  const std::vector<std::string> listed = ListedCommands(workplace);
  for (const char* name : {"probe", "doctor", "report", "convert-config", "frobnicate", ""}) {
    if (std::find(listed.begin(), listed.end(), name) != listed.end()) continue;
    const ProgramResult result = workplace.Run({name});
    EXPECT_EQ(result.exit_code, 2) << name;
    EXPECT_TRUE(Contains(result.errors, std::string("no command '") + name + "' in this version"))
        << result.errors;
  }
  const ProgramResult typo = workplace.Run({"trian", "run.yaml"});
  EXPECT_EQ(typo.exit_code, 2);
  EXPECT_TRUE(Contains(typo.errors, "did you mean train?")) << typo.errors;
  EXPECT_EQ(workplace.Run({}).exit_code, 2);
}

TEST(CommandLineTest, WrongUsageIsRefusedInOneLine) {
  const Workplace workplace;
  struct Case {
    std::vector<std::string> arguments;
    std::string message;
  };
  for (const Case& c : std::vector<Case>{
           {{"train"}, "RUN.yaml is missing"},
           {{"train", "a.yaml", "b.yaml"}, "'b.yaml' is one argument too many"},
           {{"train", "a.yaml", "--config", "b.yaml"}, "'b.yaml' is one argument too many"},
           {{"train", "a.yaml", "--learning-rat", "1"}, "did you mean --learning-rate?"},
           {{"train", "a.yaml", "--nosuch"}, "unknown option --nosuch"},
           {{"train", "a.yaml", "-n", "two"}, "two"},
           {{"train", "a.yaml", "--set", "optimizer.learning_rat=1"}, "learning_rate"},
           {{"validate", "nothing.yaml"}, "nothing.yaml"},
           {{"prepare", "--output", "x.hearth"}, "--input"},
           {{"prepare", "--input", "x", "--output", "x.hearth", "--holdout-every", "10"},
            "--deduplicate"},
           {{"generate", "model"}, "--prompt"},
           {{"generate", "model", "--prompt-ids", "1,x"}, "'x' is no token id"},
           {{"bench", "nothing"}, "no bench 'nothing'"}}) {
    const ProgramResult result = workplace.Run(c.arguments);
    EXPECT_EQ(result.exit_code, 2) << result.errors;
    EXPECT_TRUE(Contains(result.errors, c.message)) << result.errors;
    EXPECT_TRUE(Contains(result.errors, ": error: ")) << result.errors;
    EXPECT_EQ(result.errors.find('\n'), result.errors.size() - 1) << result.errors;
    EXPECT_EQ(result.output, "");
  }
  EXPECT_TRUE(workplace.Content().empty());
}

}  // namespace
}  // namespace hearth::test
