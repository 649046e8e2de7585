#include "runtime/plan/smallest_change.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <optional>

#include "kernels/core/error.h"
#include "runtime/config/field_table.h"

namespace hearth {

namespace {

// One key and the values that free memory, the mildest first.
struct Lever {
  std::string path;
  std::vector<std::string> values;
};

// In rising order of what they cost.
std::vector<Lever> MakeLevers(const Plan& plan, const RunConfig& config) {
  std::vector<Lever> levers;
  Lever chunks{.path = "memory.lm_head_chunks", .values = {}};
  const int64_t slabs = DivUp(plan.tokens_per_micro_batch, plan.numeric.head_slab_tokens);
  const int64_t present = DivUp(plan.tokens_per_micro_batch, plan.head_chunk_tokens);
  for (int64_t count = 2; count < 2 * slabs; count *= 2) {
    if (count > present) chunks.values.push_back(std::to_string(std::min(count, slabs)));
  }
  levers.push_back(chunks);
  levers.push_back({.path = "memory.recompute",
                    .values = {"[swiglu]", "[swiglu, norm]", "[swiglu, norm, ffn]",
                               "[swiglu, norm, ffn, attention]", "[block]"}});
  levers.push_back({.path = "memory.offload.residual", .values = {"host"}});
  levers.push_back({.path = "memory.offload.optimizer", .values = {"host"}});
  levers.push_back({.path = "checkpoint.async_save", .values = {"false"}});
  if (plan.RanksPerBox() > 1)
    levers.push_back({.path = "parallel.zero_stage", .values = {"1", "2", "3"}});
  levers.push_back({.path = "memory.offload.gradients", .values = {"host"}});
  levers.push_back({.path = "memory.offload.weights", .values = {"host"}});
  if (config.optimizer.master_dtype == MasterDtype::kFp32) {
    levers.push_back({.path = "optimizer.master_dtype", .values = {"bf16_stochastic"}});
  }
  if (config.training.global_batch_size) {  // steps of accumulation would shrink the batch with it
    Lever micro_batch{.path = "training.micro_batch_size", .values = {}};
    for (int64_t size = plan.numeric.micro_batch_size / 2; size >= 1; size /= 2) {
      micro_batch.values.push_back(std::to_string(size));
    }
    levers.push_back(micro_batch);
  }
  // Values that this version has, and that are not in force already.
  for (Lever& lever : levers) {
    const Field& field = *FindField(lever.path);
    const std::vector<std::string_view> built = BuiltValues(field, {.cuda = true});
    const std::string given = field.print(config);
    std::erase_if(lever.values, [&](const std::string& value) {
      const bool is_built =
          built.empty() || std::find(built.begin(), built.end(), value) != built.end();
      return !is_built || value == given;
    });
  }
  std::erase_if(levers, [](const Lever& lever) { return lever.values.empty(); });
  return levers;
}

class Search {
 public:
  Search(const ResolvedConfig& resolved, const ModelSpec& spec, const RankGrid& grid,
         const MemoryLimits& limits)
      : resolved_(resolved),
        spec_(spec),
        grid_(grid),
        limits_(limits),
        levers_(MakeLevers(MakePlan(resolved, spec, grid), resolved.config)) {}

  KeyValues Run() {
    const unsigned all = 1u << levers_.size();
    for (int keys = 1; keys <= static_cast<int>(levers_.size()); ++keys) {
      for (unsigned set = 1; set < all; ++set) {
        if (std::popcount(set) != keys) continue;
        // The strongest of each first: where that does not fit, nothing of this set does.
        std::vector<size_t> turns(levers_.size(), 0);
        for (size_t i = 0; i < levers_.size(); ++i) {
          turns[i] = (set >> i & 1u) ? levers_[i].values.size() : 0;
        }
        if (FitsWith(turns)) return Mildest(turns);
      }
    }
    return {};
  }

 private:
  // `turns`: by lever, 0 for as given, else one more than the value's index.
  KeyValues ValuesOf(const std::vector<size_t>& turns) const {
    KeyValues values;
    for (size_t i = 0; i < levers_.size(); ++i) {
      if (turns[i] > 0) values.emplace_back(levers_[i].path, levers_[i].values[turns[i] - 1]);
    }
    return values;
  }

  bool FitsWith(const std::vector<size_t>& turns) const {
    ResolvedConfig changed = resolved_;
    try {
      for (const auto& [path, value] : ValuesOf(turns)) Set(changed, path, value);
      return Fits(NeedOf(MakePlan(changed, spec_, grid_), spec_), limits_);
    } catch (const ConfigError&) {
      return false;  // this combination is no run at all
    }
  }

  static void Set(ResolvedConfig& changed, const std::string& path, const std::string& value) {
    if (path != "memory.offload.optimizer") {
      changed.SetPlanned(path, value);
      return;
    }
    for (const char* state : {"memory.offload.m", "memory.offload.v", "memory.offload.master"}) {
      changed.SetPlanned(state, value);
    }
  }

  KeyValues Mildest(std::vector<size_t> turns) const {
    for (size_t i = turns.size(); i-- > 0;) {
      while (turns[i] > 1) {
        --turns[i];
        if (FitsWith(turns)) continue;
        ++turns[i];
        break;
      }
    }
    return ValuesOf(turns);
  }

  const ResolvedConfig& resolved_;
  const ModelSpec& spec_;
  const RankGrid grid_;
  const MemoryLimits& limits_;
  const std::vector<Lever> levers_;
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
