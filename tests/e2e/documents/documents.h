// The commands that guides and READMEs show.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace hearth::test {

struct ShownCommand {
  std::string document;            // "docs/training.md"
  std::string place;               // "docs/training.md:12"
  std::string text;                // as shown, without a comment; lines joined by "\" are one
  std::vector<std::string> words;  // as a shell takes them apart, "hearth" or "make" first; none
                                   // where it starts neither (behind mpirun or srun also counts)
  bool is_fenced = false;  // of a block of code, where it stands complete; else within a line
};

// In every README, CONTRIBUTING and guide of the source tree.
std::vector<std::filesystem::path> Documents();

// The commands in a document: each line of a block "```sh", and whatever within a line begins with
// the name of a program that users call and has an argument.
std::vector<ShownCommand> CommandsIn(const std::filesystem::path& document);

// Blocks whose first line says of nothing that is known what they hold, as "FILE:LINE".
std::vector<std::string> NamelessBlocksIn(const std::filesystem::path& document);

// The words of a command line from "hearth" or "make" on, behind mpirun or srun too; none for other
// programs'.
std::vector<std::string> HearthWords(const std::string& text);

struct FencedFile {
  std::string name;
  std::string text;
};
// The blocks of code whose first line is "# NAME", as files.
std::vector<FencedFile> FilesIn(const std::filesystem::path& document);

}  // namespace hearth::test
