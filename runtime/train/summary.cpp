#include "runtime/train/summary.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/telemetry/memory_table.h"

namespace hearth {

namespace {

constexpr int kCurveRows = 14;
constexpr int kColumnsWithoutTerminal = 80;
constexpr int kLargestCurveColumns = 100;

std::vector<MemoryRow> PredictedRows(const std::vector<MemoryPool>& pools) {
  std::vector<MemoryRow> rows;
  for (Tier tier : {Tier::kDevice, Tier::kHost}) {
    int64_t sum = 0;
    for (const MemoryPool& pool : pools) {
      if (pool.tier != tier || pool.bytes == 0) continue;
      rows.push_back(
          {.tier = std::string(Name(tier)), .item = pool.name, .predicted_bytes = pool.bytes});
      sum += pool.bytes;
    }
    rows.push_back({.tier = std::string(Name(tier)), .item = "", .predicted_bytes = sum});
  }
  return rows;
}

// Arenas and the communicator, which the plan knows to the byte, and whole processes, which it
// knows to a few percent.
std::vector<MemoryRow> UsedRows(const RankMemory& memory, const EndOfRun& end) {
  const MemoryUse use = UseOf(memory);
  const MemoryNeed need{.device_bytes = use.predicted_device_bytes,
                        .host_bytes = use.predicted_host_bytes};
  const CommunicatorMemory& planned = memory.plan.communicator;
  const int sharing = memory.plan.ranks_per_host;
  std::vector<MemoryRow> rows = {
      {.tier = "device",
       .item = "",
       .predicted_bytes = need.device_bytes + planned.device_bytes,
       .measured_bytes = use.measured_device_bytes + end.communicator.device_bytes},
      {.tier = "host",
       .item = "",
       .predicted_bytes = need.host_bytes + planned.HostBytes(sharing),
       .measured_bytes = use.measured_host_bytes + end.communicator.HostBytes(sharing)}};
  const auto add = [&](std::string tier, int64_t arenas, const TierLimit& limit, int64_t measured) {
    rows.push_back({.tier = std::move(tier),
                    .item = "process",
                    .predicted_bytes = arenas + limit.outside_bytes,
                    .measured_bytes = measured,
                    .budget_bytes = limit.budget_bytes});
  };
  if (end.process.device_bytes) {
    add("device", need.device_bytes, end.limits.device, *end.process.device_bytes);
  }
  add("host", HostNeed(need, end.limits), end.limits.host, end.process.host_bytes);
  return rows;
}

std::string DescribePrecision(const Precision& precision) {
  if (!precision.fp8) return std::string(Name(precision.storage));
  return fmt::format("fp8 with a {} LM head", LmHeadType(precision));
}

}  // namespace

MemoryUse UseOf(const RankMemory& memory) {
  return {.predicted_device_bytes = memory.layout.slab_bytes + memory.layout.arena_bytes,
          .measured_device_bytes = memory.slab.high_water_bytes() + memory.arena.high_water_bytes(),
          .predicted_host_bytes = memory.layout.host_bytes,
          .measured_host_bytes = memory.host.high_water_bytes()};
}

std::string DescribeDevices(int ranks, const std::string& device, int devices) {
  const std::string all = fmt::format("{} x {}", devices, device);
  return ranks == devices ? all : fmt::format("{} ranks on {}", ranks, all);
}

std::string DescribeStart(const ModelSpec& spec, const Plan& plan, const std::string& devices,
                          int64_t total_steps) {
  std::string text = fmt::format(
      "{} parameters, {}, on {}; {} steps of {} sequences x {} tokens, {} micro-batch{} of {} "
      "per rank\n",
      spec.ParameterCount(), DescribePrecision(plan.precision), devices, total_steps,
      plan.global_batch_size, plan.sequence_len, plan.micro_batches,
      plan.micro_batches == 1 ? "" : "es", plan.numeric.micro_batch_size);
  if (plan.world > 1 && !plan.exchange.empty()) {
    text += fmt::format("Ranks exchange by {}.\n", plan.exchange);
  }
  text += "Memory of rank 0 as planned:\n";
  text += FormatMemoryTable(PredictedRows(MakeMemoryLayout(plan, spec, 0).pools));
  return text;
}

std::string DescribeSpeed(const Precision& precision, double tokens_per_second,
                          const std::optional<Efficiency>& efficiency) {
  if (tokens_per_second <= 0) return "";
  std::string text = fmt::format("{:.0f} tokens per second over all ranks in {}", tokens_per_second,
                                 DescribePrecision(precision));
  if (efficiency) {
    text += fmt::format(": {:.1f} % of the speed of light, MFU {:.1f} %", 100 * efficiency->sol,
                        100 * efficiency->mfu);
  }
  return text + ".\n";
}

std::string DescribeEnd(const RankMemory& memory, const EndOfRun& end) {
  const int columns = end.terminal_columns > 0 ? end.terminal_columns : kColumnsWithoutTerminal;
  std::string text = LossCurveText(end.curve, std::min(columns, kLargestCurveColumns), kCurveRows);
  if (end.eval_loss) {
    text += fmt::format("Held-out loss {:.4f} nats per token", *end.eval_loss);
    if (end.byte_pair_loss) {
      text += fmt::format("; a table of token pairs counted on the same training data {:.4f}",
                          *end.byte_pair_loss);
    }
    text += ".\n";
  }
  text += DescribeSpeed(memory.plan.precision, end.tokens_per_second, end.efficiency);
  if (end.predicted && end.step_seconds) {
    text +=
        fmt::format("A step took {:.4g} ms; {:.4g} ms were predicted on {} ({:+.0f} %).\n",
                    *end.step_seconds * 1e3, end.predicted->seconds * 1e3, end.predicted->hardware,
                    100 * (end.predicted->seconds / *end.step_seconds - 1));
  }
  text += "Memory of rank 0, planned and used:\n";
  text += FormatMemoryTable(UsedRows(memory, end));
  text += fmt::format("The run lies in {}.\n", end.output_dir);
  return text;
}

}  // namespace hearth
