#include "runtime/bench/step_bench.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <random>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/bench/repeated_weights.h"
#include "runtime/data/hearth_writer.h"
#include "runtime/train/step_trace.h"
#include "runtime/train/trainer.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

// Beyond this a run begins further epochs.
constexpr int64_t kMostTokens = int64_t{1} << 22;
constexpr int64_t kLargestTwoByteVocabulary = 65536;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "hearth-bench-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) {
      throw IoError(fmt::format("{}: error: cannot be made; set TMPDIR", pattern));
    }
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

void WriteRandomTokens(const std::string& path, int64_t count, int64_t vocab_size, uint64_t seed) {
  constexpr int64_t kPiece = int64_t{1} << 16;
  HearthWriter writer({.path = path,
                       .bytes_per_token = vocab_size <= kLargestTwoByteVocabulary ? 2 : 4,
                       .vocab_size = vocab_size});
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens;
  for (int64_t written = 0; written < count; written += static_cast<int64_t>(tokens.size())) {
    tokens.resize(static_cast<size_t>(std::min(kPiece, count - written)));
    for (int32_t& token : tokens) {
      token = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab_size));
    }
    writer.Append(tokens);
  }
  writer.Finish();
}

// The same on every rank, and of steps that no shuffling makes alike. The file is gone when this
// returns; the data set has it mapped.
std::shared_ptr<const TokenDataset> RandomTokens(ResolvedConfig resolved, const ModelSpec& spec,
                                                 int64_t count) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "random.hearth").string();
  WriteRandomTokens(path, count, spec.config.vocab_size,
                    static_cast<uint64_t>(resolved.config.seed));
  resolved.config.data.datasets = {{.path = path, .format = DataFormat::kHearth}};
  return OpenTrainingData(resolved, spec);
}

// The run without what has nothing to do with the work of a step.
ResolvedConfig Shortened(const ResolvedConfig& given, int64_t steps) {
  ResolvedConfig resolved = given;
  TrainingSection& training = resolved.config.training;
  training.max_steps = steps;
  training.num_epochs.reset();
  training.max_tokens.reset();
  resolved.config.lr_scheduler = {.lr_scheduler_type = LrSchedulerType::kConstant,
                                  .warmup_steps = 0,
                                  .warmup_ratio = std::nullopt};
  resolved.config.precision.bf16_finish_ratio = 0;
  resolved.SetPlanned("checkpoint.async_save", "false");  // plans no memory for a copy
  resolved.config.resilience.on_nonfinite = OnNonfinite::kStop;
  resolved.config.logging.logging_steps = 1;
  return resolved;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// A model's own weights are read.
WeightReader BenchWeights(const ModelSetup& model) {
  return model.pretrained ? WeightReader{} : RepeatedWeights(model.spec);
}

StepBenchMemory MeasureMemory(Trainer& trainer, const Device& device) {
  const TierLimit& limit = trainer.limits().device;
  const MemoryLayout& layout = trainer.executor().memory().layout;
  const CommunicatorMemory& communicator = trainer.plan().communicator;
  StepBenchMemory memory{
      .device_predicted = layout.slab_bytes + layout.arena_bytes + communicator.device_bytes,
      .device_measured = device.allocated_bytes(MemoryKind::kDevice),
      .host_predicted = layout.host_bytes + communicator.pinned_bytes,
      .host_measured = device.allocated_bytes(MemoryKind::kPinnedHost),
      .arenas = UseOf(trainer.executor().memory()),
      .process_predicted = layout.slab_bytes + layout.arena_bytes + limit.outside_bytes,
      .process_used = MeasureProcess(device).device_bytes,
      .device_budget = limit.budget_bytes};
  if (const auto health = device.Health()) memory.device_used = health->used_memory_bytes;
  return memory;
}

bool IsTraced(const ResolvedConfig& resolved, int64_t step) {
  const std::vector<int64_t>& traced = resolved.config.logging.trace_steps;
  return std::find(traced.begin(), traced.end(), step) != traced.end();
}

void RequireTraceableSteps(const ResolvedConfig& resolved, const StepBenchOptions& options) {
  const int64_t first = options.warmup_steps + 1, last = options.warmup_steps + options.steps;
  for (int64_t step : resolved.config.logging.trace_steps) {
    if (step <= last) continue;
    resolved.Fail("logging.trace_steps",
                  fmt::format("there is no step {}, the bench makes {}; name one of these, or "
                              "ask for more with --steps",
                              step, last));
  }
  for (int64_t step = first; step <= last; ++step) {
    if (!IsTraced(resolved, step)) return;
  }
  resolved.Fail("logging.trace_steps",
                fmt::format("no step from {} to {} is left to measure; trace fewer, or ask for "
                            "more with --steps",
                            first, last));
}

int64_t TokenCount(const Plan& plan, int64_t steps) {
  const int64_t tokens_per_step = plan.global_batch_size * plan.sequence_len;
  return std::max(std::min(kMostTokens / tokens_per_step, steps) * tokens_per_step,
                  plan.sequence_len) +
         1;
}

std::vector<double> MeasuredSeconds(const ResolvedConfig& resolved,
                                    const std::vector<Clock::time_point>& ends,
                                    const StepBenchOptions& options) {
  std::vector<double> seconds;
  for (auto end = static_cast<size_t>(options.warmup_steps); end < ends.size(); ++end) {
    if (IsTraced(resolved, static_cast<int64_t>(end) + 1)) continue;
    seconds.push_back(std::chrono::duration<double>(ends[end] - ends[end - 1]).count());
  }
  return seconds;
}

void Summarize(const ModelConfig& model, StepBenchResult& result) {
  const auto [least, most] =
      std::minmax_element(result.step_seconds.begin(), result.step_seconds.end());
  result.min_seconds = *least;
  result.max_seconds = *most;
  result.median_seconds = Median(result.step_seconds);
  result.tokens_per_second =
      static_cast<double>(result.plan.global_batch_size * result.plan.sequence_len) /
      result.median_seconds;
  if (const auto peaks = FindDevicePeaks(result.device)) {
    result.efficiency = EfficiencyOf(model, result.plan.precision, result.plan.sequence_len, *peaks,
                                     result.tokens_per_second / result.devices);
  }
}

}  // namespace

