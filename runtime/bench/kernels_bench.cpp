#include "runtime/bench/kernels_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <tuple>

#include "kernels/api/workspace.h"
#include "kernels/core/check.h"
#include "runtime/bench/measuring_backend.h"
#include "runtime/bench/repeated_weights.h"
#include "runtime/telemetry/device_peaks.h"
#include "runtime/train/device_support.h"

namespace hearth {

namespace {

constexpr uint64_t kSeed = 42;
constexpr int64_t kRandomBlock = int64_t{1} << 20;  // values that are drawn; the rest repeats them

// Large enough for the device to show what it can do, small enough for a CPU.
struct ProbeSizes {
  int64_t copy_bytes = 0;
  int64_t square = 0;
};

ProbeSizes MakeProbeSizes(const KernelsBenchOptions& options, DeviceType kind) {
  const bool cpu = kind == DeviceType::kCpu;
  return {.copy_bytes = options.copy_bytes > 0 ? options.copy_bytes
                                               : (cpu ? int64_t{128} << 20 : int64_t{1} << 30),
          .square = options.square > 0 ? options.square : (cpu ? 1024 : 8192)};
}

// What the device moves and computes at most.
class Probe {
 public:
  Probe(KernelBackend& backend, const KernelsBenchOptions& options)
      : backend_(backend),
        sizes_(MakeProbeSizes(options, backend.device().kind())),
        timer_(backend.device(), options.timer),
        stream_(backend.device().CreateStream("probe")) {}

  // 10^9 bytes per second: read and written, or moved from pinned memory.
  double CopyRate(MemoryKind source_kind) {
    Device& device = backend_.device();
    const int64_t bytes = sizes_.copy_bytes;
    const Buffer source = device.Allocate(bytes, source_kind);
    const Buffer destination = device.Allocate(bytes, MemoryKind::kDevice);
    const TensorView from = source.View(0, DType::kU8, {bytes});
    if (source_kind == MemoryKind::kPinnedHost) {
      std::memset(source.data(), 1, static_cast<size_t>(bytes));
    } else {
      backend_.Zero(*stream_, {.destination = from});
    }
    const double microseconds = timer_.Microseconds(*stream_, [&] {
      backend_.Copy(*stream_,
                    {.source = from, .destination = destination.View(0, DType::kU8, {bytes})});
    });
    const int ways = source_kind == MemoryKind::kPinnedHost ? 1 : 2;
    return static_cast<double>(ways * bytes) / microseconds / 1e3;
  }

  // 10^12 operations per second of a square matmul of random operands.
  double MatmulRate(DType dtype) {
    Device& device = backend_.device();
    const int64_t n = sizes_.square, bytes = n * n * SizeOf(dtype);
    const Buffer a = device.Allocate(bytes, MemoryKind::kDevice);
    const Buffer b = device.Allocate(bytes, MemoryKind::kDevice);
    const Buffer out = device.Allocate(n * n * SizeOf(DType::kF32), MemoryKind::kDevice);
    const Buffer scale =
        device.Allocate(static_cast<int64_t>(sizeof(ScaleRecord)), MemoryKind::kDevice);
    const Buffer workspace = device.Allocate(GemmWorkspaceBytes(), MemoryKind::kDevice);
    GemmArgs args{.a = a.View(0, dtype, {n, n}),
                  .b = b.View(0, dtype, {n, n}),
                  .out = out.View(0, dtype == DType::kF32 ? DType::kF32 : DType::kBF16, {n, n}),
                  .workspace = workspace.View(0, DType::kU8, {workspace.bytes()})};
    for (const TensorView& operand : {args.a, args.b}) FillRandom(operand);
    if (IsFloat8(dtype)) {
      args.a_scale = args.b_scale = scale.View(0, DType::kF32, {4});
      FillRandom(args.a_scale);
    }
    const double microseconds =
        timer_.Microseconds(*stream_, [&] { backend_.Gemm(*stream_, args); });
    const auto side = static_cast<double>(n);
    return 2 * side * side * side / microseconds / 1e6;
  }

