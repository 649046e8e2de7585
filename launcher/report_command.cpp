#include <fmt/format.h>

#include <boost/program_options/value_semantic.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/run_check.h"
#include "launcher/run_lock.h"
#include "launcher/supervisor.h"
#include "launcher/sweep_outcome.h"
#include "runtime/config/config_paths.h"
#include "runtime/config/sweep_config.h"
#include "runtime/config/yaml_document.h"
#include "runtime/report/page.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

void AddOptions(po::options_description* options) {
  options->add_options()("out", po::value<std::string>()->required()->value_name("F.html"),
                         "file to write, required");
}

// What an argument stands for: the folder that was written.
struct Source {
  std::filesystem::path folder;
  std::string sweep_text;  // of a sweep.yaml; "" for anything else
};

bool IsYaml(const std::string& argument) {
  return argument.ends_with(".yaml") || argument.ends_with(".yml");
}

Source SourceOf(const std::string& argument) {
  if (std::filesystem::is_directory(argument)) return {.folder = argument};
  if (!IsYaml(argument)) {
    throw ConfigError(fmt::format(
        "{}: error: there is no such folder; give the folder of a run or a sweep, or its .yaml",
        argument));
  }
  const std::string text = ReadConfigText(argument, argument);
  if (YamlDocument::Parse(text, argument).root().Find("base") != nullptr) {
    return {.folder = ParseSweep(text, argument).output_dir, .sweep_text = text};
  }
  return {.folder = LoadRun(argument, {}).config.output_dir};
}

void RequireHtml(const std::string& out) {
  if (out.ends_with(".html") && !std::filesystem::is_directory(out)) return;
  throw ConfigError(fmt::format(
      "command line: error: --out {} is not the name of an HTML file; end it in .html", out));
}

std::string MakeReport(const std::vector<Source>& sources) {
  const ReadOptions options{.in_use = IsLocked};
  std::vector<RunData> runs;
  for (const Source& source : sources) {
    const bool is_sweep = !source.sweep_text.empty() || IsSweepFolder(source.folder);
    if (!is_sweep) {
      runs.push_back(ReadRun(source.folder, options));
      continue;
    }
    if (sources.size() > 1) {
      throw ConfigError(fmt::format(
          "{}: error: a sweep has a report of its own; name it alone, or folders of single runs",
          source.folder.string()));
    }
    return SweepReport(ReadSweep(source.folder, source.sweep_text, options, kMostReportCurves));
  }
  return RunReport(runs);
}

int Run(const Invocation& invocation) {
  const auto& out = invocation.Get<std::string>("out");
  RequireHtml(out);
  if (std::ssize(invocation.files) > kMostReportCurves) {
    throw ConfigError(fmt::format(
        "command line: error: {} runs are more than a report shows; name at most {}, or a sweep",
        invocation.files.size(), kMostReportCurves));
  }
  std::vector<Source> sources;
  for (const std::string& file : invocation.files) sources.push_back(SourceOf(file));
  const std::string html = MakeReport(sources);
  ReplaceFile(out, html);
  fmt::print("{}: {:.1f} kB\n", out, static_cast<double>(html.size()) / 1e3);
  return kExitDone;
}

}  // namespace

Command MakeReportCommand() {
  return {
      .name = "report",
      .file = "RUN... | SWEEP",
      .summary = "show a run, several beside each other or a sweep as one HTML page",
      .details =
          "RUN and SWEEP are folders that `hearth train` and `hearth sweep` wrote, or the YAML\n"
          "files that they were made from. Also while they run. The page needs no network.",
      .takes_run_keys = false,
      .repeats_file = true,
      .add_options = AddOptions,
      .run = Run};
}

}  // namespace hearth
