#include "launcher/link_probe.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "kernels/core/error.h"
#include "launcher/device_choice.h"
#include "launcher/exchange_ways.h"
#include "launcher/link_cache.h"
#include "launcher/own_ranks.h"
#include "launcher/rank_environment.h"
#include "runtime/bench/links_probe.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

constexpr size_t kLongestWords = 200;
constexpr double kMostUseful = 1e15;  // neither bytes nor GB/s nor microseconds are more
constexpr int kSignalBase = 128;
constexpr int kLargestSignal = 64;

// What is known of a stage; `problem` where it has none of the rest.
struct StageResult {
  std::string problem;
  nlohmann::json line;
};

std::string WayOf(const std::string& stage) { return stage.substr(0, stage.rfind(':')); }
std::string PartOf(const std::string& stage) { return stage.substr(stage.rfind(':') + 1); }

// A child may say anything: what is not there, or not of the type, is none.
std::string Text(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

double Number(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return 0;
  const auto value = found->get<double>();
  return value > 0 && value < kMostUseful ? value : 0;
}

// The objects among the lines of an output; what is cut off is none.
std::vector<nlohmann::json> Objects(const std::string& output) {
  std::vector<nlohmann::json> objects;
  std::istringstream in(output);
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line.front() != '{') continue;
    nlohmann::json object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (object.is_object()) objects.push_back(std::move(object));
  }
  return objects;
}

// The last thing that a program said in words.
std::string LastWords(const std::string& output) {
  std::string last;
  std::istringstream in(output);
  for (std::string line; std::getline(in, line);) {
    const bool has_words = line.find_first_not_of(" \t-*") != std::string::npos;
    if (has_words && line.front() != '{') last = line;
  }
  return OneLine(last.substr(0, kLongestWords));
}

// Why a job ended in the middle of a stage.
std::string WhyEnded(const CommandEnd& end) {
  const std::string words = LastWords(end.output);
  const std::string said = words.empty() ? "" : fmt::format(" ({})", words);
  if (!end.started) return fmt::format("could not be started{}", said);
  if (end.timed_out) return "hangs: no answer in time" + said;
  if (end.exit_code > kSignalBase && end.exit_code <= kSignalBase + kLargestSignal) {
    return fmt::format("crashes: signal {}{}", end.exit_code - kSignalBase, said);
  }
  if (end.exit_code == 0) return "gave no answer" + said;
  return words.empty() ? fmt::format("fails with exit code {}", end.exit_code)
                       : fmt::format("fails: {}", words);
}

class Probe {
 public:
  Probe(const LinkProbeOptions& options, const LinkJobRunner& run) : options_(options), run_(run) {}

  LinkTable Run() {
    if (options_.pairs) {
      for (int from = 0; from < options_.ranks; ++from) {
        for (int to = from + 1; to < options_.ranks; ++to) ProbePair(from, to);
      }
    }
    ProbeAll();
    return std::move(table_);
  }

 private:
  void Say(const std::string& line) const {
    if (options_.progress) options_.progress(line);
  }

  // Runs the stages, by as many jobs as it takes; a result for each.
  std::vector<StageResult> RunStages(LinkJob job) {
    std::vector<StageResult> results;
    while (!job.stages.empty()) {
      const CommandEnd end = run_(job);
      std::vector<nlohmann::json> objects = Objects(end.output);
      if (!objects.empty() && objects.front().contains("devices")) {
        TakeDevices(job, objects.front());
        objects.erase(objects.begin());
      }
      size_t done = 0;
      while (done < job.stages.size() && done < objects.size() &&
             Text(objects[done], "stage") == job.stages[done]) {
        nlohmann::json& line = objects[done++];
        results.push_back({.problem = Text(line, "problem"), .line = std::move(line)});
      }
      job.stages.erase(job.stages.begin(), job.stages.begin() + static_cast<std::ptrdiff_t>(done));
      if (job.stages.empty()) break;
      results.push_back({.problem = WhyEnded(end), .line = {}});
      job.stages.erase(job.stages.begin());
    }
    return results;
  }

  void TakeDevices(const LinkJob& job, const nlohmann::json& line) {
    const auto devices = line.find("devices");
    if (devices == line.end() || !devices->is_array() || devices->size() != job.places.size()) {
      return;
    }
    table_.device = Text(line, "device");
    if (std::ssize(job.places) != options_.ranks) return;
    table_.machine.devices.clear();
    for (const nlohmann::json& device : *devices) {
      table_.machine.devices.push_back(device.is_string() ? device.get<std::string>() : "");
    }
  }

