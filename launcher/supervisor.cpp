#include "launcher/supervisor.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "launcher/heartbeat_relay.h"
#include "launcher/job_folder.h"
#include "launcher/message_log.h"
#include "launcher/signal_inbox.h"
#include "launcher/starter_output.h"
#include "runtime/telemetry/heartbeat_board.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPollInterval{50};
// From the first report of a failure until everything is killed: the ranks report in any order.
constexpr std::chrono::milliseconds kReportGrace{150};
// mpirun's own way to the end, once all ranks have finished or one has died.
constexpr std::chrono::seconds kStarterGrace{10};
// For mpirun to end ranks on other hosts, and to say what became of them (measured: 1.4 s).
constexpr std::chrono::seconds kRemoteGrace{5};
constexpr std::chrono::seconds kVerdictGrace{3};
// For what the ranks have said, once all are gone.
constexpr std::chrono::seconds kLastWords{1};
constexpr int kKillTimeoutMs = 10'000;
// mpirun has lost a signal that it was to forward (seen once, on a busy machine): ranks elsewhere
// that take so many steps more, and have had so much time, have not heard of it.
constexpr int64_t kStepsToHear = 3;
constexpr std::chrono::seconds kTimeToHear{2};

enum class AttemptEnd { kDone, kFailed, kLost, kUnreachable, kInterrupted };

struct AttemptResult {
  AttemptEnd end = AttemptEnd::kDone;
  int exit_code = 0;
  std::string message;  // one line; "": the ranks or their starter have said it themselves
};

// When the starter was last asked to forward the request to stop, and the step of the foremost
// rank.
struct StopRequest {
  int64_t step = 0;
  Clock::time_point at;
};

void Say(const std::string& message, MessageLog* log) {
  log->Take(message);
  // A progress line may stand there unfinished.
  fmt::print(stderr, "{}{}\n", isatty(STDERR_FILENO) != 0 ? "\r\x1b[K" : "", message);
  std::fflush(stderr);
}

// One start of the job.
class Attempt {
 public:
  Attempt(const SupervisorOptions& options, int64_t start, SignalInbox* inbox, int* stop_requests,
          MessageLog* log)
      : options_(options),
        inbox_(inbox),
        stop_requests_(stop_requests),
        log_(log),
        bystanders_(Children()),
        folder_(options.job_base),
        board_(HeartbeatBoard::Create(folder_.path() / kHeartbeatFile, options.ranks)),
        watch_(options.ranks, options.limits, Clock::now()),
        process_(options.make_start(folder_.path(), start)) {
    if (options.remote_ranks) {
      output_ = std::make_unique<StarterOutput>(board_, JobToken(folder_.path()), log_);
      process_.error = output_->write_end();
    } else if (!options.run_folder.empty()) {
      tee_ = std::make_unique<ErrorTee>(log_);
      process_.error = tee_->write_end();
    }
    starter_ = StartProcess(process_);
    if (output_) output_->CloseWriteEnd();
    if (tee_) tee_->CloseWriteEnd();
  }

  ~Attempt() {
    if (output_) EndRemoteRanks();
    bystanders_.push_back(folder_.guard());
    KillChildren(bystanders_, starter_, kKillTimeoutMs);
    if (tee_) tee_->DrainToEnd(kLastWords);
  }
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  AttemptResult Run() {
    while (true) {
      TakeSignals();
      if (*stop_requests_ >= 2) {
        return {AttemptEnd::kInterrupted, kExitFailed,
                "hearth: ended at once; the last checkpoint stands"};
      }
      if (output_) output_->Drain();
      if (tee_) tee_->Drain();
      if (*stop_requests_ > 0) ForwardStop();
      if (auto result = Look()) return *result;
    }
  }

 private:
  void TakeSignals() {
    const int before = *stop_requests_;
    *stop_requests_ += inbox_->Wait(kPollInterval);
    if (before == 0 && *stop_requests_ == 1) {
      Say("hearth: stopping: the ranks finish their step and save; once more ends them at once",
          log_);
    }
  }

