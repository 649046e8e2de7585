// Every command that a guide or README shows is run, or document_commands.cpp says why not.
#include "tests/e2e/documents/document_commands.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <regex>
#include <set>

#include "launcher/command.h"
#include "tests/e2e/documents/documents.h"
#include "tests/support/fake_hosts.h"
#include "tests/support/program.h"

namespace hearth::test {
namespace {

const std::filesystem::path kRoot = HEARTH_SOURCE_DIR;

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

template <typename Row>
const Row* RowOf(const std::vector<Row>& rows, const std::string& command) {
  const auto row = std::find_if(rows.begin(), rows.end(),
                                [&](const Row& each) { return each.command == command; });
  return row == rows.end() ? nullptr : &*row;
}

// A command's name within a sentence, or how its usage is written.
bool IsOnlyNamed(const ShownCommand& command) {
  if (command.is_fenced || command.words.empty() || command.words[0] != "hearth") return false;
  if (Contains(command.text, "[options]")) return true;
  return command.words.size() == 2 && command.words[1] != "doctor" && command.words[1][0] != '-';
}

bool TakesKeys(const std::vector<std::string>& words) {
  if (words.size() < 3 || words[0] != "hearth" || words[2] == "cpu") return false;
  if (std::find(words.begin(), words.end(), "--help") != words.end()) return false;
  return std::any_of(Commands().begin(), Commands().end(), [&](const Command& each) {
    return each.name == words[1] && each.takes_run_keys;
  });
}

// What a shell is given for it.
std::string Script(const ShownCommand& command) {
  const ChangedCommand* changed = RowOf(ChangedCommands(), command.text);
  std::string script = changed != nullptr ? changed->instead : command.text;
  for (const Placeholder& each : Placeholders()) {
    script = std::regex_replace(script, std::regex(each.name), each.value);
  }
  const bool is_given = changed == nullptr && TakesKeys(HearthWords(script));
  return is_given ? script + SmallKeys() : script;
}

// Those that are run here, of all documents.
std::vector<ShownCommand> RunCommands(const std::filesystem::path& document) {
  std::vector<ShownCommand> commands = CommandsIn(document);
  std::erase_if(commands, [](const ShownCommand& each) {
    return IsOnlyNamed(each) || RowOf(CommandsNotRun(), each.text) != nullptr;
  });
  return commands;
}

// A folder that looks like the source tree after the build, with a user's data and a finished run.
constexpr const char* kUsersFolder = R"sh(
mkdir .bin build texts jobs && ln -s "$program" .bin/hearth && ln -s "$program" build/hearth &&
ln -s "$(dirname "$program")" build/cpu && ln -s "$source/tests" tests &&
cp -r "$source/configs" "$source/cluster" "$source/cmake" "$source/docs" "$source/Makefile" . &&
cp -r tests/golden/chat/model model &&
for file in 1 2 3 4 5 6 7 8 9; do
  for line in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    echo "line $line of text $file is not like line $line of any other"
  done >texts/$file.txt
done &&
hearth prepare --input 'texts/*.txt' --output tokens.hearth --holdout 0.2 &&
printf 'box-1 slots=1\nbox-2 slots=1\n' >hosts &&
printf 'base: run.yaml\nparameters: {learning_rate: {values: [1.0e-3, 1.0e-2]}}\n' >sweep.yaml &&
cat >run.yaml <<END &&
model: {name_or_path: configs/models/tiny.yaml}
data:
  datasets: [{path: tokens.hearth}]
  eval_datasets: [{path: tokens-holdout.hearth}]
  sequence_len: 32
training: {max_steps: 2, global_batch_size: 4, micro_batch_size: 2}
END
hearth train run.yaml --device cpu
)sh";

// In place of ssh, to hosts that are this machine under other names.
constexpr const char* kSsh = R"sh(#!/bin/sh
while [ "${1#-}" != "$1" ]; do
  case $1 in --) shift; break ;; -o) shift 2 ;; *) shift ;; esac
done
exec sh "$(dirname "$0")/../agent" "$@" 2>&1
)sh";

