// Runs the runs of a sweep: as many at once as the machine has seats for, each a `hearth train` of
// its own.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/signal_inbox.h"
#include "launcher/sweep_log.h"
#include "launcher/sweep_outcome.h"
#include "launcher/sweep_packing.h"
#include "launcher/sweep_plan.h"
#include "launcher/sweep_progress.h"
#include "launcher/sweep_results.h"

namespace hearth {

// A run as the scheduler sees it: under way while it has a process, waiting as long as it neither
// has an outcome nor is left for the next call.
struct TrackedRun {
  const PlannedRun* plan = nullptr;
  MetricLog log;
  std::optional<RunOutcome> outcome;
  bool is_deferred = false;  // stopped by request: the next call goes on with it
  int64_t failures = 0;      // in this call
  int64_t judged_step = 0;   // up to which early stopping has decided

  pid_t pid = -1;
  Seat seat;
  bool is_asked = false;     // to stop
  int64_t output_begin = 0;  // bytes of output.txt when it was started

  bool is_running() const { return pid > 0; }
  bool is_waiting() const { return !is_running() && !outcome && !is_deferred; }
};

class SweepScheduler {
 public:
  // `plan` outlives it. The caller holds the folder's lock.
  explicit SweepScheduler(const SweepPlan& plan);
  // Kills what still runs.
  ~SweepScheduler();
  SweepScheduler(const SweepScheduler&) = delete;
  SweepScheduler& operator=(const SweepScheduler&) = delete;

  // Returns the exit code when no run is under way and none can be started. A request to stop
  // (SignalInbox) goes on to the runs, which save; a second one kills them.
  int Run();

 private:
  bool AnyRunning() const;
  bool MayStart() const;
  void TakeSignals();
  void ReapEnded();
  void Ended(TrackedRun* run, int status);
  void JudgeEnd(TrackedRun* run, int exit_code, bool was_killed);
  void Failed(TrackedRun* run, int exit_code, const std::string& message);
  void End(TrackedRun* run, RunEndState state, int exit_code, const std::string& message);
  void ReadLogs();
  void StopEarly(TrackedRun* run);
  void StartWaiting();
  void Start(TrackedRun* run, const Seat& seat);
  void AskToStop(TrackedRun* run);
  void KillAll();
  void ShowProgress();
  std::string ProgressLine() const;
  std::string TimeLeftText() const;
  std::string Describe(const TrackedRun& run) const;
  ResultTable MakeTable() const;
  int Finish();

  const SweepPlan& plan_;
  std::vector<TrackedRun> runs_;
  std::vector<std::string> removed_;
  SeatMap seats_;
  SignalInbox inbox_;
  SweepScreen screen_;
  TimeLeft time_left_;
  int stop_requests_ = 0;
  bool is_halted_ = false;  // on_failure: stop
};

}  // namespace hearth