  // mpirun alone can end what runs elsewhere; killed, it would leave that to the daemons there,
  // which notice only later.
  void EndRemoteRanks() {
    output_->Mute();  // what mpirun and ranks say of being ended is no news
    if (!StarterEnded()) kill(starter_, SIGTERM);
    const auto until = Clock::now() + kRemoteGrace;
    while (!StarterEnded() && Clock::now() < until) output_->DrainToEnd(kPollInterval);
    output_->Drain();
  }

  bool StarterEnded() {
    int status = 0;
    if (!starter_status_ && waitpid(starter_, &status, WNOHANG) == starter_) {
      starter_status_ = status;
    }
    return starter_status_.has_value();
  }

  // Ranks that appear later are asked as soon as they do; those on other hosts all at once, when
  // all are there to hear it.
  void ForwardStop() {
    if (options_.remote_ranks) {
      const std::vector<HeartbeatReading> readings = ReadAll();
      const bool all = std::none_of(readings.begin(), readings.end(), [](const auto& reading) {
        return reading.state == RankState::kAbsent;
      });
      if (all) AskElsewhere(readings);
      return;
    }
    for (int rank = 0; rank < options_.ranks; ++rank) {
      const HeartbeatReading reading = ReadHeartbeat(board_, rank);
      if (reading.state != RankState::kRunning || !asked_.insert(rank).second) continue;
      kill(static_cast<pid_t>(reading.pid), SIGUSR1);
    }
  }

  void AskElsewhere(const std::vector<HeartbeatReading>& readings) {
    int64_t step = 0;
    for (const HeartbeatReading& reading : readings) step = std::max(step, reading.step);
    const bool heard = asked_elsewhere_ && (step < asked_elsewhere_->step + kStepsToHear ||
                                            Clock::now() < asked_elsewhere_->at + kTimeToHear);
    if (heard) return;
    asked_elsewhere_ = StopRequest{.step = step, .at = Clock::now()};
    kill(starter_, SIGUSR1);
  }

  std::vector<HeartbeatReading> ReadAll() const {
    std::vector<HeartbeatReading> readings;
    for (int rank = 0; rank < options_.ranks; ++rank) {
      readings.push_back(ReadHeartbeat(board_, rank));
      if (output_) readings.back().host = output_->host(rank);
    }
    return readings;
  }

  // How the job has ended; nullopt as long as it runs.
  std::optional<AttemptResult> Look() {
    const bool starter_ended = StarterEnded();
    if (starter_ended && output_) output_->DrainToEnd(kRemoteGrace);
    const std::vector<HeartbeatReading> readings = ReadAll();
    if (auto failed = FindFailed(readings)) return failed;
    if (auto dead = FindDead(readings))
      return AttemptResult{AttemptEnd::kLost, kExitRankLost, *dead};
    if (starter_ended) return JudgeStarter(*starter_status_, readings);
    // mpirun needs seconds from there to its end.
    if (output_ && output_->verdict() && output_->verdict()->started) {
      return AttemptResult{AttemptEnd::kLost, kExitRankLost, output_->verdict()->message};
    }
    if (auto hung = watch_.Look(readings, Clock::now())) {
      const std::string message = "hearth: " + *hung;
      // A dead rank is silent too, and mpirun takes its time to say that it is dead.
      return AttemptResult{AttemptEnd::kLost, kExitRankLost,
                           output_ ? AwaitVerdict().value_or(message) : message};
    }
    return FindAllFinished(readings);
  }

