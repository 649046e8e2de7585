#include <fmt/format.h>

#include <boost/program_options/value_semantic.hpp>
#include <fstream>
#include <string>

#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/program_info.h"
#include "launcher/run_check.h"
#include "launcher/supervisor.h"
#include "runtime/plan/plan.h"
#include "runtime/train/run_setup.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

constexpr int kMaxRanks = 4096;

void AddOptions(po::options_description* options) {
  options->add_options()(",n", po::value<int>()->default_value(1)->value_name("N"),
                         "ranks to plan for")(
      "out", po::value<std::string>()->value_name("PLAN.yaml"), "write the plan there");
}

int Run(const Invocation& invocation) {
  const int ranks = invocation.Get<int>("-n");
  if (ranks < 1 || ranks > kMaxRanks) {
    throw ConfigError(fmt::format("command line: error: -n {}: a number of ranks from 1 to {}",
                                  ranks, kMaxRanks));
  }
  const ResolvedConfig resolved = LoadAndCheckRun(invocation.file, invocation.overrides);
  const ModelSetup model = SetUpModel(resolved, InstalledConfigs());
  const std::string text = PlanYaml(MakePlan(resolved, model.spec, ranks), model.spec);
  if (!invocation.Has("out")) {
    fmt::print("{}", text);
    return kExitDone;
  }
  const std::string& path = invocation.Get<std::string>("out");
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) throw IoError(fmt::format("{}: cannot be written", path));
  return kExitDone;
}

}  // namespace

Command MakePlanCommand() {
  return {.name = "plan",
          .file = "RUN.yaml",
          .summary = "show where a run's data will live and how much memory it takes",
          .details = "",
          .takes_run_keys = true,
          .add_options = AddOptions,
          .run = Run};
}

}  // namespace hearth
