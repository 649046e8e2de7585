#include "launcher/sweep_scheduler.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "kernels/core/error.h"
#include "launcher/core_binding.h"
#include "launcher/supervisor.h"
#include "launcher/sweep_run_folder.h"
#include "launcher/sweep_stopping.h"
#include "runtime/config/sweep_runs.h"
#include "runtime/telemetry/units.h"

namespace hearth {

namespace {

constexpr std::chrono::milliseconds kPollInterval{200};

double NowSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The share of the run's steps that have been made.
double DoneShare(const TrackedRun& run) {
  const int64_t step = std::max(run.log.last_step(), run.outcome ? run.outcome->step : 0);
  return std::min(1.0, static_cast<double>(step) / static_cast<double>(run.plan->total_steps));
}

// This process's processors are its children's for the time in which they are started.
class BorrowedProcessors {
 public:
  BorrowedProcessors(const Seat& seat, int64_t slots) : all_(UsableProcessors()) {
    const LocalPlace place{.rank = seat.slot, .ranks = static_cast<int>(slots)};
    BindTo(ProcessorsOfRank(all_, place));
  }
  ~BorrowedProcessors() { BindTo(all_); }
  BorrowedProcessors(const BorrowedProcessors&) = delete;
  BorrowedProcessors& operator=(const BorrowedProcessors&) = delete;

