#include "runtime/plan/smallest_change.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "kernels/core/error.h"
#include "runtime/config/field_table.h"
#include "runtime/plan/plan_ladder.h"
#include "runtime/plan/resident_layers.h"

namespace hearth {

namespace {

constexpr const char* kOptimizer = "memory.offload.optimizer";  // stands for the three of them
constexpr std::array<const char*, 3> kStates = {"memory.offload.m", "memory.offload.v",
                                                "memory.offload.master"};

// One way to another need of memory: keys that are set together, the mildest values first.
struct Way {
  std::vector<KeyValues> values;
  bool may_take_host_memory = false;
  bool counts_blocks = false;  // the one value is a number that follows from all others
};

Way OneKey(const std::string& path, const std::vector<std::string>& values) {
  Way way;
  for (const std::string& value : values) way.values.push_back({{path, value}});
  return way;
}

Way HeadChunks(const Plan& plan) {
  Way chunks;
  const int64_t slabs = DivUp(plan.tokens_per_micro_batch, plan.numeric.head_slab_tokens);
  const int64_t present = DivUp(plan.tokens_per_micro_batch, plan.head_chunk_tokens);
  for (int64_t count = 2; count < 2 * slabs; count *= 2) {
    if (count <= present) continue;
    chunks.values.push_back({{"memory.lm_head_chunks", std::to_string(std::min(count, slabs))}});
  }
  return chunks;
}

Way MoreRecomputed(const RunConfig& config) {
  std::vector<std::string> values = {"[swiglu]", "[swiglu, norm]", "[swiglu, norm, ffn]",
                                     "[swiglu, norm, ffn, attention]", "[block]"};
  const auto given =
      std::find(values.begin(), values.end(), FindField("memory.recompute")->print(config));
  if (given != values.end()) values.erase(values.begin(), given + 1);
  return OneKey("memory.recompute", values);
}

// To where it is not: what is tight may be the host as well.
Way OtherTier(const std::string& path, Tier present) {
  return OneKey(path, {present == Tier::kHost ? "none" : "host"});
}

void AddStates(const Plan& plan, const RunConfig& config, std::vector<Way>& ways) {
  const OptimizerPlacement& place = plan.optimizer;
  const int on_host =
      (place.master == Tier::kHost) + (place.m == Tier::kHost) + (place.v == Tier::kHost);
  if (on_host < 3) ways.push_back(OneKey(kOptimizer, {"host"}));
  if (on_host > 0) ways.push_back(OneKey(kOptimizer, {"none"}));
  const bool by_gpu = config.memory.optimizer_device == OptimizerDevice::kGpu;
  ways.push_back(OneKey(kOptimizerDevice, {by_gpu ? "cpu" : "gpu"}));
  ways.push_back({.values = {{{kResidentLayers, ""}}}, .counts_blocks = true});
  if (config.memory.host_updated_layers.value_or(0) > 0) {
    ways.push_back(OneKey(kHostUpdatedLayers, {"0"}));
  }
}

// Horizontal takes least of a device; all micro-batches together let ranks share what is on the
// host.
void AddOrders(const Plan& plan, const RunConfig& config, std::vector<Way>& ways) {
  const auto order = [&](const char* schedule, const std::string& group) {
    KeyValues values = {{"memory.schedule", schedule}};
    if (config.memory.micro_batches_per_group) {
      values.emplace_back("memory.micro_batches_per_group", group);
    }
    ways.push_back({.values = {values}});
  };
  order("horizontal", "1");
  if (plan.RanksPerBox() > 1) order("vertical", "auto");
}

// In rising order of what they cost.
std::vector<Way> MakeWays(const Plan& plan, const RunConfig& config) {
  std::vector<Way> ways = {HeadChunks(plan)};
  ways.push_back(MoreRecomputed(config));
  ways.push_back(OtherTier("memory.offload.residual", plan.residual));
  AddStates(plan, config, ways);
  ways.push_back(OneKey("checkpoint.async_save", {"false"}));
  if (plan.RanksPerBox() > 1) {
    ways.push_back(OneKey("parallel.zero_stage", {"1", "2", "3"}));
    ways.back().may_take_host_memory = true;
  }
  ways.push_back(OtherTier("memory.offload.gradients", plan.gradients.tier));
  ways.push_back(OtherTier("memory.offload.weights", plan.weights.tier));
  AddOrders(plan, config, ways);
  if (config.optimizer.master_dtype == MasterDtype::kFp32) {
    ways.push_back(OneKey("optimizer.master_dtype", {"bf16_stochastic"}));
  }
  if (config.training.global_batch_size) {  // steps of accumulation would shrink the batch with it
    Way micro_batch{.may_take_host_memory = true};
    for (int64_t size = plan.numeric.micro_batch_size / 2; size >= 1; size /= 2) {
      micro_batch.values.push_back({{"training.micro_batch_size", std::to_string(size)}});
    }
    ways.push_back(micro_batch);
  }
  // Values that this version has, and that are not in force already.
  const auto is_no_use = [&](const std::pair<std::string, std::string>& each) {
    if (each.second.empty() || each.first == kOptimizer) return false;
    const Field& field = *FindField(each.first);
    const std::vector<std::string_view> built = BuiltValues(field, {.cuda = true});
    const bool is_built =
        built.empty() || std::find(built.begin(), built.end(), each.second) != built.end();
    return !is_built || each.second == field.print(config);
  };
  for (Way& way : ways) {
    std::erase_if(way.values, [&](const KeyValues& values) {
      return std::all_of(values.begin(), values.end(), is_no_use);
    });
  }
  std::erase_if(ways, [](const Way& way) { return way.values.empty(); });
  return ways;
}

class Search {
 public:
  Search(const ResolvedConfig& resolved, const ModelSpec& spec, const RankGrid& grid,
         const MemoryLimits& limits)
      : resolved_(resolved),
        changed_(resolved),
        spec_(spec),
        grid_(grid),
        limits_(limits),
        ways_(MakeWays(MakePlan(resolved, spec, grid), resolved.config)) {}

