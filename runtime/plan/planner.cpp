#include "runtime/plan/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/core/error.h"
#include "runtime/plan/boundary_places.h"
#include "runtime/plan/plan_ladder.h"
#include "runtime/plan/resident_layers.h"
#include "runtime/plan/rough_clock.h"
#include "runtime/plan/state_places.h"

namespace hearth {

namespace {

constexpr double kRoughError = 0.12;  // of a look at a few layers alone
// Candidates whose state is placed beside the chosen one's, of those this much slower without.
constexpr size_t kMostBeside = 8;
constexpr double kMostGained = 0.2;
constexpr size_t kNearestShown = 4;
constexpr int64_t kLayersOfALargeModel = 8;  // beside which a few layers' buffers are small

// The index of each lever's value.
using Setting = std::vector<size_t>;

struct Candidate {
  Setting setting;
  MemoryNeed need;
  bool fits = false;
  int64_t resident = 0;  // blocks whose state the host has no room for
  double seconds = std::numeric_limits<double>::infinity();

  // Levers that are not at their usual value.
  auto changes() const {
    return std::count_if(setting.begin(), setting.end(), [](size_t value) { return value > 0; }) +
           (resident > 0 ? 1 : 0);
  }
};

class Planner {
 public:
  Planner(const PlanRequest& request, std::vector<Lever> ladder)
      : request_(request),
        ladder_(std::move(ladder)),
        clock_(request.spec, request.hardware),
        places_(request, clock_),
        scratch_(request.resolved) {}

  ChosenPlan Run() {
    std::vector<Group> groups = MakeGroups();
    for (const Group& group : groups) {
      // Sorted: the others take longer, whatever is done about memory.
      if (group.at_least > fastest_ * (1 + kWorthAChange)) break;
      Explore(group);
    }
    return Finish();
  }

 private:
  // What is computed: the values of the levers that decide it, and the time of it alone.
  struct Group {
    Setting setting;
    double at_least = 0;
  };

  // All settings of the levers of a kind, the others as in `base`; the last lever turns fastest.
  std::vector<Setting> Product(const Setting& base, std::initializer_list<LeverKind> kinds) const {
    std::vector<Setting> settings = {base};
    for (size_t lever = 0; lever < ladder_.size(); ++lever) {
      if (std::find(kinds.begin(), kinds.end(), ladder_[lever].kind) == kinds.end()) continue;
      std::vector<Setting> longer;
      for (const Setting& setting : settings) {
        for (size_t value = 0; value < ladder_[lever].values.size(); ++value) {
          longer.push_back(setting);
          longer.back()[lever] = value;
        }
      }
      settings = std::move(longer);
    }
    return settings;
  }

  std::vector<Group> MakeGroups() {
    std::vector<Group> groups;
    for (Setting& setting : Product(Setting(ladder_.size()), {LeverKind::kCompute})) {
      const std::optional<Plan> plan = PlanWith(setting);
      if (plan) groups.push_back({std::move(setting), clock_.ComputeSeconds(*plan)});
    }
    std::stable_sort(groups.begin(), groups.end(),
                     [](const Group& a, const Group& b) { return a.at_least < b.at_least; });
    return groups;
  }

  // The settings of a group that fit with as little as possible off the device.
  void Explore(const Group& group) {
    if (std::optional<Candidate> hopeless = Hopeless(group)) {
      refused_.push_back(std::move(*hopeless));
      return;
    }
    std::vector<Setting> inner = Product(group.setting, {LeverKind::kOrder, LeverKind::kPlacement});
    std::stable_sort(inner.begin(), inner.end(),
                     [&](const Setting& a, const Setting& b) { return Moved(a) < Moved(b); });
    std::vector<Setting> fitting;
    std::optional<Candidate> plainest, least;  // of those that do not fit
    for (const Setting& setting : inner) {
      if (IsNoUse(setting, fitting)) continue;
      std::optional<Candidate> candidate = WithFewestChunks(setting);
      if (!candidate) continue;
      if (!candidate->fits) {
        if (!plainest) plainest = candidate;
        if (!least || Excess(*candidate) < Excess(*least)) least = std::move(candidate);
        continue;
      }
      fitting.push_back(candidate->setting);
      candidate->seconds = SecondsOf(*PlanWith(candidate->setting, candidate->resident));
      fastest_ = std::min(fastest_, candidate->seconds);
      fits_.push_back(std::move(*candidate));
    }
    std::optional<Candidate>& telling = fitting.empty() ? least : plainest;
    if (telling) refused_.push_back(std::move(*telling));
  }