StepBenchResult BenchStep(const ResolvedConfig& resolved, const RunEnvironment& environment,
                          const StepBenchOptions& options) {
  CHECK(options.steps > 0 && options.warmup_steps > 0, "bench of {} steps after {}", options.steps,
        options.warmup_steps);
  const Clock::time_point start = Clock::now();
  const int64_t steps = options.warmup_steps + options.steps;
  RequireTraceableSteps(resolved, options);
  const ResolvedConfig shortened = Shortened(resolved, steps);
  const ModelSetup model = SetUpModel(shortened, environment.installed_configs);
  const Plan plan = MakePlan(shortened, model.spec, environment.grid());
  std::vector<Clock::time_point> ends;
  double loss = 0;
  LinkBytes link;
  Trainer trainer(
      shortened, environment,
      TrainingRehearsal{.data = RandomTokens(shortened, model.spec, TokenCount(plan, steps)),
                        .on_step =
                            [&](int64_t, double step_loss, const StepResult& step) {
                              ends.push_back(Clock::now());
                              loss = step_loss;
                              link = step.link;
                            },
                        .weights = BenchWeights(model)});
  const Clock::time_point first = Clock::now();
  trainer.Run();
  const Device& device = environment.backend.device();
  const PrecisionSection& precision = shortened.config.precision;
  StepBenchResult result{
      .device = device.name(),
      .ranks = environment.bootstrap.world(),
      .devices = trainer.machine().devices,
      .model = shortened.config.model.name_or_path,
      .parameters = model.spec.ParameterCount(),
      .plan = trainer.plan(),
      .compute_dtype = EnumName(precision.compute_dtype),
      .fp8_recipe = plan.precision.fp8 ? EnumName(precision.fp8_recipe) : "none",
      .lm_head = LmHeadType(plan.precision),
      .attention = environment.backend.Attention(),
      .deterministic = shortened.config.deterministic,
      .memory = MeasureMemory(trainer, device),
      .link = {.predicted = SumLinkBytes(trainer.executor().schedule(Phase::kTrain)),
               .measured = link},
      .chosen = trainer.chosen(),
      .predicted = trainer.predicted(),
      .loss = loss,
      .seconds_to_start = std::chrono::duration<double>(first - start).count(),
      .start = trainer.start_seconds()};
  CHECK(static_cast<int64_t>(ends.size()) == steps, "{} of {} steps have ended", ends.size(),
        steps);
  if (!std::isfinite(loss)) {
    throw DeviceError(fmt::format("the loss of the last step is {}", loss));
  }
  for (int64_t step : shortened.config.logging.trace_steps) {
    result.traces.push_back(TracePath(shortened.config.output_dir, step, 0).string());
  }
  result.step_seconds = MeasuredSeconds(shortened, ends, options);
  Summarize(model.spec.config, result);
  return result;
}

}  // namespace hearth
