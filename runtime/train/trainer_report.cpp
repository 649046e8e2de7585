// What a run tells: its files, its log, its summary.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <limits>
#include <sstream>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/config/field_table.h"
#include "runtime/data/bigram_table.h"
#include "runtime/optimizer/lr_schedule.h"
#include "runtime/plan/plan_file.h"
#include "runtime/telemetry/units.h"
#include "runtime/train/step_trace.h"
#include "runtime/train/trainer.h"

namespace hearth {

namespace {

// Vocabularies for which a table of token pairs is counted quickly and says something.
constexpr int64_t kLargestPairTable = 1024;
constexpr const char* kPlanName = "plan.yaml";
constexpr const char* kFinishPlanName = "plan-bf16.yaml";

void WriteText(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) throw IoError(fmt::format("{}: error: cannot be written", path.string()));
}

void RecordHealth(const DeviceHealth& health, StepRecord& record) {
  const auto set = [&](std::string_view name, const auto& value) {
    if (value) record.Set(name, *value);
  };
  set("gpu/clock_mhz", health.clock_mhz);
  set("gpu/memory_clock_mhz", health.memory_clock_mhz);
  set("gpu/power_w", health.power_w);
  set("gpu/temperature_c", health.temperature_c);
  set("gpu/used_memory_bytes", health.used_memory_bytes);
  set("gpu/throttling", health.throttling);
}

// By tensor and layer. Names are new, so that none has to be looked for.
void RecordAmax(const std::vector<float>& amax, StepRecord& record) {
  for (size_t i = 0; i < amax.size(); ++i) {
    const auto scale = static_cast<BlockScale>(i % kBlockScaleCount);
    record.values.emplace_back(fmt::format("fp8/amax/{}/{}", Name(scale), i / kBlockScaleCount),
                               amax[i]);
  }
}

// A text of several lines as one value of YAML.
std::string BlockYaml(std::string_view key, const std::string& text) {
  std::string yaml = fmt::format("{}: |\n", key);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) yaml += "  " + line + "\n";
  return yaml;
}

std::vector<std::pair<std::string, std::string>> ConfigTexts(const RunConfig& config) {
  std::vector<std::pair<std::string, std::string>> texts;
  for (const Field& field : FieldTable()) texts.emplace_back(field.path, field.print(config));
  return texts;
}

}  // namespace

std::filesystem::path Trainer::PlanPath() const {
  return std::filesystem::path(resolved_.config.output_dir) /
         (stage_.in_bf16 ? kFinishPlanName : kPlanName);
}

void Trainer::WriteRunFiles() const {
  const std::filesystem::path folder = resolved_.config.output_dir;
  std::filesystem::create_directories(folder);
  RemoveLeftovers(folder);
  WriteText(folder / "resolved.yaml",
            fmt::format("# {}\n{}", DescribeDevices(), resolved_.ToYaml()));
  std::string plan = PlanFileText({.resolved = decided_.run.resolved,
                                   .plan = plan_,
                                   .spec = model_.spec,
                                   .explanation = DescribeChoice(decided_.run, limits_),
                                   .estimate = predicted_});
  const std::string matmuls = environment_.backend.MatmulTable();
  if (!matmuls.empty()) plan += BlockYaml("matmuls", matmuls);
  // Another run's, or what this one will write anew.
  if (!stage_.in_bf16) std::filesystem::remove(folder / kFinishPlanName);
  WriteText(PlanPath(), plan);
}

void Trainer::RemoveStageCheckpoint() const {
  const int64_t step = total_steps_ - FinishSteps(resolved_.config.precision, total_steps_);
  if (!IsRoot() || !saver_ || !stage_.in_bf16 || SaveIsDue(step)) return;
  try {
    RemoveCheckpoint(resolved_.config.output_dir, step);
  } catch (const IoError& error) {
    LogWarning(error.what());
  }
}

WeightReader Trainer::FirstWeights() const {
  if (rehearsal_ && rehearsal_->weights) return rehearsal_->weights;
  return InitialWeights(model_, static_cast<uint64_t>(resolved_.config.seed));
}

