#include <fmt/format.h>

#include "launcher/command.h"
#include "launcher/supervisor.h"
#include "runtime/checkpoint/inspect.h"

namespace hearth {

namespace {

int Run(const Invocation& invocation) {
  fmt::print("{}", Inspect(invocation.file));
  return kExitDone;
}

}  // namespace

Command MakeInspectCommand() {
  return {.name = "inspect",
          .file = "PATH",
          .summary = "show what a checkpoint, model or token file contains",
          .details =
              "PATH is a run's folder, a checkpoint, a Hugging Face folder, a safetensors "
              "file or a token file. Every byte of a checkpoint is verified.",
          .takes_run_keys = false,
          .add_options = nullptr,
          .run = Run};
}

}  // namespace hearth
