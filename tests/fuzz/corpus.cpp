#include "tests/fuzz/corpus.h"

#include <fmt/format.h>

#include <fstream>

namespace hearth::test {

std::vector<std::string> CorpusOf(const FuzzTarget& target) {
  std::vector<std::string> corpus = target.seeds();
  for (std::string& input : SourceFiles(fmt::format("tests/fuzz/corpus/{}", target.name))) {
    corpus.push_back(std::move(input));
  }
  return corpus;
}

void WriteCorpora(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  std::ofstream names(folder / "targets");
  for (const FuzzTarget& target : FuzzTargets()) {
    names << target.name << '\n';
    std::filesystem::create_directories(folder / target.name);
    int number = 0;
    for (const std::string& input : CorpusOf(target)) {
      std::ofstream(folder / target.name / fmt::format("seed-{:03}", number++), std::ios::binary)
          << input;
    }
    std::ofstream words(folder / fmt::format("{}.dict", target.name));
    for (const std::string& word : target.dictionary()) {
      words << '"';
      for (const char c : word) words << fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      words << "\"\n";
    }
  }
}

}  // namespace hearth::test
