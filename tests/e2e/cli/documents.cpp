#include "tests/e2e/cli/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <utility>

namespace hearth::test {

namespace {

struct Line {
  int number = 0;
  bool is_fenced = false;
  std::string text;
};

// Without the fences themselves; in a block, lines that end with "\" are joined with the next.
std::vector<Line> LinesOf(const std::filesystem::path& document) {
  std::ifstream in(document);
  std::vector<Line> lines;
  bool is_fenced = false;
  bool is_joined = false;
  int number = 0;
  for (std::string text; std::getline(in, text);) {
    ++number;
    if (text.rfind("```", 0) == 0) {
      is_fenced = !is_fenced;
      continue;
    }
    const bool goes_on = is_fenced && !text.empty() && text.back() == '\\';
    if (goes_on) text.pop_back();
    if (is_joined) {
      lines.back().text += " " + text;
    } else {
      lines.push_back({number, is_fenced, text});
    }
    is_joined = goes_on;
  }
  return lines;
}

// Up to a comment, a pipe, a redirection or the next command.
std::vector<std::string> ShellWords(const std::string& text) {
  std::vector<std::string> words;
  std::optional<std::string> word;
  char quote = 0;
  const auto end_word = [&] {
    if (word) words.push_back(*std::exchange(word, std::nullopt));
  };
  for (const char c : text) {
    if (quote != 0) {
      if (c == quote) {
        quote = 0;
      } else {
        *word += c;
      }
    } else if (c == '\'' || c == '"') {
      quote = c;
      if (!word) word.emplace();
    } else if (c == ' ' || c == '\t') {
      end_word();
    } else if (std::string("|><;&").find(c) != std::string::npos || (c == '#' && !word)) {
      break;
    } else {
      if (!word) word.emplace();
      *word += c;
    }
  }
  end_word();
  return words;
}

bool IsHearth(const std::string& word) { return word == "hearth" || word == "build/hearth"; }

// From "hearth" or "make" on; nothing for other programs' lines. Variables may stand before it.
std::vector<std::string> FromProgram(std::vector<std::string> words) {
  while (!words.empty() && words[0].find('=') != std::string::npos &&
         words[0].find_first_of("-/") != 0) {
    words.erase(words.begin());
  }
  if (words.empty()) return {};
  if (words[0] == "mpirun" || words[0] == "srun") {
    words.erase(words.begin(), std::find_if(words.begin(), words.end(), IsHearth));
  }
  if (words.empty() || !(IsHearth(words[0]) || words[0] == "make")) return {};
  if (IsHearth(words[0])) words[0] = "hearth";
  return words;
}

// The texts between single backticks.
std::vector<std::string> CodeSpans(const std::string& line) {
  std::vector<std::string> spans;
  for (size_t begin = line.find('`'); begin != line.npos; begin = line.find('`', begin)) {
    const size_t end = line.find('`', begin + 1);
    if (end == line.npos) break;
    spans.push_back(line.substr(begin + 1, end - begin - 1));
    begin = end + 1;
  }
  return spans;
}

}  // namespace

std::vector<std::filesystem::path> Documents() {
  const std::filesystem::path root = HEARTH_SOURCE_DIR;
  std::vector<std::filesystem::path> documents = {root / "CONTRIBUTING.md"};
  for (const char* folder : {"", "cluster", "cmake", "configs", "docs", "launcher", "tests"}) {
    for (const auto& entry : std::filesystem::directory_iterator(root / folder)) {
      if (entry.path().extension() == ".md" && entry.path().filename() != "CONTRIBUTING.md") {
        documents.push_back(entry.path());
      }
    }
  }
  std::sort(documents.begin(), documents.end());
  return documents;
}

std::vector<ShownCommand> CommandsIn(const std::filesystem::path& document) {
  std::vector<ShownCommand> commands;
  for (const Line& line : LinesOf(document)) {
    const std::string place = fmt::format(
        "{}:{}", std::filesystem::relative(document, HEARTH_SOURCE_DIR).string(), line.number);
    for (const std::string& text : line.is_fenced ? std::vector{line.text} : CodeSpans(line.text)) {
      const std::vector<std::string> words = FromProgram(ShellWords(text));
      if (words.size() > 1) commands.push_back({place, words, line.is_fenced});
    }
  }
  return commands;
}

std::vector<FencedFile> FilesIn(const std::filesystem::path& document) {
  std::vector<FencedFile> files;
  std::ifstream in(document);
  bool is_fenced = false;
  bool is_file = false;
  for (std::string text; std::getline(in, text);) {
    if (text.rfind("```", 0) == 0) {
      is_fenced = !is_fenced;
      is_file = false;
    } else if (is_fenced && text.rfind("# ", 0) == 0 && text.find(' ', 2) == text.npos) {
      files.push_back({text.substr(2), ""});
      is_file = true;
    } else if (is_file) {
      files.back().text += text + "\n";
    }
  }
  return files;
}

}  // namespace hearth::test
