#include "tests/fuzz/fuzz_target.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "kernels/core/error.h"

namespace hearth::test {

namespace {

void CheckRefusal(const std::string& message) {
  const bool printable = std::all_of(message.begin(), message.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
  });
  if (message.empty() || !printable) {
    FailFuzz(fmt::format("a refusal that is not one printable line: {}", message));
  }
}

void WriteAll(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(descriptor, bytes.data(), bytes.size());
    if (count <= 0) throw std::runtime_error("writing an input failed");
    bytes.remove_prefix(static_cast<size_t>(count));
  }
}

std::string FileText(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + file.string());
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::vector<std::string> Texts(std::string_view folder, std::string_view extension) {
  std::vector<std::filesystem::path> files;
  const std::filesystem::path path = std::filesystem::path(HEARTH_SOURCE_DIR) / folder;
  if (!std::filesystem::is_directory(path)) return {};
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const bool is_wanted = extension.empty() || entry.path().extension() == extension;
    if (entry.is_regular_file() && is_wanted) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> texts;
  for (const auto& file : files) texts.push_back(FileText(file));
  return texts;
}

std::string WithoutComments(const std::string& yaml) {
  std::istringstream lines(yaml);
  std::string text;
  for (std::string line; std::getline(lines, line);) {
    line.resize(std::min(line.find('#'), line.size()));
    line.resize(line.find_last_not_of(' ') + 1);
    if (!line.empty()) text += line + "\n";
  }
  return text;
}

std::filesystem::path FoldersPlace() {
  return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path();
}

std::string FolderPrefix(int process) { return fmt::format("hearth-fuzz-{}-", process); }

}  // namespace

const FuzzTarget* FindFuzzTarget(std::string_view name) {
  for (const FuzzTarget& target : FuzzTargets()) {
    if (target.name == name) return &target;
  }
  return nullptr;
}

void FailFuzz(const std::string& what) {
  std::fprintf(stderr, "fuzzing: %s\n", what.c_str());
  std::abort();
}

bool IsRefused(const std::function<void()>& reader) {
  try {
    reader();
    return false;
  } catch (const ConfigError& error) {
    CheckRefusal(error.what());
  } catch (const IoError& error) {
    CheckRefusal(error.what());
  } catch (const std::exception& error) {
    FailFuzz(fmt::format("an exception that no reader may throw: {}", error.what()));
  }
  return true;
}

void RunAccepted(std::string_view what, const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    FailFuzz(fmt::format("accepted, but {}: {}", what, error.what()));
  }
}

MemoryFile::MemoryFile() : descriptor_(memfd_create("input", MFD_CLOEXEC)) {
  if (descriptor_ < 0) throw std::runtime_error("memfd_create failed");
  path_ = fmt::format("/proc/self/fd/{}", descriptor_);
}

MemoryFile::~MemoryFile() { close(descriptor_); }

void MemoryFile::Write(std::string_view bytes) {
  const auto size = static_cast<off_t>(bytes.size());
  if (ftruncate(descriptor_, size) != 0 || lseek(descriptor_, 0, SEEK_SET) != 0) {
    throw std::runtime_error("an input cannot be replaced");
  }
  WriteAll(descriptor_, bytes);
}

FuzzFolder::FuzzFolder() {
  path_ = (FoldersPlace() / (FolderPrefix(getpid()) + "XXXXXX")).string();
  if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
}

void RemoveFuzzFolders(int process) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(FoldersPlace(), ignored)) {
    if (!entry.path().filename().string().starts_with(FolderPrefix(process))) continue;
    std::filesystem::remove_all(entry.path(), ignored);
  }
}

FuzzFolder::~FuzzFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void FuzzFolder::Write(std::string_view name, std::string_view bytes) const {
  const int descriptor = open(Path(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) throw std::runtime_error("an input cannot be created");
  WriteAll(descriptor, bytes);
  close(descriptor);
}

std::string FuzzFolder::Read(std::string_view name) const { return FileText(Path(name)); }

std::string SourceFile(std::string_view path) {
  return FileText(std::filesystem::path(HEARTH_SOURCE_DIR) / path);
}

std::vector<std::string> SourceFiles(std::string_view folder) { return Texts(folder, ""); }

std::vector<std::string> YamlSourceFiles(std::string_view folder) {
  std::vector<std::string> texts = Texts(folder, ".yaml");
  const std::string first = texts.at(0);
  for (std::string& text : texts) text = WithoutComments(text);
  texts.push_back(first);
  return texts;
}

std::vector<std::string> StructureWords() {
  return {"{",
          "}",
          "[",
          "]",
          "{}",
          "[]",
          ",",
          ":",
          ": ",
          "- ",
          "\n",
          "\n  ",
          "\"",
          "'",
          "\"\"",
          "#",
          "|\n  ",
          ">\n ",
          "&a ",
          "*a",
          "!!str ",
          "<<: ",
          "---\n",
          "...\n",
          "%",
          "? ",
          "null",
          "~",
          "true",
          "false",
          "\\u0000",
          "\\ud800",
          "\xEF\xBB\xBF",
          "\xC2\x85",
          "\xE2\x80\xA8",
          "\xF4\x90\x80\x80",
          "\xC0\x80"};
}

}  // namespace hearth::test