class DocumentCommands : public testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    users_folder_ = std::make_unique<Workplace>();
    ASSERT_EQ(Shell(*users_folder_, kUsersFolder), 0) << users_folder_->Read(".words");
    users_folder_->Write(".bin/ssh", kSsh);
    std::filesystem::permissions(users_folder_->folder() / ".bin/ssh",
                                 std::filesystem::perms::owner_all);
  }
  static void TearDownTestSuite() { users_folder_.reset(); }

  // Its words are in the file .words afterwards. Returns the exit code.
  static int Shell(const Workplace& workplace, const std::string& script) {
    workplace.Write(".script", fmt::format("cd '{}' || exit 1\nPATH=\"$PWD/.bin:$PATH\"\n"
                                           "program='{}' source='{}'\n{}\n",
                                           workplace.folder().string(), HEARTH_BINARY,
                                           std::filesystem::canonical(kRoot).string(), script));
    const std::string file = (workplace.folder() / ".script").string();
    const std::string words = (workplace.folder() / ".words").string();
    const int status =
        std::system(fmt::format("timeout 100 sh '{}' </dev/null >'{}' 2>&1", file, words).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  static std::unique_ptr<Workplace> users_folder_;
};

std::unique_ptr<Workplace> DocumentCommands::users_folder_;

// mpirun by hand asks for these where it is root or has fewer cores than ranks.
void SetMpirunEnvironment() {
  unsetenv("OMPI_MCA_plm");  // a container's, where there is no ssh
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
}

void UnsetMpirunEnvironment() {
  for (const char* name : {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
                           "OMPI_MCA_rmaps_base_oversubscribe", "OMPI_MCA_plm_rsh_agent"}) {
    unsetenv(name);
  }
}

bool NeedsHosts(const ShownCommand& command) { return Contains(command.text, "--hostfile"); }

TEST_P(DocumentCommands, Run) {
  static std::set<std::string> run;  // within lines, by any document
  const std::filesystem::path document = kRoot / GetParam();
  const Workplace workplace;
  std::filesystem::copy(users_folder_->folder(), workplace.folder(),
                        std::filesystem::copy_options::recursive |
                            std::filesystem::copy_options::copy_symlinks |
                            std::filesystem::copy_options::overwrite_existing);
  for (const Scene& scene : Scenes()) {
    if (scene.document != GetParam()) continue;
    ASSERT_EQ(Shell(workplace, scene.script), 0) << workplace.Read(".words");
  }
  for (const FencedFile& file : FilesIn(document)) workplace.Write(file.name, file.text);
  const std::vector<ShownCommand> commands = RunCommands(document);
  SetMpirunEnvironment();
  std::unique_ptr<FakeHosts> hosts;
  std::string why;
  const bool has_hosts =
      std::any_of(commands.begin(), commands.end(), NeedsHosts) && FakeHosts::AreAllowed(&why);
  if (has_hosts) {
    hosts =
        std::make_unique<FakeHosts>(workplace.folder(), std::vector<std::string>{"box-1", "box-2"});
    setenv("OMPI_MCA_plm_rsh_agent", hosts->agent().c_str(), 1);
  }
  for (const ShownCommand& command : commands) {
    if (!command.is_fenced && !run.insert(command.text).second) continue;
    if (NeedsHosts(command) && !has_hosts) {
      std::printf("%s: not run: %s\n", command.place.c_str(), why.c_str());
      continue;
    }
    const std::string script = Script(command);
    EXPECT_EQ(Shell(workplace, script), 0)
        << command.place << ": " << script << "\n"
        << workplace.Read(".words") << "\nWhat cannot run here is named in document_commands.cpp";
  }
  UnsetMpirunEnvironment();
}

std::vector<std::string> NamesOfDocuments() {
  std::vector<std::string> names;
  for (const std::filesystem::path& document : Documents()) {
    if (RunCommands(document).empty()) continue;
    names.push_back(std::filesystem::relative(document, kRoot).string());
  }
  return names;
}

std::string TestName(const testing::TestParamInfo<std::string>& info) {
  return std::regex_replace(info.param, std::regex("[^A-Za-z0-9]"), "_");
}

INSTANTIATE_TEST_SUITE_P(Documents, DocumentCommands, testing::ValuesIn(NamesOfDocuments()),
                         TestName);

// The guides go through all that the program does.
TEST(DocumentCommandsTest, EveryCommandOfTheProgramIsShownAndRun) {
  std::set<std::string> run;
  for (const std::filesystem::path& document : Documents()) {
    for (const ShownCommand& command : RunCommands(document)) {
      if (command.words.size() > 1 && command.words[0] == "hearth") run.insert(command.words[1]);
    }
  }
  for (const Command& command : Commands()) {
    EXPECT_EQ(run.count(std::string(command.name)), 1u)
        << command.name << " is in no guide's commands";
  }
}

TEST(DocumentCommandsTest, EveryRowIsOfACommandThatIsShown) {
  std::set<std::string> shown;
  for (const std::filesystem::path& document : Documents()) {
    for (const ShownCommand& command : CommandsIn(document)) shown.insert(command.text);
  }
  for (const ChangedCommand& row : ChangedCommands()) {
    EXPECT_EQ(shown.count(row.command), 1u) << row.command;
  }
  for (const CommandNotRun& row : CommandsNotRun()) {
    EXPECT_EQ(shown.count(row.command), 1u) << row.command;
    EXPECT_EQ(RowOf(ChangedCommands(), row.command), nullptr) << row.command;
    if (row.need != Need::kNothing) continue;
    const std::string detail = row.detail;
    const size_t end = detail.find(' ');
    std::ifstream in(kRoot / detail.substr(0, end));
    const std::string test(std::istreambuf_iterator<char>(in), {});
    EXPECT_TRUE(Contains(test, detail.substr(end + 1) + ")")) << detail;
  }
}

TEST(DocumentCommandsTest, WhatAGivenCommandBecomes) {
  const auto script = [](const char* text) {
    ShownCommand command;
    command.text = text;
    return Script(command);
  };
  EXPECT_EQ(script("hearth validate RUN.yaml"), "hearth validate run.yaml" + SmallKeys());
  EXPECT_EQ(script("mpirun -n 4 hearth rank RUN.yaml"),
            "mpirun -n 4 hearth rank run.yaml" + SmallKeys());
  EXPECT_EQ(script("hearth export CHECKPOINT --out DIR"),
            "hearth export runs/run/checkpoint-2 --out exported");
  EXPECT_EQ(script("hearth train --help"), "hearth train --help");
  EXPECT_EQ(script("true"), "true");
}

}  // namespace
}  // namespace hearth::test
