#include <fmt/format.h>

#include "launcher/command.h"
#include "launcher/run_check.h"
#include "launcher/supervisor.h"

namespace hearth {

namespace {

int Run(const Invocation& invocation) {
  fmt::print("{}\n", DescribeRun(LoadAndCheckRun(invocation.file, invocation.overrides)));
  return kExitDone;
}

}  // namespace

Command MakeValidateCommand() {
  return {.name = "validate",
          .file = "RUN.yaml",
          .summary = "check a run's configuration, model and data; create nothing",
          .details = "",
          .takes_run_keys = true,
          .add_options = nullptr,
          .run = Run};
}

}  // namespace hearth
