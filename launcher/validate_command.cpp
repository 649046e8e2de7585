#include <fmt/format.h>

#include "launcher/command.h"
#include "launcher/placement.h"
#include "launcher/run_check.h"
#include "launcher/supervisor.h"

namespace hearth {

namespace {

int Run(const Invocation& invocation) {
  const ResolvedConfig resolved = LoadRun(invocation.file, invocation.overrides);
  const Placement placement = PlaceRanks(invocation, resolved.config);
  fmt::print("{}\n", DescribeRun(CheckRun(resolved, placement.Grid(), !AreLocal(placement.hosts))));
  return kExitDone;
}

}  // namespace

Command MakeValidateCommand() {
  return {.name = "validate",
          .file = "RUN.yaml",
          .summary = "check a run's configuration, model and data; create nothing",
          .details = "",
          .takes_run_keys = true,
          .add_options = AddRankCountOption,
          .run = Run};
}

}  // namespace hearth