  KeyValues Run() {
    const unsigned all = 1u << ways_.size();
    for (int keys = 1; keys <= static_cast<int>(ways_.size()); ++keys) {
      for (unsigned set = 1; set < all; ++set) {
        if (std::popcount(set) != keys) continue;
        // The strongest of each first: where that does not fit, nothing of this set does.
        std::vector<size_t> turns(ways_.size(), 0);
        for (size_t i = 0; i < ways_.size(); ++i) {
          turns[i] = (set >> i & 1u) ? ways_[i].values.size() : 0;
        }
        if (FitsWith(turns) || FitsMilder(turns)) return Mildest(turns);
      }
    }
    return {};
  }

 private:
  // The keys and values that make it fit with these turns. By way, 0 for as given, else one more
  // than the value's index.
  std::optional<KeyValues> FitsWith(const std::vector<size_t>& turns) {
    KeyValues values;
    const std::string* counted = nullptr;
    for (size_t i = 0; i < ways_.size(); ++i) {
      if (turns[i] == 0) continue;
      const KeyValues& more = ways_[i].values[turns[i] - 1];
      if (ways_[i].counts_blocks) {
        counted = &more.front().first;
      } else {
        values.insert(values.end(), more.begin(), more.end());
      }
    }
    changed_.config = resolved_.config;
    for (const auto& [path, value] : values) Set(path, value);
    if (!counted) {
      const std::optional<MemoryNeed> need = Need();
      return need && Fits(*need, limits_) ? std::optional(values) : std::nullopt;
    }
    const std::optional<int64_t> blocks = FewestBlocks();
    if (!blocks) return std::nullopt;
    values.emplace_back(*counted, std::to_string(*blocks));
    return values;
  }

  // Smaller micro-batches, of which there are more, and a higher stage take a little more of a
  // host: where that is what has no room, a milder turn may fit.
  bool FitsMilder(std::vector<size_t>& turns) {
    if (!last_ || !Fits({.device_bytes = last_->device_bytes}, limits_)) return false;
    for (size_t i = 0; i < ways_.size(); ++i) {
      if (!ways_[i].may_take_host_memory) continue;
      const size_t strongest = turns[i];
      for (; turns[i] > 1;) {
        --turns[i];
        if (FitsWith(turns)) return true;
      }
      turns[i] = strongest;
    }
    return false;
  }

  // Of `changed_`; nullopt where this combination is no run at all.
  std::optional<MemoryNeed> Need() {
    try {
      last_ = NeedWithin(MakePlan(changed_, spec_, grid_), spec_, limits_);
    } catch (const ConfigError&) {
      last_.reset();
    }
    return last_;
  }

  // Whose state has to be on the device; nullopt where no number fits.
  std::optional<int64_t> FewestBlocks() {
    const auto need_with = [&](int64_t count) {
      changed_.config.memory.resident_layers = count;
      return Need();
    };
    const std::optional<MemoryNeed> need = need_with(0);
    if (!need) return std::nullopt;
    if (Fits(*need, limits_)) return 0;
    const std::optional<ResidentFit> fit =
        FewestResidentLayers(MakePlan(changed_, spec_, grid_), spec_, *need, limits_, need_with);
    return fit ? std::optional(fit->layers) : std::nullopt;
  }

  void Set(const std::string& path, const std::string& value) {
    const auto set = [&](const std::string& key) {
      SetFieldText(*FindField(key), value, key, changed_.config);
    };
    if (path != kOptimizer) return set(path);
    for (const char* state : kStates) set(state);
  }

  KeyValues Mildest(std::vector<size_t> turns) {
    KeyValues values = *FitsWith(turns);
    for (size_t i = turns.size(); i-- > 0;) {
      while (turns[i] > 1) {
        --turns[i];
        std::optional<KeyValues> milder = FitsWith(turns);
        if (milder) {
          values = std::move(*milder);
          continue;
        }
        ++turns[i];
        break;
      }
    }
    return values;
  }

  const ResolvedConfig& resolved_;
  ResolvedConfig changed_;
  const ModelSpec& spec_;
  const RankGrid grid_;
  const MemoryLimits& limits_;
  const std::vector<Way> ways_;
  std::optional<MemoryNeed> last_;  // that was counted
};

}  // namespace

KeyValues SmallestChange(const ResolvedConfig& resolved, const ModelSpec& spec,
                         const RankGrid& grid, const MemoryLimits& limits) {
  return Search(resolved, spec, grid, limits).Run();
}

void RequirePlanFits(const ResolvedConfig& resolved, const Plan& plan, const ModelSpec& spec,
                     const MemoryLimits& limits) {
  const MemoryNeed need = NeedOf(plan, spec);
  if (Fits(need, limits)) return;
  std::string remedy;
  for (const auto& [path, value] :
       SmallestChange(resolved, spec, {plan.world, plan.boxes}, limits)) {
    remedy += fmt::format("{}{}: {}", remedy.empty() ? "set " : " and ", path, value);
  }
  if (remedy.empty()) {
    remedy = plan.RanksPerBox() > 1
                 ? "no setting of this version makes it fit: give it more memory"
                 : "no setting of this version makes it fit: give it more memory or "
                   "more ranks";
  }
  RequireFit(resolved, need, limits, remedy);
}

}  // namespace hearth