  // Whether something that fits is at least as fast.
  bool IsNoUse(const Setting& setting, const std::vector<Setting>& fitting) {
    if (fitting.empty()) return false;
    const std::optional<Plan> plan = PlanWith(setting);
    if (!plan) return true;
    return std::any_of(fitting.begin(), fitting.end(), [&](const Setting& found) {
      for (size_t lever = 0; lever < ladder_.size(); ++lever) {
        if (!IsNeverFaster(ladder_[lever], setting[lever], found[lever],
                           plan->optimizer.update_on_host)) {
          return false;
        }
      }
      return true;
    });
  }

  // Roughly for what is far behind.
  double SecondsOf(const Plan& plan) const {
    const double rough = clock_.RoughSeconds(plan);
    return rough > fastest_ * (1 + kRoughError) ? rough : clock_.StepSeconds(plan);
  }

  size_t Moved(const Setting& setting) const {
    size_t moved = 0;
    for (size_t lever = 0; lever < ladder_.size(); ++lever) {
      if (ladder_[lever].kind == LeverKind::kPlacement) moved += setting[lever];
    }
    return moved;
  }

  // With as little of what costs nothing that is priced as fits, else all of it; nullopt where the
  // values exclude each other.
  std::optional<Candidate> WithFewestChunks(const Setting& setting) {
    Setting all = setting;
    for (size_t lever = 0; lever < ladder_.size(); ++lever) {
      if (ladder_[lever].kind == LeverKind::kChunks) all[lever] = ladder_[lever].values.size() - 1;
    }
    std::optional<Candidate> best = Look(all);
    if (!best || !best->fits) return best;
    for (size_t lever = 0; lever < ladder_.size(); ++lever) {
      if (ladder_[lever].kind != LeverKind::kChunks) continue;
      for (size_t value = 0; value < all[lever]; ++value) {
        Setting fewer = best->setting;
        fewer[lever] = value;
        std::optional<Candidate> candidate = Look(fewer);
        if (!candidate || !candidate->fits) continue;
        best = std::move(candidate);
        break;
      }
    }
    return best;
  }

  std::optional<Candidate> Look(const Setting& setting) {
    const std::optional<Plan> plan = PlanWith(setting);
    if (!plan || IsTooLargeAGroup(*plan)) return std::nullopt;
    Candidate candidate{.setting = setting, .need = Count(*plan)};
    candidate.fits = Fits(candidate.need, request_.limits);
    if (candidate.fits || !IsOpen(request_.resolved, kResidentLayers)) return candidate;
    const auto need_with = [&](int64_t count) {
      const std::optional<Plan> with = PlanWith(setting, count);
      return with ? std::optional(Count(*with)) : std::nullopt;
    };
    const std::optional<ResidentFit> fit =
        FewestResidentLayers(*plan, request_.spec, candidate.need, request_.limits, need_with);
    if (!fit) return candidate;
    candidate.need = fit->need;
    candidate.resident = fit->layers;
    candidate.fits = true;
    return candidate;
  }

  // Whether what lies between the blocks fills the device alone, with many micro-batches together:
  // to count everything else would take long.
  bool IsTooLargeAGroup(const Plan& plan) const {
    const auto room = request_.limits.device.ArenaBytes();
    if (!room || plan.micro_batches_per_group == 1) return false;
    return BoundaryPlaces(plan, request_.spec).count() * plan.tokens_per_micro_batch *
               request_.spec.config.hidden_size * SizeOf(plan.precision.storage) >
           *room;
  }

