#include "runtime/train/gradients_run.h"

#include <fmt/format.h>

#include <cstring>
#include <map>
#include <optional>
#include <span>

#include "kernels/core/error.h"
#include "runtime/model/safetensors.h"
#include "runtime/plan/smallest_change.h"
#include "runtime/train/device_support.h"
#include "runtime/train/fill_weights.h"
#include "runtime/train/machine_memory.h"
#include "runtime/train/run_plan.h"

namespace hearth {

namespace {

StepBatch FirstBatch(const RunEnvironment& environment, const Plan& plan,
                     const TokenDataset& data) {
  return BuildTrainingBatch(data,
                            {.global_batch_size = plan.global_batch_size,
                             .micro_batch_size = plan.numeric.micro_batch_size,
                             .rank = environment.bootstrap.rank(),
                             .world_size = plan.world},
                            0);
}

int64_t SumOverRanks(Bootstrap& bootstrap, int64_t value) {
  Bytes mine(sizeof(value));
  std::memcpy(mine.data(), &value, sizeof(value));
  int64_t sum = 0;
  for (const Bytes& theirs : bootstrap.AllGather(mine)) {
    std::memcpy(&value, theirs.data(), sizeof(value));
    sum += value;
  }
  return sum;
}

// The logits of all ranks' sequences in order. Every rank takes part in each micro-batch, whether
// it has rows there or not: their weights may lie with all of them.
std::vector<float> GatherLogits(Executor& executor, Bootstrap& bootstrap, const StepBatch& batch,
                                const Plan& plan) {
  static const MicroBatch kNoRows;
  std::vector<float> mine;
  for (int64_t i = 0; i < plan.micro_batches; ++i) {
    const bool given = i < std::ssize(batch.micro_batches);
    const MicroBatch& micro_batch = given ? batch.micro_batches[static_cast<size_t>(i)] : kNoRows;
    const std::vector<float> rows =
        executor.Logits(micro_batch, 0, 0, micro_batch.rows * plan.sequence_len);
    mine.insert(mine.end(), rows.begin(), rows.end());
  }
  Bytes bytes(mine.size() * sizeof(float));
  std::memcpy(bytes.data(), mine.data(), bytes.size());
  std::vector<float> all;
  for (const Bytes& theirs : bootstrap.AllGather(bytes)) {
    const size_t begin = all.size();
    all.resize(begin + theirs.size() / sizeof(float));
    std::memcpy(all.data() + begin, theirs.data(), theirs.size());
  }
  return all;
}

std::vector<float> DownloadFloats(Executor& executor, const TensorView& view) {
  std::vector<float> values(static_cast<size_t>(view.elements()));
  if (view.dtype() == DType::kF32) {
    executor.transfer().Download(view, values.data());
    return values;
  }
  std::vector<BFloat16> stored(values.size());
  executor.transfer().Download(view, stored.data());
  for (size_t i = 0; i < stored.size(); ++i) values[i] = ToFloat(stored[i]);
  return values;
}

struct Output {
  double loss = 0;
  std::vector<float> logits;
  int64_t vocab = 0;
  bool with_logits = false;
};

std::vector<SafetensorsEntry> Entries(const ModelSpec& spec, const Output& output) {
  std::vector<SafetensorsEntry> entries = {{"loss", SafetensorsDType::kF32, {}}};
  if (output.with_logits) {
    const auto rows = static_cast<int64_t>(output.logits.size()) / output.vocab;
    entries.push_back({"logits", SafetensorsDType::kF32, {rows, output.vocab}});
  }
  for (const ParameterSpec& parameter : spec.parameters) {
    for (const HfSource& source : parameter.sources) {
      SafetensorsEntry entry{source.name, SafetensorsDType::kF32, {}};
      for (int axis = 0; axis < source.shape.rank(); ++axis) {
        entry.shape.push_back(source.shape[axis]);
      }
      entries.push_back(std::move(entry));
    }
  }
  return entries;
}

// Every rank takes part, as gradients may lie with all of them; rank 0 writes.
void Write(const std::filesystem::path& out, Executor& executor, const ModelSpec& spec,
           const Output& output) {
  std::optional<SafetensorsWriter> writer;
  const auto append = [&](std::span<const float> values) { writer->Append(std::as_bytes(values)); };
  if (executor.memory().rank == 0) {
    writer.emplace(out, Entries(spec, output),
                   std::map<std::string, std::string>{{"format", "pt"}});
    const auto loss = static_cast<float>(output.loss);
    append({&loss, 1});
    if (output.with_logits) append(output.logits);
  }
  for (const ParameterSpec& parameter : spec.parameters) {
    executor.LoadGradients(parameter.unit);
    if (!writer) continue;
    const std::vector<float> values =
        DownloadFloats(executor, executor.gradients().Parameter(parameter.unit, parameter.role));
    for (const HfSource& source : parameter.sources) {
      append({values.data() + source.row_begin * parameter.columns(),
              static_cast<size_t>(source.shape.elements())});
    }
  }
  if (writer) writer->Finish(true);
}

}  // namespace

void RunGradients(const ResolvedConfig& resolved, const RunEnvironment& environment,
                  const std::filesystem::path& out, bool with_logits) {
  RequireFp8(resolved, environment.backend.device().gpu());
  const ModelSetup model = SetUpModel(resolved, environment.installed_configs);
  const MemoryLimits limits = LimitsOf(resolved.config.memory, MeasureMachine(environment));
  const DecidedPlan decided = DecidePlan(resolved, model.spec, environment, limits);
  Plan plan = decided.run.plan;
  plan.saves_from_copy = false;
  const auto data = OpenTrainingData(resolved, model.spec);
  RequirePlanFits(decided.run.resolved, plan, model.spec, limits);
  Executor executor(environment.backend, environment.communicator, plan, model.spec,
                    environment.bootstrap.rank(),
                    {.host_threads = environment.host_threads, .network = environment.network()});
  FillMasterWeights(executor, InitialWeights(model, static_cast<uint64_t>(resolved.config.seed)));
  executor.Publish(0);
  const StepBatch batch = FirstBatch(environment, plan, *data);
  const int64_t targets = SumOverRanks(environment.bootstrap, batch.target_count);
  if (targets == 0) {
    throw ConfigError(
        fmt::format("{}: error: the first step has no target that counts; check the "
                    "loss masks",
                    resolved.Place("data.datasets")));
  }
  Output output{.vocab = model.spec.config.vocab_size, .with_logits = with_logits};
  if (with_logits) {
    output.logits = GatherLogits(executor, environment.bootstrap, batch, plan);
  }
  const StepResult result =
      executor.ComputeGradients({.batch = &batch, .step = 1, .targets = targets});
  output.loss = result.loss_sum / static_cast<double>(targets);
  Write(out, executor, model.spec, output);
  environment.bootstrap.Barrier();
}

}  // namespace hearth
