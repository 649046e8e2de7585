#include <fmt/format.h>

#include <boost/program_options/value_semantic.hpp>
#include <string>

#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/supervisor.h"
#include "runtime/checkpoint/inspect.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

void AddOptions(po::options_description* options) {
  options->add_options()("out", po::value<std::string>()->value_name("DIR"),
                         "the Hugging Face folder to write");
}

int Run(const Invocation& invocation) {
  if (!invocation.Has("out")) {
    throw ConfigError("command line: error: --out is missing; name the folder to write");
  }
  if (!IsCheckpoint(invocation.file)) {
    throw ConfigError(fmt::format(
        "{}: error: no checkpoint; name a checkpoint-<step> folder of a run", invocation.file));
  }
  ExportCheckpoint(invocation.file, invocation.Get<std::string>("out"));
  return kExitDone;
}

}  // namespace

Command MakeExportCommand() {
  return {.name = "export",
          .file = "CHECKPOINT",
          .summary = "write a checkpoint's weights as a Hugging Face folder",
          .details = "The weights are rounded to bf16.",
          .takes_run_keys = false,
          .add_options = AddOptions,
          .run = Run};
}

}  // namespace hearth