  MemoryNeed Count(const Plan& plan) {
    ++looked_at_;
    return NeedWithin(plan, request_.spec, request_.limits);
  }

  // A large model for which even everything moved off the device is not enough: nothing less is.
  // Small ones may take more for the buffers through which it passes.
  std::optional<Candidate> Hopeless(const Group& group) {
    if (request_.spec.config.num_layers < kLayersOfALargeModel) return std::nullopt;
    std::optional<Candidate> least;
    Setting moved = group.setting;
    for (size_t lever = 0; lever < ladder_.size(); ++lever) {
      const LeverKind kind = ladder_[lever].kind;
      if (kind != LeverKind::kPlacement && kind != LeverKind::kChunks) continue;
      moved[lever] = ladder_[lever].values.size() - 1;
    }
    for (Setting& setting : WithEveryUpdater(Product(moved, {LeverKind::kOrder}))) {
      std::optional<Candidate> candidate = Look(setting);
      if (!candidate) continue;
      const auto room = request_.limits.device.ArenaBytes();
      if (!room || candidate->need.device_bytes <= *room) return std::nullopt;
      if (!least || Excess(*candidate) < Excess(*least)) least = std::move(candidate);
    }
    return least;
  }

  // Each also with the host's optimizer, if the ladder has it: no state passes through the device.
  std::vector<Setting> WithEveryUpdater(std::vector<Setting> settings) const {
    for (size_t lever = 0; lever < ladder_.size(); ++lever) {
      const auto& paths = ladder_[lever].paths;
      const auto place = std::find(paths.begin(), paths.end(), kOptimizerDevice) - paths.begin();
      if (place == std::ssize(paths)) continue;
      for (size_t value = 0; value < ladder_[lever].values.size(); ++value) {
        if (ladder_[lever].values[value][static_cast<size_t>(place)] != "cpu") continue;
        for (size_t i = 0, count = settings.size(); i < count; ++i) {
          settings.push_back(settings[i]);
          settings.back()[lever] = value;
        }
      }
    }
    return settings;
  }

  // Bytes beyond the limits.
  int64_t Excess(const Candidate& candidate) const {
    const auto beyond = [](int64_t need, const TierLimit& limit) {
      return std::max<int64_t>(0, need - limit.ArenaBytes().value_or(need));
    };
    return beyond(candidate.need.device_bytes, request_.limits.device) +
           beyond(HostNeed(candidate.need, request_.limits), request_.limits.host);
  }

  // Where the device is the host, both tiers are the same memory beside the same processors: only a
  // budget moves anything.
  bool NeedNotMove(const Candidate& candidate) const {
    return request_.limits.device_is_host && Moved(candidate.setting) == 0;
  }

  // Of those as good as the fastest, the one with fewest changes; where nothing fits, the one that
  // breaks the limits least.
  const Candidate* Chosen() const {
    const Candidate* chosen = nullptr;
    const auto is_better = [&](const Candidate& a, const Candidate& b) {
      return a.changes() != b.changes() ? a.changes() < b.changes() : a.seconds < b.seconds;
    };
    // The fastest come first.
    const auto staying = std::find_if(fits_.begin(), fits_.end(),
                                      [&](const Candidate& each) { return NeedNotMove(each); });
    const bool stays = staying != fits_.end();
    const double fastest = stays ? staying->seconds : fastest_;
    for (const Candidate& candidate : fits_) {
      if (candidate.seconds > fastest * (1 + kWorthAChange)) continue;
      if (stays && !NeedNotMove(candidate)) continue;
      if (chosen == nullptr || is_better(candidate, *chosen)) chosen = &candidate;
    }
    if (chosen != nullptr) return chosen;
    for (const Candidate& candidate : refused_) {
      if (chosen == nullptr || Excess(candidate) < Excess(*chosen)) chosen = &candidate;
    }
    return chosen;
  }

