// Where each block's optimizer state is and who updates it, for a plan whose levers are set.
#pragma once

#include "runtime/plan/planner.h"
#include "runtime/plan/rough_clock.h"

namespace hearth {

class StatePlaces {
 public:
  // Both must outlive it.
  StatePlaces(const PlanRequest& request, const RoughClock& clock)
      : request_(request), clock_(clock) {}

  // Whether all optimizer state is in host memory, but for some blocks'.
  static bool KeepsStateOnHost(const Plan& plan);

  // State that the device has room for stays there, which costs nothing that is priced. Where it
  // was left open who updates, host and device share what is left if that makes the step shorter.
  // `run` fits, and still does afterwards.
  void Place(ChosenPlan& run) const;

 private:
  // Gives a key its value, and makes the plan anew.
  void Decide(ChosenPlan& run, const std::string& key, const std::string& value) const;
  // Makes it fit with the fewest resident blocks that it takes; false where no number does.
  bool Relieve(ChosenPlan& run) const;
  void FillDevice(ChosenPlan& run) const;
  void ShareUpdates(ChosenPlan& run) const;
  // The plan with that many; nullopt where that is no run.
  std::optional<Plan> PlanWith(const ResolvedConfig& resolved, const char* key,
                               int64_t count) const;
  // The same; nullopt also where it does not fit.
  std::optional<Plan> FittingPlan(const ResolvedConfig& resolved, const char* key,
                                  int64_t count) const;
  // As far as it tells whether the plan fits.
  MemoryNeed Need(const Plan& plan) const {
    return NeedWithin(plan, request_.spec, request_.limits);
  }
  double Seconds(const Plan& plan) const { return clock_.StepSeconds(plan); }

  const PlanRequest& request_;
  const RoughClock& clock_;
};

}  // namespace hearth
