// Small models and their plans, for the tests of runtime/plan and runtime/state.
#pragma once

#include <fmt/format.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "runtime/plan/plan.h"
#include "runtime/plan/schedule.h"

namespace hearth::test {

struct PlanCase {
  std::string name;
  std::string more;  // sections of run.yaml besides model, data and training
  std::string training = "global_batch_size: 8, micro_batch_size: 2";
  std::string data;  // more of the data section, after a comma
  int world = 1;
};

// Two layers, grouped queries, an untied head, odd sizes; with QK norm or QKV bias as asked for.
inline ModelConfig SmallConfig(bool tied = false) {
  ModelConfig config;
  config.family = ModelFamily::kQwen3;
  config.vocab_size = 90;
  config.hidden_size = 48;
  config.intermediate_size = 112;
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.max_position_embeddings = 64;
  config.qk_norm = true;
  config.tie_word_embeddings = tied;
  return config;
}

inline ResolvedConfig ResolvedOf(const PlanCase& c) {
  return ParseConfig(
      {.text = fmt::format("model: {{name_or_path: small.yaml}}\n"
                           "data: {{datasets: [{{path: a.hearth}}], sequence_len: 24{}}}\n"
                           "training: {{{}}}\n{}",
                           c.data, c.training, c.more),
       .file_name = "run.yaml"});
}

inline Plan PlanOf(const PlanCase& c, const ModelSpec& spec) {
  return MakePlan(ResolvedOf(c), spec, c.world);
}

// Micro-batches in groups and block inputs on the host.
inline void AddGroupedCases(const std::vector<int>& worlds, std::vector<PlanCase>& cases) {
  for (const char* compute : {"fp8, fp8_recipe: tensorwise_verified", "bf16"}) {
    for (const char* schedule : {"schedule: vertical", "micro_batches_per_group: 3"}) {
      for (const char* offload : {"", ", offload: {residual: host}",
                                  ", offload: {residual: host, optimizer: host, weights: host}"}) {
        for (int world : worlds) {
          const std::string more = fmt::format(
              "precision: {{compute_dtype: {}}}\n"
              "memory: {{recompute: [block], {}{}}}\n",
              compute, schedule, offload);
          cases.push_back(
              {.name = fmt::format("{} ranks, {}", world, more),
               .more = more,
               .training = fmt::format("global_batch_size: {}, micro_batch_size: 2", 8 * world),
               .world = world});
        }
      }
    }
  }
}

// Gradients that are not whole on the device.
inline void AddGradientCases(const std::vector<int>& worlds, std::vector<PlanCase>& cases) {
  for (const auto& [order, schedule] :
       {std::pair{"rank_then_micro", "schedule: horizontal"},
        std::pair{"micro_then_rank", "schedule: horizontal"},
        std::pair{"auto", "schedule: vertical"}, std::pair{"auto", "micro_batches_per_group: 3"}}) {
    for (int stage : {0, 1, 2}) {
      for (const char* offload :
           {"gradients: none", "gradients: host", "gradients: host, optimizer: host"}) {
        if (stage < 2 && std::string(offload) == "gradients: none") continue;
        for (int world : worlds) {
          const std::string more = fmt::format(
              "precision: {{compute_dtype: bf16}}\n"
              "parallel: {{zero_stage: {}, reduction_order: {}}}\n"
              "memory: {{{}, offload: {{{}}}, optimizer_device: {}}}\n",
              stage, order, schedule, offload, world == 2 ? "gpu" : "auto");
          cases.push_back(
              {.name = fmt::format("{} ranks, {}", world, more),
               .more = more,
               .training = fmt::format("global_batch_size: {}, micro_batch_size: 2", 8 * world),
               .world = world});
        }
      }
    }
  }
}

// Every combination of what changes a schedule: precision, ZeRO stage, reduction order, placement
// of the optimizer (and, with one of them, of the weights), recompute and ranks; and some more.
inline std::vector<PlanCase> PlanCases(const std::vector<int>& worlds = {1, 2, 4}) {
  const std::vector<std::string> placements = {
      "",
      ", offload: {m: host, weights: host}",
      ", offload: {optimizer: host}, optimizer_device: gpu",
      ", offload: {optimizer: host}, optimizer_device: cpu",
  };
  std::vector<PlanCase> cases;
  for (const char* compute :
       {"fp8", "fp8, fp8_recipe: tensorwise_verified", "fp8, fp8_lm_head: true", "bf16", "fp32"}) {
    for (int stage : {0, 1}) {
      for (const char* order : {"micro_then_rank", "rank_then_micro"}) {
        for (const std::string& placement : placements) {
          for (const char* recompute : {"none", "[swiglu, norm]", "[block]"}) {
            for (int world : worlds) {
              const std::string more = fmt::format(
                  "precision: {{compute_dtype: {}}}\n"
                  "parallel: {{zero_stage: {}, reduction_order: {}}}\n"
                  "memory: {{recompute: {}{}}}\n",
                  compute, stage, order, recompute, placement);
              cases.push_back(
                  {.name = fmt::format("{} ranks, {}", world, more), .more = more, .world = world});
            }
          }
        }
      }
    }
  }
  AddGroupedCases(worlds, cases);
  AddGradientCases(worlds, cases);
  return cases;
}

// [b] holds every task that must have ended before b starts, found by following streams and waits
// step by step: no vector clocks.
inline std::vector<std::set<int>> Predecessors(const Schedule& schedule) {
  std::vector<std::set<int>> before(schedule.tasks.size());
  std::map<StreamId, int> last;
  for (const Task& task : schedule.tasks) {
    std::vector<int> direct = task.waits;
    if (last.contains(task.stream)) direct.push_back(last[task.stream]);
    std::set<int>& own = before[static_cast<size_t>(task.id)];
    for (int other : direct) {
      own.insert(other);
      own.insert(before[static_cast<size_t>(other)].begin(),
                 before[static_cast<size_t>(other)].end());
    }
    last[task.stream] = task.id;
  }
  return before;
}

inline const Task* FindTask(const Schedule& schedule, TaskKind kind, int unit,
                            int micro_batch = -1) {
  for (const Task& task : schedule.tasks) {
    if (task.kind == kind && task.unit == unit && task.micro_batch == micro_batch) return &task;
  }
  return nullptr;
}

}  // namespace hearth::test
