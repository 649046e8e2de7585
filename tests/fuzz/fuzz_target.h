// Fuzz targets: each feeds arbitrary bytes to one reader of files that others may have written.
// Only the documented refusals may come out; a target aborts on anything else.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hearth::test {

struct FuzzTarget {
  const char* name;
  // libFuzzer's signature. Returns 0, or does not return.
  int (*run)(const uint8_t* data, size_t size);
  // Valid inputs, and inputs that reach into corners; the same in every call.
  std::vector<std::string> (*seeds)();
  // Words worth inserting.
  std::vector<std::string> (*dictionary)();
};

// All targets, in the order in which they run.
const std::vector<FuzzTarget>& FuzzTargets();

// The target of that name, or null.
const FuzzTarget* FindFuzzTarget(std::string_view name);

// What the targets are made of.

inline std::string_view AsText(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Ends the process with the text: the target found a mistake.
[[noreturn]] void FailFuzz(const std::string& what);

inline void Require(bool condition, std::string_view what) {
  if (!condition) FailFuzz(std::string(what));
}

// Runs the reader and returns whether it refused: with ConfigError (BudgetError too) or IoError and
// a message of one line without control characters; any other exception ends the process.
bool IsRefused(const std::function<void()>& reader);

// The same for a target's end: returns 0.
inline int RunReader(const std::function<void()>& reader) {
  IsRefused(reader);
  return 0;
}

// Whether an input is one of those, one in `one_in`, on which something is done that takes long.
inline bool IsInShare(std::string_view input, size_t one_in) {
  return std::hash<std::string_view>()(input) % one_in == 0;
}

// Files take most of the time: where a format can be read from memory most inputs are, and what is
// refused there is not written to a file.
inline bool IsReadFromDisk(std::string_view input) { return IsInShare(input, 16); }

// Runs what must succeed because the reader accepted the input.
void RunAccepted(std::string_view what, const std::function<void()>& action);

// A file in memory that is opened by path, as any other.
class MemoryFile {
 public:
  MemoryFile();
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  void Write(std::string_view bytes);
  const std::string& path() const { return path_; }

 private:
  int descriptor_;
  std::string path_;
};

// A folder, in memory where the system has such, removed with the object.
class FuzzFolder {
 public:
  FuzzFolder();
  ~FuzzFolder();
  FuzzFolder(const FuzzFolder&) = delete;
  FuzzFolder& operator=(const FuzzFolder&) = delete;

  std::string Path(std::string_view name) const { return path_ + "/" + std::string(name); }
  // Replaces the content of the file.
  void Write(std::string_view name, std::string_view bytes) const;
  std::string Read(std::string_view name) const;

 private:
  std::string path_;
};

// Removes the folders of a process that ended without doing so.
void RemoveFuzzFolders(int process);

// The text of a file of the source tree, for seeds.
std::string SourceFile(std::string_view path);

// All files of a folder of the source tree, by name.
std::vector<std::string> SourceFiles(std::string_view folder);

// The YAML files of a folder of the source tree, by name: without their comments, which are most of
// some, and the first as it is.
std::vector<std::string> YamlSourceFiles(std::string_view folder);

// The bytes of a value as files hold them.
template <typename T>
void Put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// Words of JSON and YAML, and numbers at the edge of their types.
std::vector<std::string> StructureWords();

}  // namespace hearth::test