  std::optional<Plan> PlanWith(const Setting& setting, int64_t resident = 0) {
    for (size_t lever = 0; lever < ladder_.size(); ++lever) {
      if (!pulled_.empty() && pulled_[lever] == setting[lever]) continue;
      Pull(ladder_[lever], setting[lever], scratch_.config);
    }
    pulled_ = setting;
    if (IsOpen(request_.resolved, kResidentLayers)) {
      scratch_.config.memory.resident_layers =
          resident > 0 ? std::optional(resident) : std::nullopt;
    }
    try {
      return MakePlan(scratch_, request_.spec, request_.grid);
    } catch (const ConfigError&) {
      return std::nullopt;  // this combination is no run at all
    }
  }

  KeyValues ValuesOf(const Candidate& candidate) const {
    KeyValues values = ValuesOf(candidate.setting);
    if (candidate.resident > 0) {
      values.emplace_back(kResidentLayers, std::to_string(candidate.resident));
    }
    return values;
  }

  KeyValues ValuesOf(const Setting& setting) const {
    KeyValues values;
    for (size_t lever = 0; lever < ladder_.size(); ++lever) {
      for (size_t i = 0; i < ladder_[lever].paths.size(); ++i) {
        const std::string& path = ladder_[lever].paths[i];
        if (!IsOpen(request_.resolved, path)) continue;
        values.emplace_back(path, ladder_[lever].values[setting[lever]][i]);
      }
    }
    return values;
  }

  ChosenPlan Finish() {
    std::stable_sort(fits_.begin(), fits_.end(),
                     [](const Candidate& a, const Candidate& b) { return a.seconds < b.seconds; });
    const Candidate* chosen = Chosen();
    ChosenPlan run = Settled(chosen);
    if (run.fits) LookBeside(chosen, run);
    run.seconds = chosen != nullptr ? chosen->seconds : 0;
    run.options = 1;
    run.looked_at = looked_at_;
    run.simulated = std::ssize(fits_);
    for (const Lever& lever : ladder_) run.options *= std::ssize(lever.values);
    for (const std::vector<Candidate>* list : {&fits_, &refused_}) {
      size_t shown = 0;
      for (const Candidate& candidate : *list) {
        if (&candidate == chosen || shown == kNearestShown) continue;
        run.nearest.push_back({.values = ValuesOf(candidate),
                               .need = candidate.need,
                               .fits = candidate.fits,
                               .seconds = candidate.fits ? candidate.seconds : 0});
        ++shown;
      }
    }
    return run;
  }

  // With everything that was open decided.
  ChosenPlan Settled(const Candidate* candidate) {
    ChosenPlan run{.resolved = request_.resolved, .fits = candidate != nullptr && candidate->fits};
    if (candidate != nullptr) {
      run.values = ValuesOf(*candidate);
      run.usual = ValuesOf(Setting(ladder_.size()));
      run.usual.insert(run.usual.end(), {{kResidentLayers, "0"}, {kHostUpdatedLayers, "0"}});
      for (const auto& [path, value] : run.values) run.resolved.SetPlanned(path, value);
    }
    run.plan = MakePlan(run.resolved, request_.spec, request_.grid);
    if (run.fits) places_.Place(run);
    return run;
  }

  // What is gained by the place of each block's state is known behind the levers alone: of those
  // that are not far behind, another may come out ahead.
  void LookBeside(const Candidate*& chosen, ChosenPlan& run) {
    if (ladder_.empty() || NeedNotMove(*chosen)) return;
    double least = clock_.StepSeconds(run.plan);
    size_t looked = 0;
    for (const Candidate& candidate : fits_) {
      if (looked == kMostBeside || candidate.seconds > fastest_ * (1 + kMostGained)) break;
      const std::optional<Plan> plan = PlanWith(candidate.setting);
      if (&candidate == chosen || !plan || !StatePlaces::KeepsStateOnHost(*plan)) continue;
      ++looked;
      ChosenPlan other = Settled(&candidate);
      const double seconds = clock_.StepSeconds(other.plan);
      const bool is_simpler = candidate.changes() <= chosen->changes();
      if (!(seconds < least * (is_simpler ? 1 : 1 - kWorthAChange))) continue;
      least = seconds;
      run = std::move(other);
      chosen = &candidate;
    }
  }

