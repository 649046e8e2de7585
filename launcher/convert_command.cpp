#include <fmt/format.h>

#include <boost/program_options/value_semantic.hpp>
#include <fstream>
#include <string>

#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/supervisor.h"
#include "runtime/config/config_paths.h"
#include "runtime/config/convert_config.h"
#include "runtime/config/resolved_config.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

void AddOptions(po::options_description* options) {
  options->add_options()("from", po::value<std::string>()->required()->value_name("FORMAT"),
                         "hf (TrainingArguments as JSON) | axolotl | llamafactory | llmq (a file "
                         "with the command line), required")(
      "out", po::value<std::string>()->value_name("RUN.yaml"),
      "file to write; default: standard output")(
      "model", po::value<std::string>()->default_value(""), "the model, instead of the file's")(
      "data", po::value<std::string>()->default_value(""),
      "the token file to train on, instead of the file's");
}

void Report(const char* title, const std::vector<std::string>& lines) {
  if (lines.empty()) return;
  fmt::print(stderr, "{}\n", title);
  for (const std::string& line : lines) fmt::print(stderr, "  {}\n", line);
}

void WriteNew(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.flush();
  if (!out) throw IoError(fmt::format("{}: cannot be written", path));
}

int Run(const Invocation& invocation) {
  const ConvertOptions options{.format = invocation.Get<std::string>("from"),
                               .file_name = invocation.file,
                               .model = invocation.Get<std::string>("model"),
                               .data = invocation.Get<std::string>("data")};
  const ConvertedConfig converted =
      ConvertConfig(ReadConfigText(invocation.file, invocation.file), options);
  const bool has_file = invocation.Has("out");
  const std::string out = has_file ? invocation.Get<std::string>("out") : "run.yaml";
  if (has_file) {
    WriteNew(out, converted.yaml);
  } else {
    fmt::print("{}", converted.yaml);
  }
  Report("To be filled in:", converted.missing);
  Report("Assumed, as the other program does where it is not told:", converted.assumed);
  Report("No counterpart:", converted.lost);
  // Values that are fine alone may not be so together. The run may be meant for another machine.
  try {
    ParseConfig(
        {.text = converted.yaml, .file_name = out, .overrides = {}, .features = {.cuda = true}});
  } catch (const ConfigError& error) {
    fmt::print(stderr, "To be mended before it can run:\n  {}\n", error.what());
    return kExitFailed;
  }
  return kExitDone;
}

}  // namespace

Command MakeConvertConfigCommand() {
  return {
      .name = "convert-config",
      .file = "FILE",
      .summary = "turn another trainer's configuration into a run.yaml",
      .details =
          "What was assumed and what has no counterpart is listed on standard error and in the\n"
          "file's last comment. Exit code 1 when the result has to be mended before it can run.",
      .takes_run_keys = false,
      .add_options = AddOptions,
      .run = Run};
}

}  // namespace hearth
