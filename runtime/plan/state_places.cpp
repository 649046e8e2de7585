#include "runtime/plan/state_places.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "runtime/plan/plan_ladder.h"
#include "runtime/plan/resident_layers.h"

namespace hearth {

namespace {

// Of the blocks that the device does not keep, beyond which the host is the slower one.
constexpr int64_t kMostEighths = 6;

int64_t Resident(const ResolvedConfig& resolved) {
  return resolved.config.memory.resident_layers.value_or(0);
}

}  // namespace

bool StatePlaces::KeepsStateOnHost(const Plan& plan) {
  const OptimizerPlacement& place = plan.optimizer;
  return place.master == Tier::kHost && place.m == Tier::kHost && place.v == Tier::kHost;
}

void StatePlaces::Place(ChosenPlan& run) const {
  const RunConfig& given = request_.resolved.config;
  if (given.memory.plan.mode == PlanMode::kManual || !KeepsStateOnHost(run.plan)) return;
  std::optional<ChosenPlan> shared;
  if (IsOpen(request_.resolved, kOptimizerDevice) &&
      IsOpen(request_.resolved, kHostUpdatedLayers)) {
    shared = run;
  }
  FillDevice(run);
  if (!shared) return;
  Decide(*shared, kOptimizerDevice, "gpu");
  if (!Relieve(*shared)) return;
  FillDevice(*shared);
  ShareUpdates(*shared);
  if (Seconds(shared->plan) < Seconds(run.plan) * (1 - kWorthAChange)) run = std::move(*shared);
}

// With the fewest resident blocks that it takes; false where it does not fit with any number.
bool StatePlaces::Relieve(ChosenPlan& run) const {
  if (Fits(NeedOf(run.plan, request_.spec), request_.limits)) return true;
  if (!IsOpen(request_.resolved, kResidentLayers)) return false;
  if (Resident(run.resolved) > 0) Decide(run, kResidentLayers, "0");
  const MemoryNeed need = NeedOf(run.plan, request_.spec);
  const auto need_with = [&](int64_t count) -> std::optional<MemoryNeed> {
    const std::optional<Plan> plan = PlanBeside(run.resolved, kResidentLayers, count);
    if (!plan) return std::nullopt;
    return NeedOf(*plan, request_.spec);
  };
  const std::optional<ResidentFit> fit =
      FewestResidentLayers(run.plan, request_.spec, need, request_.limits, need_with);
  if (fit) Decide(run, kResidentLayers, std::to_string(fit->layers));
  return Fits(NeedOf(run.plan, request_.spec), request_.limits);
}

void StatePlaces::FillDevice(ChosenPlan& run) const {
  if (!IsOpen(request_.resolved, kResidentLayers)) return;
  if (!request_.limits.device.ArenaBytes()) return;
  int64_t fits = Resident(run.resolved), does_not = request_.spec.config.num_layers + 1;
  while (does_not - fits > 1) {
    const int64_t count = (fits + does_not) / 2;
    (PlanBeside(run.resolved, kResidentLayers, count) ? fits : does_not) = count;
  }
  Decide(run, kResidentLayers, std::to_string(fits));
}

void StatePlaces::ShareUpdates(ChosenPlan& run) const {
  const int64_t offloaded = request_.spec.config.num_layers - Resident(run.resolved);
  int64_t best = 0;
  double least = Seconds(run.plan);
  for (int64_t eighth = 1; eighth <= kMostEighths; ++eighth) {
    const int64_t count = offloaded * eighth / 8;
    const std::optional<Plan> plan = PlanBeside(run.resolved, kHostUpdatedLayers, count);
    if (!plan) continue;
    const double seconds = Seconds(*plan);
    if (!(seconds < least * (1 - kWorthAChange))) continue;
    least = seconds;
    best = count;
  }
  if (best > 0) Decide(run, kHostUpdatedLayers, std::to_string(best));
}

void StatePlaces::Decide(ChosenPlan& run, const std::string& key, const std::string& value) const {
  run.resolved.SetPlanned(key, value);
  std::erase_if(run.values, [&](const auto& each) { return each.first == key; });
  run.values.emplace_back(key, value);
  run.plan = MakePlan(run.resolved, request_.spec, request_.grid);
}

// The plan with that many; nullopt where it does not fit, or is none.
std::optional<Plan> StatePlaces::PlanBeside(const ResolvedConfig& resolved, const char* key,
                                            int64_t count) const {
  ResolvedConfig changed = resolved;
  changed.SetPlanned(key, std::to_string(count));
  try {
    Plan plan = MakePlan(changed, request_.spec, request_.grid);
    if (Fits(NeedOf(plan, request_.spec), request_.limits)) return plan;
  } catch (const ConfigError&) {
    // More blocks than there are.
  }
  return std::nullopt;
}

}  // namespace hearth
