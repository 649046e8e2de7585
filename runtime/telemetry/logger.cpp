#include "runtime/telemetry/logger.h"

#include <fmt/format.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "runtime/telemetry/json_lines_log.h"
#include "runtime/telemetry/prometheus_file.h"
#include "runtime/telemetry/tensorboard_log.h"
#include "runtime/telemetry/wandb_log.h"

namespace hearth {

namespace {

constexpr size_t kMaxWaiting = 8192;  // records

double SteadySeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

struct Logger::Shared {
  explicit Shared(const LoggerOptions& given) : options(given), progress(given.progress, stdout) {
    curve.title = given.run_name;
  }

  // Runs `write`; what it throws is counted and, for the first time, reported.
  void Try(const char* target, bool* reported, const std::function<void()>& write) {
    try {
      write();
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex);
      ++failures;
      if (std::exchange(*reported, true)) return;
      LogWarning(fmt::format("{} fails; the run goes on without it: {}", target, error.what()));
    }
  }

  void AddToCurve(const StepRecord& record) {
    const std::lock_guard lock(mutex);
    if (const auto loss = record.Number("train/loss")) curve.train.push_back({record.step, *loss});
    if (const auto loss = record.Number("eval/loss")) curve.eval.push_back({record.step, *loss});
  }

  void OpenFiles() {
    const bool resumed = options.resume_step >= 0;
    const std::filesystem::path log = options.output_dir / "log.jsonl";
    if (options.jsonl) {
      Try("log.jsonl", &jsonl_reported, [&] {
        CutBackTo(log, options.resume_step);
        ReadJsonLines(log, [&](const StepRecord& record) { AddToCurve(record); });
        jsonl.emplace(log);
      });
    }
    if (options.tensorboard) {
      Try("tensorboard", &tensorboard_reported, [&] {
        const std::filesystem::path folder = options.output_dir / "tb";
        if (!resumed) std::filesystem::remove_all(folder);
        tensorboard.emplace(folder,
                            resumed ? std::optional(options.resume_step + 1) : std::nullopt);
      });
    }
  }

  // For those who read other programs' logs.
  void OpenOthers() {
    if (options.wandb) {
      Try("wandb", &wandb_reported, [&] {
        const std::filesystem::path folder = options.output_dir / "wandb";
        if (options.resume_step < 0) std::filesystem::remove_all(folder);
        wandb.emplace(folder, WandbRun{.name = options.run_name, .config = options.config});
        if (!jsonl) return;
        ReadJsonLines(options.output_dir / "log.jsonl",
                      [&](const StepRecord& record) { wandb->Append(record, std::nullopt); });
      });
    }
    if (options.prometheus) {
      prometheus.emplace(options.output_dir / "metrics.prom", options.run_name);
    }
  }

  void WriteOthers(const StepRecord& record) {
    if (wandb) Try("wandb", &wandb_reported, [&] { wandb->Append(record, WallSeconds()); });
    if (prometheus) {
      Try("metrics.prom", &prometheus_reported, [&] { prometheus->Update(record, WallSeconds()); });
    }
  }

  void Write(const StepRecord& record) {
    AddToCurve(record);
    if (jsonl) Try("log.jsonl", &jsonl_reported, [&] { jsonl->Append(record); });
    if (tensorboard) {
      Try("tensorboard", &tensorboard_reported, [&] { tensorboard->Append(record); });
    }
    WriteOthers(record);
    progress.Show(record, SteadySeconds());
  }

  void Sync() {
    if (jsonl) Try("log.jsonl", &jsonl_reported, [&] { jsonl->Sync(); });
    if (tensorboard) Try("tensorboard", &tensorboard_reported, [&] { tensorboard->Sync(); });
    if (wandb) Try("wandb", &wandb_reported, [&] { wandb->Sync(); });
  }

  LossCurve CopyCurve() {
    const std::lock_guard lock(mutex);
    return curve;
  }

