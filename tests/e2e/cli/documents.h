// The commands that guides and READMEs show.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace hearth::test {

struct ShownCommand {
  std::string place;               // "docs/training.md:12"
  std::vector<std::string> words;  // as a shell takes them apart, "hearth" or "make" first
  bool is_fenced = false;  // of a block of code, where it stands complete; else within a line
};

// In every README, CONTRIBUTING and guide of the source tree.
std::vector<std::filesystem::path> Documents();

// The commands of hearth (build/hearth too, and behind mpirun or srun) and of make in a document.
std::vector<ShownCommand> CommandsIn(const std::filesystem::path& document);

struct FencedFile {
  std::string name;
  std::string text;
};
// The blocks of code whose first line is "# NAME", as files.
std::vector<FencedFile> FilesIn(const std::filesystem::path& document);

}  // namespace hearth::test
