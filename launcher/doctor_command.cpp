#include <fmt/format.h>

#include <algorithm>
#include <boost/program_options/value_semantic.hpp>
#include <string>

#include "comm/communicators.h"
#include "kernels/core/error.h"
#include "launcher/command.h"
#include "launcher/doctor_checks.h"
#include "launcher/hostfile.h"
#include "launcher/rank_environment.h"
#include "launcher/supervisor.h"

namespace hearth {

namespace {

namespace po = boost::program_options;

void AddOptions(po::options_description* options) {
  options->add_options()("json", po::bool_switch(), "one JSON object instead of lines")(
      "dir", po::value<std::string>()->default_value("."),
      "folder that runs will write to: its space and speed")(
      "hostfile", po::value<std::string>()->value_name("F"),
      "also look whether its hosts can be reached")(
      "as-rank", po::bool_switch(),
      "meet the other ranks of mpirun and end; doctor starts itself so");
}

// One of the two ranks of RealSystem::StartTwoRanks.
int MeetOthers() {
  const RankEnvironment environment = ReadRankEnvironment();
  BootstrapOptions options;
  if (environment.init_timeout) options.init_timeout = *environment.init_timeout;
  const auto bootstrap = MakeMpiBootstrap(options);
  const std::string word = fmt::format("rank {}", bootstrap->rank());
  Bytes mine(word.size());
  std::transform(word.begin(), word.end(), mine.begin(), [](char c) { return std::byte(c); });
  const std::vector<Bytes> all = bootstrap->AllGather(mine);
  bootstrap->Barrier();
  return all.size() == 2 && all[0].size() == mine.size() && all[0] != all[1] ? kExitDone
                                                                             : kExitFailed;
}

int Run(const Invocation& invocation) {
  if (invocation.Get<bool>("as-rank")) return MeetOthers();
  DoctorOptions options;
  options.folder = invocation.Get<std::string>("dir");
  if (invocation.Has("hostfile")) {
    options.hosts = ReadHostfile(invocation.Get<std::string>("hostfile"));
  }
  RealSystem system;
  const Findings findings = Examine(system, options);
  fmt::print("{}", invocation.Get<bool>("json") ? FindingsJson(findings) : FindingsText(findings));
  return HasProblem(findings) ? kExitFailed : kExitDone;
}

}  // namespace

Command MakeDoctorCommand() {
  return {.name = "doctor",
          .file = "",
          .summary = "look at this machine: what training finds here, and how to mend the rest",
          .details = "Exit code 1 when something keeps a run from working here, else 0.",
          .takes_run_keys = false,
          .add_options = AddOptions,
          .run = Run};
}

}  // namespace hearth
