// Runs the program as a user would.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace hearth::test {

struct ProgramResult {
  int exit_code = -1;  // 128 + the signal that ended it
  std::string output;  // standard output
  std::string errors;  // standard error
};

// A working folder of the test's own, and the program run in it.
class Workplace {
 public:
  const std::filesystem::path& folder() const { return folder_.path(); }

  void Write(const std::string& name, const std::string& text) const;
  std::string Read(const std::string& name) const;
  bool Exists(const std::string& name) const;
  // Names of all files and folders in the folder, sorted.
  std::vector<std::string> Content() const;

  // Runs hearth with these arguments to its end.
  ProgramResult Run(const std::vector<std::string>& arguments) const;
  // Starts it.
  pid_t Start(const std::vector<std::string>& arguments) const;
  // Waits for a started one: its exit code, or 128 + the signal that ended it.
  static int Await(pid_t program);

  // Standard error of the last one so far.
  std::string Errors() const;

 private:
  TemporaryFolder folder_;
  TemporaryFolder streams_;  // standard output and error
};

// Tokens of a repeated text in tokens.hearth, and a run of a tiny model on them in run.yaml.
void WriteTinyRun(const Workplace& workplace, int steps);

}  // namespace hearth::test