  void ProbePair(int first, int second) {
    Say(fmt::format("ranks {} and {}", first, second));
    LinkJob job{.places = {first, second}};
    for (const std::string& way : options_.ways) {
      for (const char* part : {":0", ":1", ":both"}) job.stages.push_back(way + part);
    }
    const std::vector<std::string> stages = job.stages;
    const std::vector<StageResult> results = RunStages(std::move(job));
    for (size_t i = 0; i + 2 < stages.size(); i += 3) {
      const StageResult& both = results[i + 2];
      for (size_t sender : {size_t{0}, size_t{1}}) {
        const StageResult& alone = results[i + sender];
        table_.directions.push_back(
            {.from = sender == 0 ? first : second,
             .to = sender == 0 ? second : first,
             .way = WayOf(stages[i]),
             .problem = alone.problem.empty() ? both.problem : alone.problem,
             .gb_per_s = Speed(alone),
             .both_gb_per_s = Speed(both)});
        NoteProblem(table_.directions.back());
      }
    }
  }

  static double Speed(const StageResult& result) {
    return result.line.is_object() ? Number(result.line, "gb_per_s") : 0;
  }

  bool HasProblem(const std::string& way) const {
    return std::any_of(table_.problems.begin(), table_.problems.end(),
                       [&](const LinkProblem& problem) { return problem.way == way; });
  }

  // The first of each way.
  void NoteProblem(const LinkDirection& direction) {
    if (direction.problem.empty() || HasProblem(direction.way)) return;
    table_.problems.push_back({direction.way, fmt::format("rank {} to {}: {}", direction.from,
                                                          direction.to, direction.problem)});
  }

  void ProbeAll() {
    LinkJob job;
    for (int rank = 0; rank < options_.ranks; ++rank) job.places.push_back(rank);
    for (const std::string& way : options_.ways) {
      if (!HasProblem(way)) job.stages.push_back(way + ":all");
    }
    Say(fmt::format("all {} ranks", options_.ranks));
    const std::vector<std::string> stages = job.stages;
    const std::vector<StageResult> results = RunStages(std::move(job));
    for (size_t i = 0; i < stages.size(); ++i) {
      const std::string way = WayOf(stages[i]);
      if (!results[i].problem.empty()) {
        table_.problems.push_back({way, results[i].problem});
        continue;
      }
      const auto figures = results[i].line.find("figures");
      if (figures == results[i].line.end() || !figures->is_array()) continue;
      for (const nlohmann::json& figure : *figures) {
        if (!figure.is_object() || Number(figure, "us") == 0 || Number(figure, "bytes") < 1) {
          continue;
        }
        table_.figures.push_back({.operation = Text(figure, "operation"),
                                  .way = way,
                                  .bytes = static_cast<int64_t>(Number(figure, "bytes")),
                                  .microseconds = Number(figure, "us")});
      }
    }
  }

  const LinkProbeOptions& options_;
  const LinkJobRunner& run_;
  LinkTable table_;
};

// ---- A rank ----

nlohmann::json RunStage(const std::string& stage, Bootstrap& bootstrap, KernelBackend& backend,
                        const LinkRankOptions& options) {
  const ExchangeWay way = FindWay(WayOf(stage));
  const std::string part = PartOf(stage);
  const auto make = [&] {
    return MakeWayCommunicator(way, bootstrap, backend, {.collective_timeout = options.timeout});
  };
  nlohmann::json line = {{"stage", stage}};
  if (part == "all") {
    LinksBenchOptions bench;
    // Host memory is all that a CPU has: larger sizes would tell nothing new.
    if (backend.device().kind() == DeviceType::kCpu) bench.bytes.pop_back();
    const WayTrial trial =
        TryWay(bootstrap, backend, {.name = way.name, .make_communicator = make}, bench);
    line["problem"] = trial.problem;
    line["figures"] = nlohmann::json::array();
    for (const LinkFigure& figure : trial.figures) {
      line["figures"].push_back(
          {{"operation", figure.operation}, {"bytes", figure.bytes}, {"us", figure.microseconds}});
    }
    return line;
  }
  const std::vector<int> senders = part == "0"   ? std::vector<int>{0}
                                   : part == "1" ? std::vector<int>{1}
                                                 : std::vector<int>{0, 1};
  const DirectionTrial trial = TryDirection(bootstrap, backend, make, senders);
  line["problem"] = trial.problem;
  line["gb_per_s"] = trial.gb_per_s;
  return line;
}