  const PlanRequest& request_;
  const std::vector<Lever> ladder_;
  const RoughClock clock_;
  const StatePlaces places_;
  ResolvedConfig scratch_;
  Setting pulled_;  // what `scratch_` has
  double fastest_ = std::numeric_limits<double>::infinity();
  std::vector<Candidate> fits_;
  // Of each group what does not fit: the plainest, or where nothing does, what comes nearest.
  std::vector<Candidate> refused_;
  int64_t looked_at_ = 0;
};

ChosenPlan ChooseByFile(const PlanRequest& request) {
  const auto ladder = [&](StateOrder order) {
    return PlanLadder(request.resolved, request.spec, request.grid, request.hardware, order);
  };
  ChosenPlan run = Planner(request, ladder(StateOrder::kUsual)).Run();
  if (run.fits) return run;
  std::vector<Lever> others = ladder(StateOrder::kOther);
  if (others.empty()) return run;
  ChosenPlan other = Planner(request, std::move(others)).Run();
  return other.fits ? other : run;
}

}  // namespace

ChosenPlan ChoosePlan(const PlanRequest& request) {
  if (request.here == nullptr) return ChooseByFile(request);
  ResolvedConfig kept = request.resolved;
  const bool keeps = IsOpen(kept, kMicroBatch);
  std::optional<ChosenPlan> by_file;
  if (keeps) {
    by_file = ChooseByFile(request);
    kept.SetPlanned(kMicroBatch, std::to_string(by_file->plan.numeric.micro_batch_size));
  }
  ChosenPlan run = ChooseByFile({kept, request.spec, request.grid, request.limits, *request.here});
  if (!keeps) return run;
  const auto is_micro_batch = [](const auto& value) { return value.first == kMicroBatch; };
  for (auto [from, to] :
       {std::pair{&by_file->values, &run.values}, {&by_file->usual, &run.usual}}) {
    const auto found = std::find_if(from->begin(), from->end(), is_micro_batch);
    if (found != from->end()) to->insert(to->begin(), *found);
  }
  run.options = by_file->options;
  run.looked_at += by_file->looked_at;
  run.simulated += by_file->simulated;
  return run;
}

ChosenPlan LeavePlan(const ResolvedConfig& resolved, const ModelSpec& spec, const RankGrid& grid,
                     const MemoryLimits& limits) {
  ChosenPlan run{.resolved = resolved, .plan = MakePlan(resolved, spec, grid)};
  run.fits = Fits(NeedOf(run.plan, spec), limits);
  return run;
}

std::string DescribeChoice(const ChosenPlan& run, const MemoryLimits& limits) {
  if (run.values.empty()) return "Nothing was left to choose.\n";
  const auto text = [](const KeyValues& values, const KeyValues& beside) {
    std::string list;
    for (const auto& value : values) {
      if (std::find(beside.begin(), beside.end(), value) != beside.end()) continue;
      const std::string_view leaf = std::string_view(value.first);
      list += fmt::format("{}{} {}", list.empty() ? "" : ", ", leaf.substr(leaf.rfind('.') + 1),
                          value.second);
    }
    return list;
  };
  const std::string chosen = text(run.values, run.usual);
  std::string lines =
      fmt::format("{} of {} settings of what is auto ({} looked at, {} simulated): {}.\n",
                  run.fits ? "Chosen" : "Nothing fits; nearest", run.options, run.looked_at,
                  run.simulated, chosen.empty() ? "everything as without a planner" : chosen);
  for (const PlanOption& option : run.nearest) {
    const std::string changed = text(option.values, run.values);
    if (option.fits) {
      const double slower = 100 * (option.seconds / run.seconds - 1);
      lines += fmt::format("Instead {}: {:.1f} % {}.\n", changed, std::abs(slower),
                           slower < 0 ? "faster" : "slower");
    } else {
      lines += fmt::format("Does not fit: {}: device {}, host {}.\n", changed,
                           DescribeNeed(option.need.device_bytes, limits.device),
                           DescribeNeed(HostNeed(option.need, limits), limits.host));
    }
  }
  return lines;
}

}  // namespace hearth
