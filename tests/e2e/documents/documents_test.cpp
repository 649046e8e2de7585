// What guides and READMEs show is what the program takes.
#include "tests/e2e/documents/documents.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "kernels/core/error.h"
#include "launcher/command_line.h"
#include "launcher/command_reference.h"
#include "runtime/config/field_table.h"
#include "tests/support/program.h"

namespace hearth::test {
namespace {

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Why the program would not take the words, "" when it would. Within a line a command may stand
// without its FILE and other required options, and with "..." for some.
std::string Refusal(const ShownCommand& command) {
  std::vector<std::string> arguments(command.words.begin() + 1, command.words.end());
  if (arguments[0] == "--version" || arguments[0] == "--help" || arguments[0] == "help") return "";
  for (size_t i = arguments.size(); i-- > 1;) {  // "..." is a value behind an option, else left out
    const bool is_value = arguments[i - 1].rfind("--", 0) == 0;
    if (arguments[i] == "..." && !is_value)
      arguments.erase(arguments.begin() + static_cast<long>(i));
  }
  if (arguments[0] == "COMMAND") return "";
  const bool asks = std::find(arguments.begin(), arguments.end(), "--help") != arguments.end();
  if (!command.is_fenced && !asks) {  // then nothing is required
    arguments.insert(arguments.begin() + 1, "--help");
  }
  try {
    CheckCommandLine(arguments);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

// The targets of the Makefile that a user may ask for.
std::set<std::string> MakeTargets() {
  std::string makefile = ReadAll(std::filesystem::path(HEARTH_SOURCE_DIR) / "Makefile");
  const size_t begin = makefile.find(".PHONY:") + 7;
  std::string names = makefile.substr(begin, makefile.find("\n.DEFAULT_GOAL") - begin);
  std::replace(names.begin(), names.end(), '\\', ' ');
  std::istringstream words(names);
  return {std::istream_iterator<std::string>(words), {}};
}

// The first line in which two texts differ, of both; "" when they are the same.
std::string FirstDifference(const std::string& one, const std::string& other) {
  std::istringstream first(one), second(other);
  for (int number = 1;; ++number) {
    std::string a, b;
    const bool has_a = static_cast<bool>(std::getline(first, a));
    const bool has_b = static_cast<bool>(std::getline(second, b));
    if (!has_a && !has_b) return one == other ? "" : "the end of the last line";
    if (has_a != has_b || a != b) return fmt::format("line {}: '{}' and '{}'", number, a, b);
  }
}

TEST(DocumentsTest, TheReferenceIsWhatTheTablesSay) {
  const std::string shown =
      ReadAll(std::filesystem::path(HEARTH_SOURCE_DIR) / "docs" / "commands.md");
  EXPECT_EQ(FirstDifference(shown, CommandReference()), "")
      << "mend it: hearth help --markdown >docs/commands.md";
  const Workplace workplace;
  EXPECT_EQ(FirstDifference(workplace.Run({"help", "--markdown"}).output, CommandReference()), "");
  EXPECT_EQ(FirstDifference("a\nb\n", "a\nc\n"), "line 2: 'b' and 'c'");
  EXPECT_NE(FirstDifference("a\n", "a"), "");
}

// The program's help says no less and no more than the reference.
TEST(DocumentsTest, EveryOptionOfEveryCommandIsInItsHelp) {
  const Workplace workplace;
  const std::string reference = CommandReference();
  for (const Command& command : Commands()) {
    const std::string name(command.name);
    const std::string help = workplace.Run({name, "--help"}).output;
    const size_t begin = reference.find("### hearth " + name + "\n");
    ASSERT_NE(begin, std::string::npos) << name;
    const std::string section = reference.substr(begin, reference.find("\n##", begin + 1) - begin);
    const std::string options = help.substr(0, help.find("Keys of run.yaml"));
    int found = 0;
    for (size_t at = options.find("\n  -"); at != options.npos;
         at = options.find("\n  -", at + 1)) {
      const std::string line = options.substr(at + 3, options.find('\n', at + 3) - at - 3);
      const std::string first = line.substr(0, line.find(' '));
      EXPECT_TRUE(Contains(section, "`" + first + " ") || Contains(section, "`" + first + "`"))
          << name << ": " << first;
      ++found;
    }
    int rows = 0;
    for (size_t at = section.find("\n| `-"); at != section.npos;
         at = section.find("\n| `-", at + 1)) {
      ++rows;
    }
    EXPECT_EQ(found, rows) << section << help;
    if (!command.takes_run_keys) continue;
    for (const Field& field : FieldTable()) {
      const std::string row = fmt::format("| `{}` |", field.leaf());
      std::string option = fmt::format("--{} VALUE", field.leaf());
      std::replace(option.begin(), option.end(), '_', '-');
      const bool is_offered =
          Contains(help, option) || Contains(help, fmt::format("--set {}=VALUE", field.path));
      EXPECT_TRUE(!is_offered || Contains(reference, row)) << field.path;
    }
  }
}

TEST(DocumentsTest, TheExampleRunHasEveryKeyOfTheReference) {
  const std::string example =
      ReadAll(std::filesystem::path(HEARTH_SOURCE_DIR) / "configs" / "runs" / "example.yaml");
  for (const Field& field : FieldTable()) {
    EXPECT_TRUE(Contains(example, std::string(field.leaf()) + ":")) << field.path;
  }
}

TEST(DocumentsTest, EveryCommandShownIsTaken) {
  const std::set<std::string> targets = MakeTargets();
  ASSERT_EQ(targets.count("quickstart"), 1u);
  int commands = 0;
  for (const std::filesystem::path& document : Documents()) {
    for (const ShownCommand& command : CommandsIn(document)) {
      if (command.words.size() < 2) continue;
      ++commands;
      if (command.words[0] == "hearth") {
        EXPECT_EQ(Refusal(command), "") << command.place;
        continue;
      }
      for (size_t i = 1; i < command.words.size(); ++i) {
        const std::string& word = command.words[i];
        if (word.find('=') != word.npos) continue;
        EXPECT_EQ(targets.count(word), 1u) << command.place << ": make " << word;
      }
    }
  }
  EXPECT_GE(commands, 30);  // or the reader above reads nothing
}

TEST(DocumentsTest, CommandsThatNobodyTakesAreNoticed) {
  const Workplace workplace;
  workplace.Write(
      "a.md",
      "Say `hearth train --learning-rat 1` or `hearth frobnicate`, not `hearth bench cpu`.\n"
      "```sh\nA=1 build/hearth inspect \\\n  x --json >y\nmpirun -n 2 hearth rank 'a b.yaml'\n"
      "hearth validate\nls  # all\n```\n");
  const std::vector<ShownCommand> commands = CommandsIn(workplace.folder() / "a.md");
  ASSERT_EQ(commands.size(), 7u);
  EXPECT_EQ(commands[6].text, "ls");
  EXPECT_TRUE(Contains(Refusal(commands[0]), "--learning-rat"));
  EXPECT_TRUE(Contains(Refusal(commands[1]), "frobnicate"));
  EXPECT_EQ(Refusal(commands[2]), "");
  EXPECT_EQ(commands[3].words, (std::vector<std::string>{"hearth", "inspect", "x", "--json"}));
  EXPECT_EQ(commands[4].words, (std::vector<std::string>{"hearth", "rank", "a b.yaml"}));
  EXPECT_EQ(Refusal(commands[4]), "");
  EXPECT_TRUE(Contains(Refusal(commands[5]), "RUN.yaml is missing"));
}

TEST(DocumentsTest, EveryBlockSaysWhatItHolds) {
  for (const std::filesystem::path& document : Documents()) {
    EXPECT_EQ(NamelessBlocksIn(document), std::vector<std::string>{})
        << "begin a block with ```sh (commands: they are run), ```text or ```yaml";
  }
  const Workplace workplace;
  workplace.Write("a.md", "```\nls\n```\n```sh\nls\n```\n");
  const std::string file = (workplace.folder() / "a.md").string();
  EXPECT_EQ(NamelessBlocksIn(file), std::vector<std::string>{file + ":1"});
}

}  // namespace
}  // namespace hearth::test