  std::optional<AttemptResult> FindFailed(const std::vector<HeartbeatReading>& readings) {
    const auto failed = [](const HeartbeatReading& r) { return r.state == RankState::kFailed; };
    if (std::none_of(readings.begin(), readings.end(), failed)) return std::nullopt;
    // Others may be about to report an earlier failure, or have died just before: both are causes.
    inbox_->Wait(std::chrono::milliseconds(0));
    const auto until = Clock::now() + kReportGrace;
    while (Clock::now() < until) *stop_requests_ += inbox_->Wait(std::chrono::milliseconds(20));
    const std::vector<HeartbeatReading> all = ReadAll();
    int first = -1;
    for (int rank = 0; rank < options_.ranks; ++rank) {
      const HeartbeatReading& reading = all[static_cast<size_t>(rank)];
      if (!failed(reading)) continue;
      if (first < 0 || reading.ended_ns < all[static_cast<size_t>(first)].ended_ns) first = rank;
    }
    const HeartbeatReading& reading = all[static_cast<size_t>(first)];
    const auto code = static_cast<int>(reading.exit_code);
    if (code != kExitRankLost) return AttemptResult{AttemptEnd::kFailed, code, reading.message};
    // Who lost its peers is not the one to blame where a peer is dead.
    const auto dead = output_ ? AwaitVerdict() : FindDead(all);
    return AttemptResult{AttemptEnd::kLost, code, dead.value_or(reading.message)};
  }

  // What mpirun says of a rank that its peers have missed before it did.
  std::optional<std::string> AwaitVerdict() {
    const auto until = Clock::now() + kVerdictGrace;
    while (!output_->verdict() && !StarterEnded() && Clock::now() < until) {
      output_->DrainToEnd(kPollInterval);
    }
    output_->DrainToEnd(kPollInterval);
    if (!output_->verdict()) return std::nullopt;
    return output_->verdict()->message;
  }

  std::optional<std::string> FindDead(const std::vector<HeartbeatReading>& readings) const {
    if (options_.remote_ranks) return std::nullopt;  // their pids mean nothing here
    for (int rank = 0; rank < options_.ranks; ++rank) {
      const HeartbeatReading& reading = readings[static_cast<size_t>(rank)];
      if (reading.state != RankState::kRunning || IsRunning(static_cast<pid_t>(reading.pid)))
        continue;
      // It may have ended well between the two looks.
      if (ReadHeartbeat(board_, rank).state != RankState::kRunning) continue;
      return fmt::format(
          "hearth: {} died: it was killed or has crashed (out of memory? see dmesg); last seen at "
          "{}",
          DescribeRank(static_cast<size_t>(rank), reading), DescribePlace(reading));
    }
    return std::nullopt;
  }

  AttemptResult JudgeStarter(int status, const std::vector<HeartbeatReading>& readings) const {
    if (WIFSIGNALED(status)) {
      const int number = WTERMSIG(status);
      return {AttemptEnd::kLost, kExitRankLost,
              fmt::format("hearth: mpirun (process {}) was killed by signal {} ({})", starter_,
                          number, strsignal(number))};
    }
    const int code = WEXITSTATUS(status);
    if (code == 0) return {};
    if (output_ && output_->verdict()) {
      const StarterVerdict& verdict = *output_->verdict();
      if (verdict.started) return {AttemptEnd::kLost, kExitRankLost, verdict.message};
      return {verdict.unreachable ? AttemptEnd::kUnreachable : AttemptEnd::kFailed, kExitFailed,
              verdict.message};
    }
    // What mpirun passes on from a rank: its exit code, or 128 and a signal.
    if (code == kExitRankLost || code > 128) {
      return {AttemptEnd::kLost, kExitRankLost,
              fmt::format("hearth: a rank was lost (mpirun's exit code {})", code)};
    }
    const auto absent = [](const HeartbeatReading& r) { return r.state == RankState::kAbsent; };
    if (std::all_of(readings.begin(), readings.end(), absent)) {
      return {
          AttemptEnd::kFailed, code,
          fmt::format("hearth: no rank was started (exit code {}); this command, without --quiet, "
                      "may say why: {}",
                      code, fmt::join(process_.arguments, " "))};
    }
    return {AttemptEnd::kFailed, code,
            fmt::format("hearth: the ranks ended with exit code {}", code)};
  }

