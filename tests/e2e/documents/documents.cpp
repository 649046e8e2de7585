#include "tests/e2e/documents/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

namespace hearth::test {

namespace {

enum class Kind { kText, kCommands, kOther };  // of a line: outside blocks, in "```sh", in others

struct Line {
  int number = 0;
  Kind kind = Kind::kText;
  std::string text;
};

constexpr std::string_view kFence = "```";

bool IsFence(const std::string& line) { return line.rfind(kFence, 0) == 0; }

// Without the fences themselves. In a block lines that end with "\" are joined with the next;
// outside of one the lines of a paragraph are, since what stands in backticks may be broken.
std::vector<Line> LinesOf(const std::filesystem::path& document) {
  std::ifstream in(document);
  std::vector<Line> lines;
  Kind kind = Kind::kText;
  bool is_joined = false;
  int number = 0;
  for (std::string text; std::getline(in, text);) {
    ++number;
    if (IsFence(text)) {
      const bool begins = kind == Kind::kText;
      kind = !begins ? Kind::kText : text == "```sh" ? Kind::kCommands : Kind::kOther;
      is_joined = false;
      continue;
    }
    bool goes_on = kind == Kind::kText && !text.empty();
    if (kind == Kind::kCommands && !text.empty() && text.back() == '\\') {
      text.pop_back();
      goes_on = true;
    }
    if (is_joined) {
      lines.back().text += (kind == Kind::kText ? "\n" : " ") + text;
    } else {
      lines.push_back({number, kind, text});
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

// A program of the tree or the build is named with its folder.
constexpr const char* kFolders[] = {"build/", "cluster/", "cmake/", "tests/"};

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

struct Span {
  int line = 0;  // of the paragraph, from 0
  std::string text;
};

// The texts between single backticks, each on one line.
std::vector<Span> CodeSpans(const std::string& paragraph) {
  std::vector<Span> spans;
  for (size_t begin = paragraph.find('`'); begin != paragraph.npos;
       begin = paragraph.find('`', begin)) {
    const size_t end = paragraph.find('`', begin + 1);
    if (end == paragraph.npos) break;
    const auto from = paragraph.begin();
    spans.push_back(
        {static_cast<int>(std::count(from, from + static_cast<std::ptrdiff_t>(begin), '\n')),
         paragraph.substr(begin + 1, end - begin - 1)});
    std::replace(spans.back().text.begin(), spans.back().text.end(), '\n', ' ');
    begin = end + 1;
  }
  return spans;
}

// One blank between words, none around them, no comment.
std::string Tidy(const std::string& text) {
  std::string tidy;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '#' && (tidy.empty() || tidy.back() == ' ')) break;
    if (text[i] != ' ' || (!tidy.empty() && tidy.back() != ' ')) tidy += text[i];
  }
  while (!tidy.empty() && tidy.back() == ' ') tidy.pop_back();
  return tidy;
}

bool StartsAProgram(const std::string& text) {
  static const std::set<std::string> programs = {"hearth",
                                                 "build/hearth",
                                                 "hearth-gpu-tests",
                                                 "fuzz_parsers",
                                                 "make",
                                                 "mpirun",
                                                 "srun",
                                                 "sbatch",
                                                 "ctest",
                                                 "cmake",
                                                 "python",
                                                 "pip",
                                                 "python3",
                                                 "ssh",
                                                 "wandb",
                                                 "lm_eval",
                                                 "llama-quantize",
                                                 "llama-cli"};
  std::istringstream words(text);
  std::string first;  // behind variables
  while (words >> first && first.find('=') != first.npos && std::isupper(first[0])) continue;
  if (words.eof()) return false;
  if (programs.count(first) > 0) return true;
  return std::any_of(std::begin(kFolders), std::end(kFolders),
                     [&](const char* folder) { return first.rfind(folder, 0) == 0; });
}

}  // namespace

std::vector<std::filesystem::path> Documents() {
  const std::filesystem::path root = HEARTH_SOURCE_DIR;
  std::vector<std::filesystem::path> documents;
  const auto add = [&](const std::filesystem::path& file) {
    if (file.extension() == ".md") documents.push_back(file);
  };
  for (const auto& entry : std::filesystem::directory_iterator(root)) add(entry.path());
  for (const char* folder :
       {"cluster", "cmake", "comm", "configs", "docs", "kernels", "launcher", "runtime", "tests"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      add(entry.path());
    }
  }
  std::sort(documents.begin(), documents.end());
  return documents;
}

std::vector<ShownCommand> CommandsIn(const std::filesystem::path& document) {
  const std::string name = std::filesystem::relative(document, HEARTH_SOURCE_DIR).string();
  std::vector<ShownCommand> commands;
  const auto add = [&](int line, const std::string& shown, bool is_fenced) {
    const std::string text = Tidy(shown);
    if (text.empty() || (!is_fenced && !StartsAProgram(text))) return;
    commands.push_back({.document = name,
                        .place = fmt::format("{}:{}", name, line),
                        .text = text,
                        .words = HearthWords(text),
                        .is_fenced = is_fenced});
  };
  for (const Line& line : LinesOf(document)) {
    if (line.kind == Kind::kCommands) add(line.number, line.text, true);
    if (line.kind != Kind::kText) continue;
    for (const Span& span : CodeSpans(line.text)) add(line.number + span.line, span.text, false);
  }
  return commands;
}

std::vector<std::string> HearthWords(const std::string& text) {
  return FromProgram(ShellWords(text));
}

std::vector<std::string> NamelessBlocksIn(const std::filesystem::path& document) {
  std::vector<std::string> nameless;
  std::ifstream in(document);
  bool is_fenced = false;
  int number = 0;
  for (std::string text; std::getline(in, text);) {
    ++number;
    if (!IsFence(text)) continue;
    is_fenced = !is_fenced;
    if (!is_fenced || text == "```sh" || text == "```text" || text == "```yaml") continue;
    nameless.push_back(fmt::format("{}:{}", document.string(), number));
  }
  return nameless;
}

std::vector<FencedFile> FilesIn(const std::filesystem::path& document) {
  std::vector<FencedFile> files;
  std::ifstream in(document);
  bool is_fenced = false;
  bool is_file = false;
  for (std::string text; std::getline(in, text);) {
    if (IsFence(text)) {
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
