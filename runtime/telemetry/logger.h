// Where a run's StepRecords go: log.jsonl, TensorBoard event files, a W&B run, a file for
// Prometheus, the terminal, loss.svg.
// A logger never throws, stops or blocks the run: a thread of its own does the writing, failures
// are counted and the first of each target is reported.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/telemetry/loss_curve.h"
#include "runtime/telemetry/progress.h"
#include "runtime/telemetry/step_record.h"

namespace hearth {

struct LoggerOptions {
  std::filesystem::path output_dir;  // exists
  std::string run_name;              // the title of loss.svg
  bool jsonl = true;                 // output_dir/log.jsonl
  bool tensorboard = true;           // output_dir/tb/
  bool wandb = false;                // output_dir/wandb/; after a resume made anew from log.jsonl
  bool prometheus = false;           // output_dir/metrics.prom
  // Of the run, for W&B: dotted key and value as YAML flow text.
  std::vector<std::pair<std::string, std::string>> config = {};
  // The checkpoint's step the run goes on from: what the log says of later steps is dropped.
  // -1: a run that starts, whose log begins empty.
  int64_t resume_step = -1;
  ProgressOptions progress;
  std::chrono::milliseconds goodbye_timeout = std::chrono::seconds(10);  // of the destructor
};

// For rank 0 alone; calls come from one thread.
class Logger {
 public:
  explicit Logger(const LoggerOptions& options);
  // Waits for what is still to be written, but not for ever.
  ~Logger();
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  // Takes the record; returns at once. A record is dropped, and counted as a failure, when
  // thousands are waiting.
  void Log(const StepRecord& record);

  // True when everything logged since the last flush is on the disk; false when that failed or
  // takes longer. To be called before a checkpoint is published, so that the log holds whatever
  // the checkpoint's steps had to say.
  bool Flush(std::chrono::milliseconds timeout = std::chrono::seconds(10));

  // Ends the terminal's progress line; the caller may write below it. Waits at most `timeout`.
  void EndProgressLine(std::chrono::milliseconds timeout = std::chrono::seconds(2));

  // (Re)writes output_dir/loss.svg, atomically; returns at once.
  void WriteLossSvg();

  // Losses so far, those before a resume included where log.jsonl has them. Waits at most `timeout`
  // for the latest.
  LossCurve Curve(std::chrono::milliseconds timeout = std::chrono::seconds(2)) const;

  // Failures so far.
  int64_t failures() const;

 private:
  struct Shared;
  std::shared_ptr<Shared>
      shared_;  // with the thread, which may outlive a logger that gave up on it
  std::thread thread_;
  int64_t flushed_failures_ = 0;  // as many as there were at the last flush
};

}  // namespace hearth
