// How the test of documents runs what they show. A command that has no row here runs as it stands.
#pragma once

#include <string>
#include <vector>

namespace hearth::test {

// What a word in capitals stands for: every command is run with it replaced.
struct Placeholder {
  const char* name;  // a regular expression
  const char* value;
};
const std::vector<Placeholder>& Placeholders();

// What is done in a document's folder before its first command, beyond what every folder has.
struct Scene {
  const char* document;
  const char* script;
};
const std::vector<Scene>& Scenes();

// In every document that shows the command, since a real one would take hours, or leaves a part to
// the reader. The other words are the document's own.
struct ChangedCommand {
  const char* command;
  std::string instead;
};
const std::vector<ChangedCommand>& ChangedCommands();

enum class Need {
  kGpu,        // and what is compiled for one
  kSlurm,      // a cluster under Slurm
  kHost,       // a host that lets others in
  kOtherTool,  // a program of somebody else, or the network to fetch it from
  kPython,     // with PyTorch and transformers
  kMinutes,    // compiles everything, or runs the whole suite again, this test included
  kNothing,    // another test runs it: `detail` is its file and its name
};

struct CommandNotRun {
  const char* command;
  Need need;
  const char* detail;
};
const std::vector<CommandNotRun>& CommandsNotRun();

// Keys of run.yaml that make any run small; they are added to each unchanged command that takes
// keys.
std::string SmallKeys();

}  // namespace hearth::test