  void WriteSvg() {
    Try("loss.svg", &svg_reported, [&] {
      const std::filesystem::path path = options.output_dir / "loss.svg";
      const std::filesystem::path next = options.output_dir / ".loss.svg.next";
      std::filesystem::remove(next);
      AppendFile(next).Append(LossCurveSvg(CopyCurve()));
      std::filesystem::rename(next, path);
    });
  }

  // The thread: runs the tasks in order until told to stop and nothing is left.
  void Run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stopping || !tasks.empty(); });
      if (tasks.empty()) break;
      const std::function<void()> task = std::move(tasks.front());
      tasks.pop_front();
      lock.unlock();
      task();
      lock.lock();
      ++done;
      changed.notify_all();
    }
    lock.unlock();
    wandb.reset();  // writes its last record, so here and not in whoever destroys this
    lock.lock();
    finished = true;
    changed.notify_all();
  }

  void Enqueue(std::function<void()> task) {
    const std::lock_guard lock(mutex);
    tasks.push_back(std::move(task));
    ++enqueued;
    changed.notify_all();
  }

  // Waits for what has been enqueued so far.
  bool Drain(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex);
    const int64_t goal = enqueued;
    return changed.wait_for(lock, timeout, [&] { return done >= goal; });
  }

  const LoggerOptions options;

  // Of the thread alone.
  std::optional<JsonLinesLog> jsonl;
  std::optional<TensorboardLog> tensorboard;
  std::optional<WandbLog> wandb;
  std::optional<PrometheusFile> prometheus;
  Progress progress;
  bool jsonl_reported = false;
  bool tensorboard_reported = false;
  bool wandb_reported = false;
  bool prometheus_reported = false;
  bool svg_reported = false;

  std::mutex mutex;  // guards all that follows
  std::condition_variable changed;
  std::deque<std::function<void()>> tasks;
  int64_t enqueued = 0;
  int64_t done = 0;
  int64_t failures = 0;
  bool stopping = false;
  bool finished = false;
  LossCurve curve;
};

Logger::Logger(const LoggerOptions& options) : shared_(std::make_shared<Shared>(options)) {
  shared_->Enqueue([shared = shared_.get()] {
    shared->OpenFiles();
    shared->OpenOthers();
  });
  thread_ = std::thread([shared = shared_] { shared->Run(); });
}

Logger::~Logger() {
  EndProgressLine(std::chrono::milliseconds(0));
  bool finished = false;
  {
    std::unique_lock lock(shared_->mutex);
    shared_->stopping = true;
    shared_->changed.notify_all();
    finished = shared_->changed.wait_for(lock, shared_->options.goodbye_timeout,
                                         [&] { return shared_->finished; });
  }
  if (finished) {
    thread_.join();
  } else {
    LogWarning("the log's disk does not answer; the last records may be missing");
    thread_.detach();
  }
}

void Logger::Log(const StepRecord& record) {
  {
    const std::lock_guard lock(shared_->mutex);
    if (shared_->tasks.size() >= kMaxWaiting) {
      ++shared_->failures;
      return;
    }
  }
  shared_->Enqueue([shared = shared_.get(), record] { shared->Write(record); });
}

bool Logger::Flush(std::chrono::milliseconds timeout) {
  shared_->Enqueue([shared = shared_.get()] { shared->Sync(); });
  const bool drained = shared_->Drain(timeout);
  const int64_t all = failures();
  return std::exchange(flushed_failures_, all) == all && drained;
}

void Logger::EndProgressLine(std::chrono::milliseconds timeout) {
  shared_->Enqueue([shared = shared_.get()] { shared->progress.EndLine(); });
  shared_->Drain(timeout);
}

void Logger::WriteLossSvg() {
  shared_->Enqueue([shared = shared_.get()] { shared->WriteSvg(); });
}

LossCurve Logger::Curve(std::chrono::milliseconds timeout) const {
  shared_->Drain(timeout);
  return shared_->CopyCurve();
}

int64_t Logger::failures() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->failures;
}

}  // namespace hearth