 private:
  // Finite values of mixed signs and magnitudes up to 2: random bits but for the exponent's first.
  void FillRandom(const TensorView& out) {
    const int64_t bytes = std::min(out.bytes(), kRandomBlock);
    const Buffer block = backend_.device().Allocate(bytes, MemoryKind::kPinnedHost);
    const auto size = static_cast<size_t>(SizeOf(out.dtype()));
    std::mt19937_64 random(kSeed);
    for (size_t at = 0; at < static_cast<size_t>(bytes); at += size) {
      uint64_t bits = random();
      // The element's last byte holds the sign and the start of its exponent.
      const uint64_t high = (bits >> 56) & 0xbf;
      const uint64_t start = size == 1 ? high : ((high & 0x83) | 0x3c);
      bits = (bits & ~(uint64_t{0xff} << (8 * (size - 1)))) | (start << (8 * (size - 1)));
      std::memcpy(block.data() + at, &bits, size);
    }
    const TensorView all(out.data(), DType::kU8, {out.bytes()});
    for (int64_t at = 0; at < out.bytes(); at += bytes) {
      const int64_t count = std::min(bytes, out.bytes() - at);
      backend_.Copy(*stream_, {.source = block.View(0, DType::kU8, {count}),
                               .destination = all.Flat(at, count)});
    }
    stream_->Synchronize(std::chrono::seconds(60));
  }

  KernelBackend& backend_;
  const ProbeSizes sizes_;
  OpTimer timer_;
  const std::unique_ptr<Stream> stream_;
};

// What a task does depends on this alone, but for the layer and the micro-batch.
using TaskClass = std::tuple<TaskKind, int, Segment>;

TaskClass ClassOf(const Task& task, const ModelSpec& spec) {
  const int unit =
      task.unit < 0 ? -1 : static_cast<int>(spec.units[static_cast<size_t>(task.unit)].kind);
  return {task.kind, unit, task.segment};
}

std::map<TaskClass, int64_t> CountTasks(const Schedule& schedule, const ModelSpec& spec) {
  std::map<TaskClass, int64_t> counts;
  for (const Task& task : schedule.tasks) ++counts[ClassOf(task, spec)];
  return counts;
}

StepBatch RandomBatch(const Plan& plan, int64_t vocab_size) {
  std::mt19937_64 random(kSeed);
  const auto token = [&] {
    return static_cast<int32_t>(random() % static_cast<uint64_t>(vocab_size));
  };
  MicroBatch batch{.target_count = plan.numeric.micro_batch_size * plan.sequence_len,
                   .max_sequence = static_cast<int32_t>(plan.sequence_len),
                   .rows = plan.numeric.micro_batch_size};
  batch.sequence_offsets.push_back(0);
  for (int64_t row = 0; row < batch.rows; ++row) {
    for (int64_t position = 0; position < plan.sequence_len; ++position) {
      batch.tokens.push_back(token());
      batch.targets.push_back(token());
      batch.positions.push_back(static_cast<int32_t>(position));
    }
    batch.sequence_offsets.push_back(static_cast<int32_t>((row + 1) * plan.sequence_len));
  }
  const int64_t targets = batch.target_count;
  return {.step = 0, .micro_batches = {std::move(batch)}, .target_count = targets};
}

// One step of the cut model: the ops with their times, and how often each class of task calls them.
struct MeasuredStep {
  std::vector<MeasuredOp> ops;
  std::map<std::pair<TaskClass, size_t>, int64_t> calls;
  std::map<TaskClass, int64_t> tasks;
};

MeasuredStep MeasureStep(const RunEnvironment& environment, const Plan& plan, const ModelSpec& spec,
                         const OpTimerOptions& options) {
  MeasuringBackend backend(environment.backend,
                           OpProfiler(plan.numeric.micro_batch_size, plan.sequence_len), options);
  Executor executor(backend, environment.communicator, plan, spec, 0,
                    {.host_threads = environment.host_threads});
  backend.profiler().set_host_memory(executor.memory().host.Bytes());
  CHECK(plan.deferred_share == 0, "a measured step carries updates");
  FillMasterWeights(executor, RepeatedWeights(spec));
  executor.Publish(0);
  MeasuredStep step{.tasks = CountTasks(executor.schedule(Phase::kTrain), spec)};
  executor.set_task_hook([&](const Task& task) {
    for (size_t op : backend.TakeCalls()) ++step.calls[{ClassOf(task, spec), op}];
  });
  const StepBatch batch = RandomBatch(plan, spec.config.vocab_size);
  backend.MeasureMatmuls(true);
  backend.set_measuring(true);
  executor.Train({.batch = &batch,
                  .step = 1,
                  .targets = batch.target_count,
                  .hyper = MakeAdamwHyper(1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, kSeed, 1)});
  backend.set_measuring(false);
  backend.MeasureMatmuls(false);
  step.ops = backend.ops();
  return step;
}

class Rates {
 public:
  Rates(Probe& probe, const std::string& device_name, KernelsBenchResult& result)
      : probe_(probe), known_(FindDevicePeaks(device_name)), result_(result) {}

