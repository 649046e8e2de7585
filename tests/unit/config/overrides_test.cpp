#include "runtime/config/overrides.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/config/suggestion.h"
#include "tests/unit/config/config_test_support.h"

namespace hearth {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Overrides, AllFourFormsSetALeaf) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--set", "optimizer.learning_rate=1e-4"},
                                             {"--set=optimizer.learning_rate=1e-4"},
                                             {"--learning-rate", "1e-4"},
                                             {"--learning-rate=1e-4"}}) {
    const ResolvedConfig resolved =
        ParseRun(kMinimal + "optimizer: {learning_rate: 5}\n", arguments);
    EXPECT_EQ(resolved.config.optimizer.learning_rate, 1e-4);
    EXPECT_EQ(resolved.origins.at("optimizer.learning_rate").text, "command line");
  }
}

TEST(Overrides, OtherArgumentsAreLeftInOrder) {
  const SplitArguments split = SplitOverrides(
      {"run.yaml", "-n", "2", "--max-steps", "5", "--dry-run", "--seed=7", "--", "--seed", "9"});
  EXPECT_THAT(split.rest, ElementsAre("run.yaml", "-n", "2", "--dry-run", "--", "--seed", "9"));
  ASSERT_EQ(split.overrides.size(), 2U);
  EXPECT_EQ(split.overrides[0].path, "training.max_steps");
  EXPECT_EQ(split.overrides[0].value, "5");
  EXPECT_EQ(split.overrides[1].path, "seed");
}

TEST(Overrides, LaterOnesWin) {
  EXPECT_EQ(MoreConfig("", {"--seed", "1", "--set", "seed=2"}).seed, 2);
}

TEST(Overrides, ListsAreFlowText) {
  const RunConfig config = MoreConfig("", {"--datasets", "[{path: 'x y', weight: 2}, {path: z}]",
                                           "--report-to=[jsonl]", "--recompute", "[norm, qkv]"});
  ASSERT_EQ(config.data.datasets.size(), 2U);
  EXPECT_EQ(config.data.datasets[0].path, "x y");
  EXPECT_EQ(config.logging.report_to, std::vector<ReportTarget>{ReportTarget::kJsonl});
  EXPECT_EQ(config.memory.recompute->size(), 2U);
  EXPECT_TRUE(MoreConfig("", {"--recompute", "none"}).memory.recompute->empty());
}

TEST(Overrides, TextsAreTakenAsTheyAre) {
  for (const char* text :
       {"a: b", "*x", "[x]", "x #y", "%x", "&a", "\xC3\xA9", "x=y", "- a", "@"}) {
    EXPECT_EQ(MoreConfig("", {"--name-or-path", text}).model.name_or_path, text);
  }
}

TEST(Overrides, NullTakesAValueBack) {
  EXPECT_EQ(MoreConfig("training: {max_steps: 5}\n", {"--max-steps", "null"}).training.num_epochs,
            1);
  EXPECT_EQ(MoreConfig("run_name: x\n", {"--run-name", "null"}).run_name, "run");
}

TEST(Overrides, NegativeValuesAreValues) {
  EXPECT_THAT(MoreError("", {"--seed", "-5"}),
              StartsWith("command line: error: --seed -5: seed: -5 is not at least 0; write "));
}

TEST(Overrides, ValuesAreAsStrictAsInTheFile) {
  EXPECT_EQ(MoreError("", {"--seed=010"}),
            "command line: error: --seed 010: seed: '010' has a leading zero; write an integer at "
            "least 0");
  EXPECT_THAT(MoreError("", {"--learning-rate", ".nan"}), HasSubstr("is not a decimal number"));
  EXPECT_THAT(MoreError("", {"--deterministic", "yes"}), HasSubstr("write true or false"));
  EXPECT_THAT(MoreError("", {"--seed="}), HasSubstr("is empty; write"));
  EXPECT_THAT(MoreError("", {"--datasets", "[{path: &x y}]"}), HasSubstr("an anchor"));
  EXPECT_THAT(MoreError("", {"--datasets", "[{path: y}"}),
              HasSubstr("close the bracket that is open here"));
  EXPECT_THAT(MoreError("", {"--datasets", "[{path: y, path: z}]"}), HasSubstr("duplicate key"));
  EXPECT_THAT(MoreError("", {"--name-or-path", std::string("a\0b", 3)}), HasSubstr("0x00"));
}

TEST(Overrides, MistakesAreNamed) {
  const auto error = [](const std::vector<std::string>& arguments) {
    return ErrorOf([&] { SplitOverrides(arguments); });
  };
  EXPECT_THAT(error({"--max-steps"}),
              StartsWith("command line: error: --max-steps has no value; "));
  EXPECT_THAT(error({"--set"}), HasSubstr("--set has no value; write --set section.key=value"));
  EXPECT_THAT(error({"--set", "seed"}), HasSubstr("is not an assignment"));
  EXPECT_THAT(error({"--set", "=5"}), HasSubstr("is not an assignment"));
  EXPECT_EQ(error({"--set", "learning_rate=5"}),
            "command line: error: --set learning_rate: unknown key; write --set "
            "optimizer.learning_rate=...");
  EXPECT_THAT(error({"--set", "optimizer.learning_rat=5"}),
              HasSubstr("did you mean 'learning_rate'?"));
  EXPECT_THAT(error({"--set", "training.learning_rate=5"}),
              HasSubstr("belongs to section 'optimizer'"));
  EXPECT_THAT(error({"--set", "memory.offload=host"}), HasSubstr("this is a section"));
}

TEST(Overrides, UnknownOptionsAreSuggestedFor) {
  EXPECT_EQ(SuggestOption("--learning-rat"), "; did you mean --learning-rate?");
  EXPECT_EQ(SuggestOption("--max_steps"), "; did you mean --max-steps?");
  EXPECT_EQ(SuggestOption("--completely-different-thing"), "");
}

// Short names under memory.offload are words such as m: too dangerous as options.
TEST(Overrides, OffloadKeysNeedTheirPath) {
  EXPECT_THAT(SplitOverrides({"--m", "host"}).rest, ElementsAre("--m", "host"));
  EXPECT_EQ(MoreConfig("", {"--set", "memory.offload.v=host"}).memory.offload.v,
            OffloadTarget::kHost);
}

TEST(Suggestion, NearestWordWithinAThird) {
  EXPECT_EQ(ClosestWord("lerning_rate", {"learning_rate", "seed"}), "learning_rate");
  EXPECT_EQ(ClosestWord("sede", {"learning_rate", "seed"}), "seed");
  EXPECT_EQ(ClosestWord("Seed", {"learning_rate", "seed"}), "seed");
  EXPECT_EQ(ClosestWord("abcdef", {"uvwxyz"}), "");
  EXPECT_EQ(ClosestWord("", {"a"}), "");
  EXPECT_EQ(ClosestWord(std::string(100, 'a'), {"aaa"}), "");
}

TEST(Suggestion, PrintableEscapesAndCuts) {
  EXPECT_EQ(Printable("a\nb"), "a\\x0ab");
  EXPECT_EQ(Printable(std::string(81, 'x')), std::string(80, 'x') + "...");
  EXPECT_EQ(Printable("\xC3\xA9"), "\xC3\xA9");
  const std::string cut = Printable(std::string(79, 'x') + "\xC3\xA9y");
  EXPECT_EQ(cut, std::string(79, 'x') + "...");
}

}  // namespace
}  // namespace hearth
