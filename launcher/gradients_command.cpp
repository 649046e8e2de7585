#include "runtime/train/gradients_run.h"

#include <boost/program_options/value_semantic.hpp>
#include <string>

#include "launcher/command.h"
#include "launcher/run_check.h"
#include "launcher/single_rank.h"
#include "launcher/supervisor.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

void AddOptions(po::options_description* options) {
  options->add_options()("out", po::value<std::string>()->required()->value_name("F.safetensors"),
                         "file to write, required")("logits", po::bool_switch(),
                                                    "write the logits [tokens, vocab] too");
}

int Run(const Invocation& invocation) {
  const ResolvedConfig resolved = LoadRun(invocation.file, invocation.overrides);
  const SingleRank rank(resolved.config);
  RunGradients(resolved, rank.environment(), invocation.Get<std::string>("out"),
               invocation.Get<bool>("logits"));
  return kExitDone;
}

}  // namespace

Command MakeGradientsCommand() {
  return {.name = "gradients",
          .file = "RUN.yaml",
          .summary = "write loss and gradients of a run's first step, for comparison",
          .details =
              "Forward and backward of step 1, no update. The file holds fp32 tensors: loss, and\n"
              "each gradient under its Hugging Face name and shape.",
          .takes_run_keys = true,
          .add_options = AddOptions,
          .run = Run};
}

}  // namespace hearth