  double Microseconds(const OpProfile& profile, bool& is_compute_bound) {
    const double rate = profile.host_link ? result_.host_link_gb_per_s : result_.copy_gb_per_s;
    const double moving = profile.bytes / rate / 1e3;
    const double computing =
        profile.flops > 0 ? profile.flops / Peak(profile.flop_type) / 1e6 : 0.0;
    is_compute_bound = computing > moving;
    return std::max(moving, computing);
  }

 private:
  // 10^12 operations per second.
  double Peak(DType dtype) {
    const DType type = IsFloat8(dtype) ? DType::kF8E4M3 : dtype;
    const std::string name = IsFloat8(dtype) ? "fp8" : (dtype == DType::kF32 ? "fp32" : "bf16");
    for (const KernelsBenchPeak& peak : result_.peaks) {
      if (peak.type == name) return peak.tflops;
    }
    double known = 0;
    if (known_ && type != DType::kF32) {
      known = type == DType::kBF16 ? known_->bf16_tflops : known_->fp8_tflops;
    }
    result_.peaks.push_back({.type = name,
                             .tflops = known > 0 ? known : probe_.MatmulRate(type),
                             .is_measured = !(known > 0)});
    return result_.peaks.back().tflops;
  }

  Probe& probe_;
  const std::optional<DevicePeaks> known_;
  KernelsBenchResult& result_;
};

}  // namespace

KernelsBenchResult BenchKernels(const ResolvedConfig& resolved, const RunEnvironment& environment,
                                const KernelsBenchOptions& options) {
  RequireFp8(resolved, environment.backend.device().gpu());
  const ModelSetup model = SetUpModel(resolved, environment.installed_configs);
  const Plan plan = MakePlan(resolved, model.spec, 1);
  ModelConfig one_block = model.spec.config;
  one_block.num_layers = 1;
  const ModelSpec cut_spec = BuildModelSpec(one_block);
  Plan cut_plan = MakePlan(resolved, cut_spec, 1);
  cut_plan.micro_batches = 1;
  cut_plan.deferred_share = 0;  // one step is all of it
  cut_plan.early_updates = false;
  cut_plan.saves_from_copy = false;

  const std::string device = environment.backend.device().name();
  KernelsBenchResult result{
      .device = device,
      .model = resolved.config.model.name_or_path,
      .compute_dtype = std::string(EnumName(resolved.config.precision.compute_dtype)),
      .sequence_len = plan.sequence_len,
      .micro_batch_size = plan.numeric.micro_batch_size,
      .micro_batches = plan.micro_batches,
      .repetitions = options.timer.repetitions};
  Probe probe(environment.backend, options);
  result.copy_gb_per_s = probe.CopyRate(MemoryKind::kDevice);
  result.host_link_gb_per_s = probe.CopyRate(MemoryKind::kPinnedHost);
  const MeasuredStep step = MeasureStep(environment, cut_plan, cut_spec, options.timer);
  result.attention = environment.backend.Attention();

  std::map<TaskClass, int64_t> whole =
      CountTasks(BuildSchedule(Phase::kTrain, plan, model.spec, 0), model.spec);
  std::vector<int64_t> calls(step.ops.size());
  for (const auto& [use, count] : step.calls) {
    const auto& [task_class, op] = use;
    calls[op] += DivExact(count * whole[task_class], step.tasks.at(task_class));
  }
  Rates rates(probe, device, result);
  for (size_t i = 0; i < step.ops.size(); ++i) {
    const auto& [profile, microseconds] = step.ops[i];
    KernelsBenchOp op{.op = profile.op,
                      .shape = profile.shape,
                      .calls = calls[i],
                      .microseconds = microseconds,
                      .flops = profile.flops,
                      .bytes = profile.bytes};
    op.floor_microseconds = rates.Microseconds(profile, op.is_compute_bound);
    const auto count = static_cast<double>(op.calls);
    result.step_milliseconds += count * op.microseconds / 1e3;
    result.step_floor_milliseconds += count * op.floor_microseconds / 1e3;
    result.ops.push_back(std::move(op));
  }
  result.tokens_per_second = static_cast<double>(plan.global_batch_size * plan.sequence_len) /
                             result.step_milliseconds * 1e3;
  return result;
}

}  // namespace hearth
