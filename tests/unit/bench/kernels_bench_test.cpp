// The bench of a step's ops: what it counts follows from the model, what it times changes nothing.
#include "runtime/bench/kernels_bench.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/api/workspace.h"
#include "kernels/backend.h"
#include "runtime/bench/measuring_backend.h"
#include "runtime/telemetry/device_peaks.h"
#include "tests/support/inproc_world.h"

namespace hearth::test {
namespace {

const KernelsBenchOptions kFast{
    .timer = {.repetitions = 1, .sample_milliseconds = 0.02}, .copy_bytes = 1 << 20, .square = 64};

KernelsBenchResult Bench(const std::string& precision, bool split_memory = false) {
  const ResolvedConfig resolved =
      ParseConfig({.text = "model: {name_or_path: " + std::string(HEARTH_SOURCE_DIR) +
                           "/configs/models/tiny.yaml}\n"
                           "data: {datasets: [{path: none}], sequence_len: 48}\n"
                           "training: {max_steps: 2, global_batch_size: 12, micro_batch_size: 2}\n"
                           "precision: {" +
                           precision + "}\n",
                   .file_name = "test.yaml"});
  KernelsBenchResult result;
  RunInprocWorld({.ranks = 1, .backend = split_memory ? "split" : ""}, [&](InprocRank& rank) {
    Heartbeat heartbeat;
    result = BenchKernels(resolved,
                          {.bootstrap = rank.bootstrap,
                           .backend = rank.backend,
                           .communicator = rank.communicator,
                           .heartbeat = heartbeat},
                          kFast);
    EXPECT_EQ(rank.backend.device().allocated_bytes(MemoryKind::kDevice), 0);
  });
  return result;
}

double StepFlops(const KernelsBenchResult& result, const std::string& op) {
  double flops = 0;
  for (const KernelsBenchOp& each : result.ops) {
    if (each.op == op) flops += static_cast<double>(each.calls) * each.flops;
  }
  return flops;
}

int64_t Calls(const KernelsBenchResult& result, const std::string& op) {
  int64_t calls = 0;
  for (const KernelsBenchOp& each : result.ops) {
    if (each.op == op) calls += each.calls;
  }
  return calls;
}

TEST(KernelsBenchTest, CountsTheWorkOfAStep) {
  constexpr int64_t kLayers = 3, kMicroBatches = 6, kTokens = 12 * 48;
  for (const char* precision : {"compute_dtype: fp32", "compute_dtype: bf16", "compute_dtype: fp8",
                                "compute_dtype: fp8, fp8_lm_head: true"}) {
    SCOPED_TRACE(precision);
    const KernelsBenchResult result = Bench(precision);
    EXPECT_EQ(result.micro_batches, kMicroBatches);
    EXPECT_EQ(Calls(result, "attention"), kLayers * kMicroBatches);
    EXPECT_EQ(Calls(result, "attention backward"), kLayers * kMicroBatches);
    EXPECT_EQ(Calls(result, "rms norm"), (2 * kLayers + 1) * kMicroBatches);
    EXPECT_EQ(Calls(result, "cross entropy"), kMicroBatches);
    EXPECT_EQ(Calls(result, "embedding backward"), kMicroBatches);
    EXPECT_EQ(Calls(result, "adamw"), kLayers + 2);
    // The model's own formulas: 6 operations a weight and token, and scores of which causality
    // leaves (T + 1) / 2T. Backward attention forms the scores once more: 7 matmuls for 6.
    const TrainingFlops flops = FlopsPerToken(
        LoadModel(std::string(HEARTH_SOURCE_DIR) + "/configs/models/tiny.yaml", "").config, 48);
    const double matmuls = kTokens * (flops.blocks + flops.head);
    EXPECT_FALSE(!(std::abs(StepFlops(result, "gemm") - matmuls) <= 1e-9 * matmuls));
    const double attention = kTokens * flops.attention * 7 / 6 * 49 / 48;
    const double counted = StepFlops(result, "attention") + StepFlops(result, "attention backward");
    EXPECT_FALSE(!(std::abs(counted - attention) <= 1e-9 * attention));
  }
}

// Of the forward's linears, and of no other matmul.
TEST(KernelsBenchTest, FastAccumulationIsForForwardFp8Matmuls) {
  const auto fast_calls = [](const KernelsBenchResult& result) {
    int64_t calls = 0;
    for (const KernelsBenchOp& op : result.ops) {
      if (op.shape.find("fast accumulation") == std::string::npos) continue;
      EXPECT_NE(op.shape.find("f8_e4m3 -> bf16"), std::string::npos) << op.shape;
      calls += op.calls;
    }
    return calls;
  };
  constexpr int64_t kLayers = 3, kMicroBatches = 6, kLinears = 4;
  const auto with = [](const std::string& dtype) {
    return Bench("compute_dtype: " + dtype + ", fp8_fast_accumulation: true");
  };
  EXPECT_EQ(fast_calls(with("fp8")), kLayers * kMicroBatches * kLinears);
  EXPECT_EQ(fast_calls(with("fp8, fp8_lm_head: true")), (kLayers * kLinears + 1) * kMicroBatches);
  EXPECT_EQ(fast_calls(with("bf16")), 0);
  EXPECT_EQ(fast_calls(Bench("compute_dtype: fp8")), 0);
}

TEST(KernelsBenchTest, EveryFigureFollowsFromTheOthers) {
  const KernelsBenchResult result = Bench("compute_dtype: fp8");
  EXPECT_FALSE(!(result.copy_gb_per_s > 0));
  EXPECT_FALSE(!(result.host_link_gb_per_s > 0));
  ASSERT_EQ(result.peaks.size(), 2u);  // FP8 linears; attention and head in bf16
  const auto peak = [&](const std::string& type) {
    const auto found =
        std::find_if(result.peaks.begin(), result.peaks.end(),
                     [&](const KernelsBenchPeak& each) { return each.type == type; });
    EXPECT_TRUE(found != result.peaks.end() && found->tflops > 0 && found->is_measured) << type;
    return found->tflops;
  };
  double step = 0, floor = 0;
  for (const KernelsBenchOp& op : result.ops) {
    SCOPED_TRACE(op.op + ' ' + op.shape);
    EXPECT_GT(op.calls, 0);
    EXPECT_FALSE(!(op.microseconds > 0));
    EXPECT_GT(op.bytes, 0);
    const double rate =
        op.op.starts_with("copy to") ? result.host_link_gb_per_s : result.copy_gb_per_s;
    const double moving = op.bytes / rate / 1e3;
    const double computing =
        op.flops / peak(op.shape.find("f8_e4m3 ->") == std::string::npos ? "bf16" : "fp8") / 1e6;
    EXPECT_FALSE(!(std::abs(op.floor_microseconds - std::max(moving, computing)) <=
                   1e-9 * op.floor_microseconds));
    EXPECT_EQ(op.is_compute_bound, computing > moving);
    step += static_cast<double>(op.calls) * op.microseconds / 1e3;
    floor += static_cast<double>(op.calls) * op.floor_microseconds / 1e3;
  }
  EXPECT_FALSE(!(std::abs(result.step_milliseconds - step) <= 1e-9 * step));
  EXPECT_FALSE(!(std::abs(result.step_floor_milliseconds - floor) <= 1e-9 * floor));
  EXPECT_FALSE(!(std::abs(result.tokens_per_second - 12 * 48 / step * 1e3) <=
                 1e-9 * result.tokens_per_second));
}

// The host leaves a GPU's memory alone, also where it times by the device's signals.
TEST(KernelsBenchTest, NeedsNoAccessToDeviceMemory) {
  const KernelsBenchResult result = Bench("compute_dtype: fp8", true);
  EXPECT_EQ(Calls(result, "attention"), 18);
}

// An op that overwrites what it reads gives the same when it is timed.
TEST(MeasuringBackendTest, TimingChangesNoResult) {
  const auto backend = MakeBackend("cpu", {.threads = 2});
  MeasuringBackend measuring(*backend, OpProfiler(1, 8),
                             {.repetitions = 3, .sample_milliseconds = 0.1});
  measuring.set_measuring(true);
  const auto stream = backend->device().CreateStream("test");
  const int64_t rows = 8, columns = 6;
  std::vector<float> results[2];
  for (KernelBackend* each : {backend.get(), static_cast<KernelBackend*>(&measuring)}) {
    std::vector<float> x(rows * columns), out(x.size());
    std::iota(x.begin(), x.end(), 1.0f);
    std::iota(out.begin(), out.end(), 100.0f);
    std::vector<float> sum(columns, 5.0f);
    std::vector<uint8_t> workspace(static_cast<size_t>(ColumnSumWorkspaceBytes(rows, columns)) +
                                   16);
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(workspace.data()) + 15) / 16 * 16;
    const TensorView x_view(x.data(), {rows, columns}), out_view(out.data(), {rows, columns});
    for (int call = 0; call < 2; ++call) {
      each->OrderedSum(*stream, {.inputs = {x_view}, .out = out_view, .accumulate = true});
      each->ColumnSum(*stream, {.input = out_view,
                                .out = TensorView(sum.data(), {columns}),
                                .workspace = TensorView(reinterpret_cast<uint8_t*>(begin),
                                                        {ColumnSumWorkspaceBytes(rows, columns)})});
    }
    stream->Synchronize(std::chrono::seconds(60));
    std::vector<float>& result = results[each == &measuring];
    result = out;
    result.insert(result.end(), sum.begin(), sum.end());
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(measuring.ops().size(), 2u);
  EXPECT_EQ(measuring.TakeCalls(), (std::vector<size_t>{0, 1, 0, 1}));
  EXPECT_TRUE(measuring.TakeCalls().empty());
  EXPECT_EQ(measuring.ops()[0].profile.bytes, 3.0 * rows * columns * 4);
}

TEST(DevicePeaksTest, KnowsDevicesByWholeWords) {
  const auto bf16 = [](const char* name) {
    const auto peaks = FindDevicePeaks(name);
    return peaks ? peaks->bf16_tflops : 0.0;
  };
  EXPECT_EQ(bf16("NVIDIA H200"), 989.4);
  EXPECT_EQ(bf16("NVIDIA H100 80GB HBM3"), 989.4);
  EXPECT_EQ(bf16("NVIDIA A100-SXM4-80GB"), 312);
  EXPECT_EQ(bf16("NVIDIA GeForce RTX 4090"), 165.2);
  EXPECT_EQ(bf16("NVIDIA GeForce RTX 5060 Ti"), 47.4);
  EXPECT_EQ(bf16("NVIDIA L40S"), 362);
  EXPECT_EQ(bf16("NVIDIA L4"), 121);
  EXPECT_EQ(FindDevicePeaks("NVIDIA H200")->fp8_tflops, 1978.9);
  EXPECT_EQ(FindDevicePeaks("NVIDIA A100-SXM4-80GB")->fp8_tflops, 0);
  for (const char* unknown :
       {"NVIDIA L40", "NVIDIA H100 PCIe", "NVIDIA GeForce RTX 5060", "CPU (2 threads)", "",
        "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA H100 NVL"}) {
    EXPECT_FALSE(FindDevicePeaks(unknown)) << unknown;
  }
}

}  // namespace
}  // namespace hearth::test