FillProgress Trainer::WatchWeights() const {
  constexpr double kSecondsBetweenLines = 5;
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point time) {
    return std::chrono::duration<double>(Clock::now() - time).count();
  };
  return [this, seconds_since, start = Clock::now(), shown = Clock::now()](int64_t done,
                                                                           int64_t all) mutable {
    environment_.heartbeat.Progress(0, RunPhase::kLoading);
    if (!IsRoot() || !environment_.progress.enabled) return;
    if (seconds_since(shown) < kSecondsBetweenLines) return;
    shown = Clock::now();
    const double share = static_cast<double>(done) / static_cast<double>(all);
    fmt::print("weights {:.0f} %, {} left\n", 100 * share,
               FormatDuration(seconds_since(start) * (1 - share) / share));
    std::fflush(stdout);
  };
}

std::string Trainer::DescribeDevices() const {
  const Device& device = environment_.backend.device();
  const std::optional<DeviceHealth> health = device.Health();
  std::string name = device.name();
  if (health && health->memory_bytes) name += ", " + FormatBytes(*health->memory_bytes);
  return hearth::DescribeDevices(plan_.world, name, machine_.devices);
}

void Trainer::PrintStart() const {
  fmt::print("{}{}", DescribeStart(model_.spec, plan_, DescribeDevices(), total_steps_),
             DescribeFinish());
  std::fflush(stdout);
}

std::string Trainer::DescribeFinish() const {
  if (IsLastStage()) return "";
  return fmt::format("Its last {} steps compute in bf16.\n", total_steps_ - stage_.last_step);
}

std::string Trainer::DescribeStage() const {
  return DescribeSpeed(plan_.precision, summary_.tokens_per_second,
                       EfficiencyAt(summary_.tokens_per_second));
}

std::optional<Efficiency> Trainer::EfficiencyAt(double tokens_per_second) const {
  if (!peaks_) return std::nullopt;
  return EfficiencyOf(model_.spec.config, plan_.precision, plan_.sequence_len, *peaks_,
                      tokens_per_second / machine_.devices);
}

void Trainer::OpenLogger() {
  const LoggingSection& logging = resolved_.config.logging;
  const auto reports = [&](ReportTarget target) {
    return !rehearsal_ && std::find(logging.report_to.begin(), logging.report_to.end(), target) !=
                              logging.report_to.end();
  };
  ProgressOptions progress = environment_.progress;
  progress.total_steps = total_steps_;
  logger_ =
      std::make_unique<Logger>(LoggerOptions{.output_dir = resolved_.config.output_dir,
                                             .run_name = resolved_.config.run_name,
                                             .jsonl = reports(ReportTarget::kJsonl),
                                             .tensorboard = reports(ReportTarget::kTensorboard),
                                             .wandb = reports(ReportTarget::kWandb),
                                             .prometheus = reports(ReportTarget::kPrometheus),
                                             .config = ConfigTexts(resolved_.config),
                                             .resume_step = resumed_ ? first_step_ - 1 : -1,
                                             .progress = progress});
}

bool Trainer::IsLogged(int64_t step) const {
  return step % resolved_.config.logging.logging_steps == 0 || step == total_steps_;
}

bool Trainer::IsTraced(int64_t step) const {
  const std::vector<int64_t>& traced = resolved_.config.logging.trace_steps;
  return std::find(traced.begin(), traced.end(), step) != traced.end();
}

void Trainer::WriteStepTrace(int64_t step, const StepResult& result) {
  const int rank = environment_.bootstrap.rank();
  try {
    WriteTrace(TracePath(resolved_.config.output_dir, step, rank),
               TraceJson(executor_->schedule(Phase::kTrain), model_.spec, result.times, rank));
  } catch (const IoError& error) {
    LogWarning(error.what());
  }
}

