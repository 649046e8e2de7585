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

bool StatePlaces::Relieve(ChosenPlan& run) const {
  MemoryNeed need = Need(run.plan);
  if (Fits(need, request_.limits)) return true;
  if (!IsOpen(request_.resolved, kResidentLayers)) return false;
  if (Resident(run.resolved) > 0) {
    Decide(run, kResidentLayers, "0");
    need = Need(run.plan);
    if (Fits(need, request_.limits)) return true;
  }
  const auto need_with = [&](int64_t count) {
    const std::optional<Plan> plan = PlanWith(run.resolved, kResidentLayers, count);
    return plan ? std::optional(Need(*plan)) : std::nullopt;
  };
  const std::optional<ResidentFit> fit =
      FewestResidentLayers(run.plan, request_.spec, need, request_.limits, need_with);
  if (fit) Decide(run, kResidentLayers, std::to_string(fit->layers));
  return fit.has_value();
}

void StatePlaces::FillDevice(ChosenPlan& run) const {
  if (!IsOpen(request_.resolved, kResidentLayers)) return;
  if (!request_.limits.device.ArenaBytes()) return;
  int64_t fits = Resident(run.resolved), does_not = request_.spec.config.num_layers + 1;
  while (does_not - fits > 1) {
    const int64_t count = (fits + does_not) / 2;
    (FittingPlan(run.resolved, kResidentLayers, count) ? fits : does_not) = count;
  }
  Decide(run, kResidentLayers, std::to_string(fits));
}

void StatePlaces::ShareUpdates(ChosenPlan& run) const {
  const int64_t offloaded = request_.spec.config.num_layers - Resident(run.resolved);
  int64_t best = 0;
  double least = Seconds(run.plan);
  for (int64_t eighth = 1; eighth <= kMostEighths; ++eighth) {
    const int64_t count = offloaded * eighth / 8;
    const std::optional<Plan> plan = FittingPlan(run.resolved, kHostUpdatedLayers, count);
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

std::optional<Plan> StatePlaces::PlanWith(const ResolvedConfig& resolved, const char* key,
                                          int64_t count) const {
  ResolvedConfig changed = resolved;
  changed.SetPlanned(key, std::to_string(count));
  try {
    return MakePlan(changed, request_.spec, request_.grid);
  } catch (const ConfigError&) {
    return std::nullopt;  // more blocks than there are
  }
}

std::optional<Plan> StatePlaces::FittingPlan(const ResolvedConfig& resolved, const char* key,
                                             int64_t count) const {
  std::optional<Plan> plan = PlanWith(resolved, key, count);
  if (plan && !Fits(Need(*plan), request_.limits)) plan.reset();
  return plan;
}

}  // namespace hearth