 private:
  std::vector<int> all_;
};

}  // namespace

SweepScheduler::SweepScheduler(const SweepPlan& plan)
    : plan_(plan),
      removed_(FindRemovedRuns(plan)),
      seats_(plan.slots, plan.machine.gpus),
      screen_(stdout, OutputColumns()) {
  for (const PlannedRun& run : plan.runs) {
    KnownRun known = LookAtRun(run, plan.config);
    // What failed is tried again.
    if (known.outcome && known.outcome->state == RunEndState::kFailed) known.outcome.reset();
    runs_.push_back({.plan = &run, .log = std::move(known.log), .outcome = known.outcome});
  }
}

SweepScheduler::~SweepScheduler() { KillAll(); }

bool SweepScheduler::AnyRunning() const {
  return std::any_of(runs_.begin(), runs_.end(), [](const auto& run) { return run.is_running(); });
}

bool SweepScheduler::MayStart() const {
  return stop_requests_ == 0 && !is_halted_ &&
         std::any_of(runs_.begin(), runs_.end(), [](const auto& run) { return run.is_waiting(); });
}

int SweepScheduler::Run() {
  WriteResults(plan_.folder, MakeTable());
  while (AnyRunning() || MayStart()) {
    StartWaiting();
    TakeSignals();
    if (stop_requests_ >= 2) {
      KillAll();
      screen_.Say("hearth: ended at once; the last checkpoints stand");
      return kExitFailed;
    }
    ReapEnded();
    ReadLogs();
    ShowProgress();
  }
  return Finish();
}

void SweepScheduler::TakeSignals() {
  const int before = stop_requests_;
  stop_requests_ += inbox_.Wait(kPollInterval);
  if (before > 0 || stop_requests_ == 0) return;
  screen_.Say("hearth: stopping: the runs finish their step and save; once more ends them at once");
  for (TrackedRun& run : runs_) AskToStop(&run);
}

void SweepScheduler::AskToStop(TrackedRun* run) {
  if (!run->is_running() || run->is_asked) return;
  run->is_asked = true;
  kill(run->pid, SIGTERM);
}

void SweepScheduler::KillAll() {
  // Its ranks follow a killed `hearth train` by themselves.
  for (TrackedRun& run : runs_) {
    if (!run.is_running()) continue;
    kill(run.pid, SIGKILL);
    waitpid(run.pid, nullptr, 0);
    run.pid = -1;
  }
}

void SweepScheduler::ReapEnded() {
  for (TrackedRun& run : runs_) {
    int status = 0;
    if (run.is_running() && waitpid(run.pid, &status, WNOHANG) == run.pid) Ended(&run, status);
  }
}

void SweepScheduler::Ended(TrackedRun* run, int status) {
  run->pid = -1;
  seats_.GiveBack(run->seat);
  run->log.Read();
  JudgeEnd(run, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
           WIFSIGNALED(status));
}

void SweepScheduler::JudgeEnd(TrackedRun* run, int exit_code, bool was_killed) {
  if (exit_code == kExitDone && HasLastCheckpoint(*run->plan)) {
    // It may have come to its end before it could be stopped early.
    const bool has_value = LastValue(run->log).has_value();
    return End(run, RunEndState::kFinished, exit_code,
               has_value ? "" : fmt::format("{} is not in its log", plan_.config.metric.name));
  }
  if (run->outcome) return End(run, run->outcome->state, exit_code, run->outcome->message);
  if (exit_code == kExitDone || (run->is_asked && was_killed)) {
    run->is_deferred = true;
    screen_.Say(fmt::format("{} stopped at step {}", Describe(*run), run->log.last_step()));
    return;
  }
  if (run->log.is_broken()) {
    return End(run, RunEndState::kDiverged, exit_code, LastWords(*run->plan, run->output_begin));
  }
  const std::string words = LastWords(*run->plan, run->output_begin);
  Failed(run, exit_code, was_killed ? fmt::format("killed by signal {}", exit_code - 128) : words);
}

void SweepScheduler::Failed(TrackedRun* run, int exit_code, const std::string& message) {
  ++run->failures;
  // A refusal would come again.
  const bool may_pass = exit_code != kExitUsage && exit_code != kExitBudget;
  if (may_pass && run->failures <= plan_.config.schedule.retries && stop_requests_ == 0) {
    screen_.Say(fmt::format("{} failed and is tried again ({} of {}): {}", Describe(*run),
                            run->failures, plan_.config.schedule.retries, message));
    return;
  }
  if (plan_.config.schedule.on_failure == OnFailure::kStop && !is_halted_) {
    is_halted_ = true;
    screen_.Say("hearth: no further run is started (schedule.on_failure: stop)");
  }
  End(run, RunEndState::kFailed, exit_code, message);
}

void SweepScheduler::End(TrackedRun* run, RunEndState state, int exit_code,
                         const std::string& message) {
  const bool is_finished = state == RunEndState::kFinished;
  run->outcome = RunOutcome{.state = state,
                            .step = is_finished ? run->plan->total_steps : run->log.last_step(),
                            .exit_code = exit_code,
                            .message = message,
                            .metric = plan_.config.metric.name,
                            .value = LastValue(run->log)};
  WriteOutcome(run->plan->folder, *run->outcome);
  const ResultTable table = MakeTable();
  WriteResults(plan_.folder, table);
  const std::optional<double>& value = run->outcome->value;
  screen_.Say(fmt::format("[{}/{}] {} {} at step {}{}{}", table.rows.size(), runs_.size(),
                          Describe(*run), StateWords(state), run->outcome->step,
                          value ? fmt::format(": {} {:.6g}", table.metric, *value) : "",
                          message.empty() ? "" : fmt::format(" ({})", message)) +
              TimeLeftText());
}

void SweepScheduler::ReadLogs() {
  for (TrackedRun& run : runs_) {
    if (run.is_running()) run.log.Read();
  }
  for (TrackedRun& run : runs_) {
    if (run.is_running() && !run.is_asked) StopEarly(&run);
  }
}

void SweepScheduler::StopEarly(TrackedRun* run) {
  const SweepEarlyTerminate& rule = plan_.config.early_terminate;
  // At the last step there is nothing left to stop.
  const int64_t until = std::min(run->log.last_step(), run->plan->total_steps - 1);
  std::vector<Rival> rivals;
  for (const TrackedRun& other : runs_) {
    if (&other == run) continue;
    rivals.push_back({.curve = &other.log.curve(), .last_step = other.log.last_step()});
  }
  for (const int64_t step : DecisionSteps(rule, run->judged_step, until)) {
    if (!HasPassed(run->log.curve(), run->log.last_step(), step)) return;
    run->judged_step = step;
    const std::string reason = ReasonToStop({.rule = rule,
                                             .goal = plan_.config.metric.goal,
                                             .step = step,
                                             .curve = run->log.curve(),
                                             .rivals = rivals});
    if (reason.empty()) continue;
    // Decided for good before it is done: what is killed in between is not started again.
    run->outcome = RunOutcome{.state = RunEndState::kStoppedEarly,
                              .step = run->log.last_step(),
                              .exit_code = kExitDone,
                              .message = fmt::format("{} {}", plan_.config.metric.name, reason),
                              .metric = plan_.config.metric.name,
                              .value = LastValue(run->log)};
    WriteOutcome(run->plan->folder, *run->outcome);
    AskToStop(run);
    return;
  }
}

void SweepScheduler::StartWaiting() {
  // What was begun comes first.
  for (const bool begun : {true, false}) {
    for (TrackedRun& run : runs_) {
      if (!run.is_waiting() || (run.log.last_step() > 0) != begun) continue;
      if (!MayStart()) return;
      const std::optional<Seat> seat = seats_.Take(run.plan->needs.gpus);
      if (!seat) return;
      Start(&run, *seat);
    }
  }
}

void SweepScheduler::Start(TrackedRun* run, const Seat& seat) {
  run->seat = seat;
  run->is_asked = false;
  try {
    run->output_begin = PrepareFolder(*run->plan);
    const bool binds = run->plan->resolved.config.launch.bind_cores.value_or(true);
    std::optional<BorrowedProcessors> borrowed;
    if (binds) borrowed.emplace(seat, plan_.slots);
    run->pid = StartProcess(TrainProcess(*run->plan, seat, Environment()));
  } catch (const IoError& error) {
    seats_.GiveBack(seat);
    Failed(run, kExitFailed, error.what());
    return;
  }
  const int64_t step = run->log.last_step();
  screen_.Say(
      fmt::format("{} {}{}", Describe(*run), step > 0 ? "goes on" : "starts",
                  seat.gpus.empty() ? "" : fmt::format(" on GPU {}", fmt::join(seat.gpus, ","))));
}

void SweepScheduler::ShowProgress() {
  double done = 0;
  double left = 0;
  for (const TrackedRun& run : runs_) {
    done += DoneShare(run) * run.plan->work;
    if (!run.outcome) left += (1 - DoneShare(run)) * run.plan->work;
  }
  time_left_.Update(done, left, NowSeconds());
  if (screen_.is_terminal()) screen_.Show(ProgressLine());
}

std::string SweepScheduler::TimeLeftText() const {
  const std::optional<double> seconds = time_left_.seconds();
  return seconds && (AnyRunning() || MayStart())
             ? fmt::format(", {} left", FormatDuration(*seconds))
             : "";
}

std::string SweepScheduler::ProgressLine() const {
  ResultTable table = MakeTable();
  SortRows(&table);
  const auto running = std::count_if(runs_.begin(), runs_.end(),
                                     [](const TrackedRun& run) { return run.is_running(); });
  std::string line =
      fmt::format("{}/{} runs done, {} running", table.rows.size(), runs_.size(), running);
  if (const auto seconds = time_left_.seconds()) {
    line += fmt::format(", {} left", FormatDuration(*seconds));
  }
  if (!table.rows.empty() && table.rows[0].outcome.value) {
    line += fmt::format(", best {} {:.6g} ({})", table.metric, *table.rows[0].outcome.value,
                        DescribeValues(table.keys, table.rows[0].values));
  }
  return line;
}

std::string SweepScheduler::Describe(const TrackedRun& run) const {
  return fmt::format("{} ({})", run.plan->id, DescribeValues(plan_.keys, run.plan->values));
}

ResultTable SweepScheduler::MakeTable() const {
  ResultTable table{.title = plan_.config.file_name,
                    .metric = plan_.config.metric.name,
                    .goal = plan_.config.metric.goal,
                    .keys = plan_.keys,
                    .rows = {},
                    .runs = std::ssize(runs_),
                    .removed = removed_};
  for (const TrackedRun& run : runs_) {
    if (!run.outcome || run.is_running()) continue;
    table.rows.push_back({.id = run.plan->id, .values = run.plan->values, .outcome = *run.outcome});
  }
  return table;
}

int SweepScheduler::Finish() {
  const ResultTable table = MakeTable();
  WriteResults(plan_.folder, table);
  screen_.Say(fmt::format("\n{}", FormatForTerminal(table)));
  const auto open = std::ssize(runs_) - std::ssize(table.rows);
  if (open > 0) {
    screen_.Say(fmt::format("{} of {} runs are not ended: the same command goes on with them.",
                            open, runs_.size()));
  }
  if (!removed_.empty()) {
    screen_.Say(fmt::format("{} runs that {} no longer has stay in the folder, not in the table.",
                            removed_.size(), plan_.config.file_name));
  }
  screen_.Say(fmt::format("Results: {}", (plan_.folder / "results.md").string()));
  if (stop_requests_ > 0) return kExitDone;
  const bool any_failed = std::any_of(runs_.begin(), runs_.end(), [](const TrackedRun& run) {
    return run.outcome && run.outcome->state == RunEndState::kFailed;
  });
  return any_failed ? kExitFailed : kExitDone;
}

}  // namespace hearth