bool Trainer::LogsAmax(int64_t step) const {
  const LoggingSection& logging = resolved_.config.logging;
  const int64_t every = logging.fp8_amax_steps;
  if (!plan_.precision.fp8 || every == 0 || !IsLogged(step)) return false;
  return step % every < logging.logging_steps || step == total_steps_;
}

void Trainer::LookAtDevice(int64_t step) {
  if (IsRoot() && IsLogged(step)) health_ = environment_.backend.device().Health();
}

void Trainer::LogStep(int64_t step, const StepResult& result, double loss, double seconds) {
  const double tokens = static_cast<double>(plan_.global_batch_size * plan_.sequence_len);
  StepRecord record{.step = step};
  record.Set("train/loss", loss);
  record.Set("train/grad_norm", result.grad_norm);
  record.Set("train/learning_rate",
             LearningRate(resolved_.config.lr_scheduler, resolved_.config.optimizer.learning_rate,
                          step, total_steps_));
  record.Set("train/tokens_per_second", tokens / seconds);
  if (plan_.precision.verified_scales) record.Set("fp8/repairs", result.fp8_repairs);
  if (const auto efficiency = EfficiencyAt(tokens / seconds)) {
    record.Set("train/sol", efficiency->sol);
    record.Set("train/mfu", efficiency->mfu);
  }
  record.Set("train/step_time_ms/total", seconds * 1e3);
  record.Set("mem/device", environment_.backend.device().allocated_bytes(MemoryKind::kDevice));
  record.Set("mem/host", environment_.backend.device().allocated_bytes(MemoryKind::kPinnedHost));
  if (health_) RecordHealth(*health_, record);
  RecordAmax(result.fp8_amax, record);
  if (step == total_steps_) {
    for (const auto& [name, value] : PredictionFigures()) record.Set("plan/" + name, value);
  }
  logger_->Log(record);
}

std::optional<double> Trainer::UsualStepSeconds() const {
  if (step_seconds_.size() < 2) return std::nullopt;
  std::vector<double> seconds(step_seconds_.begin() + 1, step_seconds_.end());
  const auto middle = seconds.begin() + std::ssize(seconds) / 2;
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

std::vector<std::pair<std::string, StepValue>> Trainer::PredictionFigures() const {
  const std::optional<double> measured = UsualStepSeconds();
  if (!predicted_ || !measured) return {};
  const MemoryUse use = UseOf(executor_->memory());
  return {{"predicted_step_ms", predicted_->seconds * 1e3},
          {"measured_step_ms", *measured * 1e3},
          {"predicted_device_bytes", use.predicted_device_bytes},
          {"measured_device_bytes", use.measured_device_bytes},
          {"predicted_host_bytes", use.predicted_host_bytes},
          {"measured_host_bytes", use.measured_host_bytes}};
}

void Trainer::CompletePlanFile() const {
  std::string yaml = "measured:  # by rank 0; bytes of its arenas\n";
  const auto figures = PredictionFigures();
  for (const auto& [name, value] : figures) yaml += fmt::format("  {}: {}\n", name, ToJson(value));
  if (figures.empty()) return;
  std::ofstream(PlanPath(), std::ios::app) << yaml;
}

EndOfRun Trainer::MakeEnd() const {
  EndOfRun end{.curve = logger_->Curve(),
               .terminal_columns = environment_.progress.columns,
               .eval_loss = summary_.eval_loss,
               .tokens_per_second = summary_.tokens_per_second,
               .efficiency = EfficiencyAt(summary_.tokens_per_second),
               .limits = limits_,
               .communicator = environment_.communicator.memory(),
               .process = MeasureProcess(environment_.backend.device()),
               .predicted = predicted_,
               .step_seconds = UsualStepSeconds(),
               .output_dir = resolved_.config.output_dir};
  if (eval_data_ && model_.spec.config.vocab_size <= kLargestPairTable) {
    end.byte_pair_loss = BigramNatsPerTarget(
        *data_, *eval_data_, plan_.global_batch_size,
        resolved_.config.eval.eval_max_batches.value_or(std::numeric_limits<int64_t>::max()));
  }
  return end;
}

}  // namespace hearth
