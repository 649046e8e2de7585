#include "runtime/plan/plan_ladder.h"

#include <algorithm>

#include "kernels/core/check.h"
#include "runtime/config/field_table.h"

namespace hearth {

namespace {

constexpr const char* kAuto = "auto";
constexpr const char* kAsyncSave = "checkpoint.async_save";
constexpr const char* kMoment = "memory.offload.m";
constexpr const char* kGradients = "memory.offload.gradients";
constexpr int64_t kLargestMicroBatch = 64;

bool DividesShares(int64_t size, const Plan& plan) {
  const int64_t batch = plan.global_batch_size, world = plan.world;
  for (int64_t rank = 0; rank < world; ++rank) {
    if (((rank + 1) * batch / world - rank * batch / world) % size != 0) return false;
  }
  return true;
}

std::string Print(const RunConfig& config, const std::string& path) {
  return FindField(path)->print(config);
}

Lever One(LeverKind kind, std::string path, const std::vector<std::string>& values) {
  Lever lever{.kind = kind, .paths = {std::move(path)}, .values = {}};
  for (const std::string& value : values) lever.values.push_back({value});
  return lever;
}

// The micro-batch of a run without a planner first, then all that divide every rank's share. A CPU
// gains nothing by larger ones.
Lever MicroBatches(const ResolvedConfig& resolved, const ModelSpec& spec, const RankGrid& grid,
                   const HardwareProfile& hardware) {
  Lever lever{.kind = LeverKind::kCompute, .paths = {kMicroBatch}, .values = {}};
  // Steps of accumulation multiply it: then it decides the global batch.
  if (!resolved.config.training.global_batch_size) return lever;
  const Plan plan = MakePlan(resolved, spec, grid);
  const int64_t usual = plan.numeric.micro_batch_size;
  lever.values.push_back({std::to_string(usual)});
  const int64_t largest = hardware.is_gpu ? kLargestMicroBatch : usual;
  for (int64_t size = 1; size <= largest; ++size) {
    if (size != usual && DividesShares(size, plan)) lever.values.push_back({std::to_string(size)});
  }
  return lever;
}

std::vector<std::string> ChunkCounts(const ResolvedConfig& resolved) {
  const int64_t tokens = kLargestMicroBatch * resolved.config.data.sequence_len;
  std::vector<std::string> counts = {"1"};
  for (int64_t count = 2; count <= DivUp(tokens, resolved.config.memory.head_slab_tokens);
       count *= 2) {
    counts.push_back(std::to_string(count));
  }
  return counts;
}

// Every row that there can be, but for the micro-batch.
std::vector<Lever> FixedLevers(const std::vector<std::string>& chunk_counts,
                               StateOrder order = StateOrder::kUsual) {
  std::vector<Lever> levers;
  levers.push_back(One(LeverKind::kCompute, "memory.recompute",
                       {"none", "[swiglu]", "[swiglu, norm]", "[swiglu, norm, ffn]",
                        "[swiglu, norm, ffn, attention]", "[block]"}));
  levers.push_back({.kind = LeverKind::kOrder,
                    .paths = {"memory.schedule", "memory.micro_batches_per_group"},
                    .values = {{"horizontal", "1"},
                               {"vertical", "2"},
                               {"vertical", "3"},
                               {"vertical", "4"},
                               {"vertical", "6"},
                               {"vertical", "8"},
                               {"vertical", "12"},
                               {"vertical", "auto"}}});
  levers.push_back(One(LeverKind::kPlacement, "memory.offload.residual", {"none", "host"}));
  Lever states{.kind = LeverKind::kPlacement,
               .paths = {kMoment, "memory.offload.v", "memory.offload.master", kOptimizerDevice},
               .values = {{"none", "none", "none", "gpu"},
                          {"host", "none", "none", "gpu"},
                          {"host", "host", "none", "gpu"},
                          {"host", "host", "host", "cpu"},
                          {"host", "host", "host", "gpu"}}};
  if (order == StateOrder::kOther) {
    states.values = {{"none", "host", "none", "gpu"},
                     {"none", "none", "host", "gpu"},
                     {"host", "none", "host", "gpu"},
                     {"none", "host", "host", "gpu"}};
  }
  levers.push_back(std::move(states));
  levers.push_back(One(LeverKind::kPlacement, kGradients, {"none", "host"}));
  levers.push_back(One(LeverKind::kPlacement, "memory.offload.weights", {"none", "host"}));
  levers.push_back(One(LeverKind::kChunks, kAsyncSave, {"true", "false"}));
  levers.push_back(One(LeverKind::kChunks, "memory.lm_head_chunks", chunk_counts));
  return levers;
}

// Whether this version has the value, and what is given agrees.
bool IsPossible(const Lever& lever, const std::vector<std::string>& value,
                const ResolvedConfig& resolved) {
  for (size_t i = 0; i < lever.paths.size(); ++i) {
    if (Print(resolved.config, lever.paths[i]) == value[i]) continue;
    if (!IsOpen(resolved, lever.paths[i])) return false;
    const std::vector<std::string_view> built =
        BuiltValues(*FindField(lever.paths[i]), {.cuda = true});
    if (!built.empty() && std::find(built.begin(), built.end(), value[i]) == built.end()) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool IsOpen(const ResolvedConfig& resolved, const std::string& path) {
  if (Print(resolved.config, path) == kAuto) return true;
  return path == kAsyncSave && resolved.origins.at(path).kind == OriginKind::kDefault;
}

std::vector<std::string> PlannedKeys() {
  std::vector<std::string> keys = {kMicroBatch};
  for (const Lever& lever : FixedLevers({})) {
    keys.insert(keys.end(), lever.paths.begin(), lever.paths.end());
  }
  keys.insert(keys.end(), {kResidentLayers, kHostUpdatedLayers});
  return keys;
}

std::vector<Lever> PlanLadder(const ResolvedConfig& resolved, const ModelSpec& spec,
                              const RankGrid& grid, const HardwareProfile& hardware,
                              StateOrder order) {
  std::vector<Lever> levers;
  const RunConfig& config = resolved.config;
  if (config.memory.plan.mode == PlanMode::kManual) return levers;
  std::vector<Lever> all = FixedLevers(ChunkCounts(resolved), order);
  all.insert(all.begin(), MicroBatches(resolved, spec, grid, hardware));
  for (Lever& lever : all) {
    const bool open = std::any_of(lever.paths.begin(), lever.paths.end(),
                                  [&](const std::string& path) { return IsOpen(resolved, path); });
    std::erase_if(lever.values, [&](const std::vector<std::string>& value) {
      return !IsPossible(lever, value, resolved);
    });
    const bool is_choice = open && !lever.values.empty();
    if (!is_choice && order == StateOrder::kOther && lever.paths.front() == kMoment) return {};
    if (is_choice) levers.push_back(std::move(lever));
  }
  return levers;
}

bool IsNeverFaster(const Lever& lever, size_t value, size_t than, bool updates_on_host) {
  if (lever.kind == LeverKind::kChunks) return true;
  if (lever.kind != LeverKind::kPlacement || (updates_on_host && lever.paths[0] == kGradients)) {
    return value == than;
  }
  if (than == 0) return true;
  // Some of a state that is all on the host may come back, block by block.
  if (lever.paths[0] == kMoment && lever.values[value][2] == "host") return value == than;
  for (size_t i = 0; i < lever.paths.size(); ++i) {
    const std::string &mine = lever.values[value][i], &other = lever.values[than][i];
    if (mine != other && !(mine == "host" && other == "none")) return false;
  }
  return true;
}

void Pull(const Lever& lever, size_t value, RunConfig& config) {
  for (size_t i = 0; i < lever.paths.size(); ++i) {
    SetFieldText(*FindField(lever.paths[i]), lever.values[value][i], lever.paths[i], config);
  }
}

}  // namespace hearth
