// Folders of runs and sweeps as `hearth train` and `hearth sweep` leave them, made by hand.
#pragma once

#include <filesystem>
#include <string>

namespace hearth::test {

void WriteFile(const std::filesystem::path& file, const std::string& text);

// The log of a run whose loss at step s is 5 - s / steps, evaluated at both ends, without the last
// line's end where it is torn.
std::string LogText(int steps, bool is_torn = false);

struct FolderText {
  std::string name = "my-run";
  std::string rate = "0.004";
  std::string decay = "0.1";
  int max_steps = 20;
};
std::string ResolvedYaml(const FolderText& text);

// Planned: 1000 + 500 bytes on the device, 300 on the host.
extern const std::string kPlanYaml;

// A finished run with every file.
void WriteRun(const std::filesystem::path& folder, const FolderText& text = {});

// A run of a sweep that has ended so.
void WriteSweepRun(const std::filesystem::path& sweep, const std::string& id,
                   const FolderText& text, const std::string& outcome);

}  // namespace hearth::test