  // mpirun may itself be stopped or stuck when its ranks are through.
  std::optional<AttemptResult> FindAllFinished(const std::vector<HeartbeatReading>& readings) {
    const bool finished =
        std::all_of(readings.begin(), readings.end(), [&](const HeartbeatReading& reading) {
          return reading.state == RankState::kFinished &&
                 (options_.remote_ranks || !IsRunning(static_cast<pid_t>(reading.pid)));
        });
    if (!finished) return std::nullopt;
    if (!finished_since_) finished_since_ = Clock::now();
    if (Clock::now() - *finished_since_ < kStarterGrace) return std::nullopt;
    return AttemptResult{};
  }

  const SupervisorOptions& options_;
  SignalInbox* inbox_;
  int* stop_requests_;
  MessageLog* log_;
  std::vector<pid_t> bystanders_;  // children this process had before the job
  JobFolder folder_;
  HeartbeatBoard board_;
  HangWatch watch_;
  ProcessOptions process_;
  std::unique_ptr<StarterOutput> output_;  // null: all ranks are on this host
  std::unique_ptr<ErrorTee> tee_;          // null: they are not, or nobody keeps what they say
  pid_t starter_ = -1;
  std::optional<int> starter_status_;  // once it has ended
  std::set<int> asked_;                // ranks that have been asked to stop
  std::optional<StopRequest> asked_elsewhere_;
  std::optional<Clock::time_point> finished_since_;
};

AttemptResult RunAttempt(const SupervisorOptions& options, int64_t start, SignalInbox* inbox,
                         int* stop_requests, MessageLog* log) {
  Attempt attempt(options, start, inbox, stop_requests, log);
  AttemptResult result = attempt.Run();
  // To end what runs on a host that is out of reach takes seconds: first who is to blame.
  if (options.remote_ranks && result.end == AttemptEnd::kLost && !result.message.empty()) {
    Say(std::exchange(result.message, ""), log);
  }
  return result;
}

// How long a restart has been waiting for a host.
class Reach {
 public:
  Reach(const SupervisorOptions& options, MessageLog* log) : options_(options), log_(log) {}

  // Whether to look for it again, after a pause; says so the first time.
  bool TryAgain(const AttemptResult& result, SignalInbox* inbox, int* stop_requests) {
    if (result.end != AttemptEnd::kUnreachable) {
      since_.reset();
      return false;
    }
    if (!since_) {
      since_ = Clock::now();
      Say(result.message, log_);
      Say(fmt::format("hearth: trying to reach all hosts again for {:.0f} s (comm.init_timeout_s)",
                      std::chrono::duration<double>(options_.reach_timeout).count()),
          log_);
    }
    if (Clock::now() - *since_ > options_.reach_timeout) return false;
    const auto until = Clock::now() + options_.reach_pause;
    while (*stop_requests == 0 && Clock::now() < until)
      *stop_requests += inbox->Wait(kPollInterval);
    return *stop_requests == 0;
  }

 private:
  const SupervisorOptions& options_;
  MessageLog* log_;
  std::optional<Clock::time_point> since_;
};

}  // namespace

int Supervise(const SupervisorOptions& options) {
  AdoptOrphans();
  SignalInbox inbox;
  int stop_requests = 0;
  MessageLog log(options.run_folder);
  Reach reach(options, &log);
  for (int64_t start = 0;; ++start) {
    AttemptResult result = RunAttempt(options, start, &inbox, &stop_requests, &log);
    while (start > 0 && reach.TryAgain(result, &inbox, &stop_requests)) {
      result = RunAttempt(options, start, &inbox, &stop_requests, &log);
    }
    if (!result.message.empty()) Say(result.message, &log);
    if (result.end != AttemptEnd::kLost) return result.exit_code;
    if (stop_requests > 0) return kExitRankLost;
    if (start >= options.max_restarts) {
      if (options.max_restarts > 0) {
        Say(fmt::format("hearth: the run was started again {} times (resilience.max_restarts); fix "
                        "the cause and start it again",
                        options.max_restarts),
            &log);
      }
      return kExitRankLost;
    }
    Say(fmt::format("hearth: starting again from the last checkpoint ({} of {} restarts)",
                    start + 1, options.max_restarts),
        &log);
  }
}

}  // namespace hearth
