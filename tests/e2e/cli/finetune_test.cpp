// From chats to an answer: prepare, train, export, generate, on a small Qwen-shaped folder.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/program.h"

namespace hearth::test {
namespace {

const std::filesystem::path kGolden =
    std::filesystem::path(HEARTH_SOURCE_DIR) / "tests/golden/chat";

// A Hugging Face folder and chats, as a user has them.
void CopyModelAndChats(const Workplace& workplace) {
  std::filesystem::copy(kGolden / "model", workplace.folder() / "model");
  std::filesystem::copy(kGolden / "chats.jsonl", workplace.folder() / "chats.jsonl");
  workplace.Write("run.yaml",
                  "model: {name_or_path: model}\n"
                  "data: {datasets: [{path: chats.hearth}], sequence_len: 192}\n"
                  "training: {max_steps: 2, global_batch_size: 4}\n");
}

// The commands of the first block of docs/fine-tuning.md, in the folder, as a shell runs them.
// Returns what they print.
std::string RunGuide(const Workplace& workplace) {
  const std::filesystem::path root = HEARTH_SOURCE_DIR;
  std::ifstream guide(root / "docs/fine-tuning.md");
  std::string script = "set -e\nhearth() { '" HEARTH_BINARY "' \"$@\"; }\n";
  bool inside = false;
  for (std::string line; std::getline(guide, line);) {
    if (line == "```" && inside) break;
    if (inside) script += line + "\n";
    if (line == "```sh") inside = true;
  }
  workplace.Write("guide.sh", script);
  std::filesystem::create_directory_symlink(root / "tests", workplace.folder() / "tests");
  const std::string command =
      "cd " + workplace.folder().string() + " && sh guide.sh > guide.txt 2>&1 < /dev/null";
  EXPECT_EQ(std::system(command.c_str()), 0) << workplace.Read("guide.txt");
  return workplace.Read("guide.txt");
}

ProgramResult PrepareChats(const Workplace& workplace, const std::string& output) {
  return workplace.Run({"prepare", "--input", "chats.jsonl", "--tokenizer", "model", "--output",
                        output, "--pack", "192"});
}

std::string Answer(const Workplace& workplace, const std::string& model,
                   const std::string& question) {
  const ProgramResult result = workplace.Run(
      {"generate", model, "--chat", question, "--temperature", "0", "--max-tokens", "12"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  return result.output;
}

TEST(FineTuneTest, TheGuidesCommandsMakeAModelThatAnswers) {
  const Workplace workplace;
  const std::string printed = RunGuide(workplace);
  EXPECT_NE(printed.find("chats as qwen2.5"), std::string::npos) << printed;
  const std::string model = "runs/finetune/hf";
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    EXPECT_EQ(workplace.Read(model + "/" + name), workplace.Read(std::string("model/") + name));
  }
  EXPECT_NE(Answer(workplace, "model", "What colour is rain?").rfind("blue", 0), 0u);
  // The answer ends at the end of the assistant's turn, which is not printed.
  const std::string answer = Answer(workplace, model, "What colour is rain?");
  EXPECT_EQ(answer.rfind("blue", 0), 0u) << answer;
  EXPECT_EQ(answer.find_first_not_of("blue."), answer.size() - 1) << answer;
  EXPECT_EQ(printed.substr(printed.size() - answer.size()), answer);
  EXPECT_EQ(Answer(workplace, model, "What colour is stone?").rfind("green", 0), 0u);
  const ProgramResult system =
      workplace.Run({"generate", model, "--chat", "What colour is bread?", "--system",
                     "Answer in one word.", "--temperature", "0"});
  EXPECT_EQ(system.output.rfind("grey", 0), 0u) << system.output << system.errors;
  const ProgramResult prompt =
      workplace.Run({"generate", model, "--prompt", "<|im_start|>user\nWhat colour is sun?",
                     "--temperature", "0", "--max-tokens", "5"});
  EXPECT_EQ(prompt.exit_code, 0) << prompt.errors;
  EXPECT_EQ(prompt.output.rfind("<|im_start|>user\nWhat colour is sun?", 0), 0u) << prompt.output;
}

// Its weights are the run's last, in fp32; the tokenizer lies in the folder that the run began
// from.
TEST(FineTuneTest, ACheckpointAnswersWithTheTokenizerOfItsModel) {
  const Workplace workplace;
  CopyModelAndChats(workplace);
  ASSERT_EQ(PrepareChats(workplace, "chats.hearth").exit_code, 0);
  const ProgramResult trained = workplace.Run({"train", "run.yaml"});
  ASSERT_EQ(trained.exit_code, 0) << trained.errors;
  const std::string answer = Answer(workplace, "runs/run/checkpoint-2", "What colour is rain?");
  EXPECT_FALSE(answer.empty());
  std::filesystem::rename(workplace.folder() / "model", workplace.folder() / "moved");
  const ProgramResult without =
      workplace.Run({"generate", "runs/run/checkpoint-2", "--chat", "What?"});
  EXPECT_EQ(without.exit_code, 2);
  EXPECT_NE(without.errors.find("give --tokenizer FOLDER"), std::string::npos) << without.errors;
  const ProgramResult named =
      workplace.Run({"generate", "runs/run/checkpoint-2", "--chat", "What colour is rain?",
                     "--tokenizer", "moved", "--temperature", "0", "--max-tokens", "12"});
  EXPECT_EQ(named.output, answer) << named.errors;
}

TEST(FineTuneTest, DataOfAnotherTokenizerIsRefused) {
  const Workplace workplace;
  CopyModelAndChats(workplace);
  ASSERT_EQ(PrepareChats(workplace, "chats.hearth").exit_code, 0);
  EXPECT_EQ(workplace.Run({"validate", "run.yaml"}).exit_code, 0);
  std::ofstream(workplace.folder() / "model/tokenizer.json", std::ios::app) << "\n";
  const ProgramResult other = workplace.Run({"validate", "run.yaml"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_NE(other.errors.find("chats.hearth: error: its tokens are those of the tokenizer 'model'"),
            std::string::npos)
      << other.errors;
  EXPECT_NE(other.errors.find("--tokenizer model"), std::string::npos) << other.errors;
}

TEST(FineTuneTest, SamplesPackedForAnotherLengthAreRefused) {
  const Workplace workplace;
  CopyModelAndChats(workplace);
  ASSERT_EQ(PrepareChats(workplace, "chats.hearth").exit_code, 0);
  const ProgramResult other = workplace.Run({"validate", "run.yaml", "--sequence-len", "128"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_EQ(other.errors,
            "chats.hearth: error: its samples were packed to 192 tokens, and data.sequence_len is "
            "128; set sequence_len: 192, or prepare it again with --pack 128\n");
  EXPECT_NE(workplace.Run({"inspect", "chats.hearth"}).output.find("packed to 192"),
            std::string::npos);
}

TEST(FineTuneTest, AVocabularyBeyondTheModelsIsRefused) {
  const Workplace workplace;
  CopyModelAndChats(workplace);
  ASSERT_EQ(PrepareChats(workplace, "chats.hearth").exit_code, 0);
  const ProgramResult small =
      workplace.Run({"validate", "run.yaml", "--set",
                     "model.name_or_path=" HEARTH_SOURCE_DIR "/configs/models/tiny.yaml"});
  EXPECT_EQ(small.exit_code, 2);
  EXPECT_NE(small.errors.find("a vocabulary of 330 for a model with 256"), std::string::npos)
      << small.errors;
}

TEST(FineTuneTest, WhatGenerateCannotDoIsNamed) {
  const Workplace workplace;
  CopyModelAndChats(workplace);
  struct Case {
    std::vector<std::string> arguments;
    std::string message;
  };
  for (const Case& c :
       std::vector<Case>{{{"--chat", "a", "--prompt", "b"}, "give one of"},
                         {{"--prompt", "a", "--system", "b"}, "go with --chat"},
                         {{"--chat", "a", "--chat-format", "qwen"}, "'qwen' is not a chat format"},
                         {{"--prompt-ids", "1", "--tokenizer", "model"}, "takes no --tokenizer"}}) {
    std::vector<std::string> arguments = {"generate", "model"};
    arguments.insert(arguments.end(), c.arguments.begin(), c.arguments.end());
    const ProgramResult result = workplace.Run(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.errors;
    EXPECT_NE(result.errors.find(c.message), std::string::npos) << result.errors;
  }
}

}  // namespace
}  // namespace hearth::test