void PrintLine(const Bootstrap& bootstrap, const nlohmann::json& line) {
  if (bootstrap.rank() != 0) return;
  fmt::print("{}\n", line.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  std::fflush(stdout);
}

nlohmann::json DevicesLine(Bootstrap& bootstrap, KernelBackend& backend) {
  nlohmann::json devices = nlohmann::json::array();
  for (const std::string& identity : GatherIdentities(bootstrap, backend)) {
    devices.push_back(identity);
  }
  return {{"devices", devices}, {"device", backend.device().name()}};
}

}  // namespace

LinkTable ProbeLinks(const LinkProbeOptions& options, const LinkJobRunner& run) {
  return Probe(options, run).Run();
}

int RunLinkRank(const LinkRankOptions& options) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  PrepareForGpus();
  const RankEnvironment environment = ReadRankEnvironment();
  BootstrapOptions bounds;
  if (environment.init_timeout) bounds.init_timeout = *environment.init_timeout;
  const auto bootstrap = MakeMpiBootstrap(bounds);
  const auto rank = static_cast<size_t>(bootstrap->rank());
  if (bootstrap->world() != static_cast<int>(options.job.places.size())) {
    throw ConfigError("command line: error: --places names another number of ranks");
  }
  const auto backend =
      MakeRankBackend({.device = options.device, .local_rank = options.job.places[rank]});
  PrintLine(*bootstrap, DevicesLine(*bootstrap, *backend));
  for (const std::string& stage : options.job.stages) {
    PrintLine(*bootstrap, RunStage(stage, *bootstrap, *backend, options));
  }
  return 0;
}

CommandEnd RunLinkJob(const LinkJob& job, DeviceKind device, std::chrono::milliseconds silence) {
  OwnRanks own{.ranks = static_cast<int>(job.places.size()),
               .arguments = {"probe", "--as-rank", "--device", std::string(EnumName(device)),
                             "--places", fmt::format("{}", fmt::join(job.places, ","))},
               .silence = silence,
               .init_timeout = silence};
  for (const std::string& stage : job.stages) {
    own.arguments.insert(own.arguments.end(), {"--stage", stage});
  }
  return RunOwnRanks(own);
}

LinkTable ProbeThisHost(const HostProbeOptions& options) {
  const bool gpus = UsesGpus(options.device);
  std::vector<std::string> ways;
  for (const ExchangeWay& way : ExchangeWays(gpus)) ways.push_back(way.name);
  const LinkProbeOptions probe{.ranks = options.ranks,
                               .ways = std::move(ways),
                               .pairs = options.pairs,
                               .progress = options.progress};
  LinkTable table = ProbeLinks(
      probe, [&](const LinkJob& job) { return RunLinkJob(job, options.device, options.silence); });
  if (table.machine.devices.empty()) {
    throw IoError(fmt::format("no rank could be started to look at the links: {}",
                              table.problems.empty() ? "" : table.problems.front().problem));
  }
  table.machine = ThisMachine(std::move(table.machine.devices), gpus);
  return table;
}

std::string LinkTableForPeople(const LinkTable& table, const std::vector<WayRule>& rules) {
  std::string text = fmt::format("{}, {}\n", DescribeRanks(table.device, table.machine.devices),
                                 table.machine.host);
  if (!table.directions.empty()) {
    text += fmt::format("\n{:>4} {:>4}  {:18} {:>10} {:>12}\n", "from", "to", "way", "GB/s",
                        "both ways");
  }
  const auto out = std::back_inserter(text);
  for (const LinkDirection& d : table.directions) {
    fmt::format_to(out, "{:>4} {:>4}  {:18} ", d.from, d.to, d.way);
    if (d.problem.empty()) {
      fmt::format_to(out, "{:>10.2f} {:>12.2f}\n", d.gb_per_s, d.both_gb_per_s);
    } else {
      fmt::format_to(out, "{}\n", d.problem);
    }
  }
  if (!table.figures.empty()) {
    text += fmt::format("\n{:16} {:18} {:>12} {:>12}\n", "operation", "way", "bytes", "us");
  }
  for (const LinkFigure& f : table.figures) {
    fmt::format_to(out, "{:16} {:18} {:>12} {:>12.1f}\n", f.operation, f.way, f.bytes,
                   f.microseconds);
  }
  for (const LinkProblem& problem : table.problems) {
    text += fmt::format("\nnot used: {}: {}", problem.way, problem.problem);
  }
  return text + fmt::format("\ncomm.backend: auto: {}\n",
                            rules.empty() ? "mpi, as nothing else was measured" : Describe(rules));
}

}  // namespace hearth
