// That a refusal is true: where any setting of a grid fits, the planner finds one that does, and
// so does the smallest change. Budgets are the needs of settings than which no other is thriftier.
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/config/field_table.h"
#include "runtime/plan/plan_ladder.h"
#include "runtime/plan/planner.h"
#include "tests/unit/plan/plan_test_support.h"
#include "tests/unit/plan/slow_card.h"

namespace hearth::test {
namespace {

constexpr size_t kLooked = 10;

struct Model {
  std::string name;
  ModelConfig config;
  std::string more;
  int world = 1;
};

std::vector<Model> Models() {
  ModelConfig deep = SmallConfig();
  deep.num_layers = 9;  // large enough for the planner's shortcuts
  ModelConfig wide_table = SmallConfig(/*tied=*/true);
  wide_table.vocab_size = 700;
  const std::string fp8 = "precision: {compute_dtype: fp8}\n";
  return {{"small", SmallConfig(), ""},
          {"tied", wide_table, fp8},
          {"two ranks", SmallConfig(), fp8, 2},
          {"deep", deep, fp8}};
}

ResolvedConfig Open(const Model& model, const std::string& memory = "") {
  return ResolvedOf({.name = "",
                     .more = model.more + memory,
                     .training = "global_batch_size: 8",
                     .world = model.world});
}

void Set(const std::string& path, const std::string& value, ResolvedConfig& resolved) {
  SetFieldText(*FindField(path), value, path, resolved.config);
}

std::vector<ResolvedConfig> With(const std::vector<ResolvedConfig>& settings,
                                 const std::vector<std::string>& paths,
                                 const std::vector<std::string>& values) {
  std::vector<ResolvedConfig> more;
  for (const ResolvedConfig& setting : settings) {
    for (const std::string& value : values) {
      more.push_back(setting);
      for (const std::string& path : paths) Set(path, value, more.back());
    }
  }
  return more;
}

// Everything that decides about memory, by hand and not by the planner's table.
std::vector<ResolvedConfig> Grid(const Model& model) {
  std::vector<ResolvedConfig> grid = {Open(model)};
  grid = With(grid, {"training.micro_batch_size"}, {"1"});
  grid = With(grid, {"memory.recompute"}, {"none", "[block]"});
  grid = With(grid, {"memory.schedule"}, {"horizontal", "vertical"});
  for (const char* key : {"residual", "m", "v", "master", "gradients", "weights"}) {
    grid = With(grid, {std::string("memory.offload.") + key}, {"none", "host"});
  }
  grid = With(grid, {"memory.optimizer_device"}, {"gpu", "cpu"});
  grid = With(grid, {"checkpoint.async_save"}, {"false"});
  std::vector<std::string> counts;
  for (int64_t count = 0; count <= model.config.num_layers; ++count) {
    counts.push_back(std::to_string(count));
  }
  return With(grid, {kResidentLayers}, counts);
}

MemoryLimits LimitsOf(const MemoryNeed& need) {
  return {.device = {.key = "memory.gpu_budget", .budget_bytes = need.device_bytes},
          .host = {.key = "memory.host_budget", .budget_bytes = need.host_bytes},
          .device_is_host = false};
}

struct Thrifty {
  MemoryNeed need;
  std::string setting;
};

std::string Describe(const ResolvedConfig& setting) {
  std::string text;
  for (const std::string& key : PlannedKeys()) {
    text += " " + key.substr(key.rfind('.') + 1) + " " + FindField(key)->print(setting.config);
  }
  return text;
}

// Those of which none needs less than another in both tiers, by rising device memory.
std::vector<Thrifty> Thriftiest(const Model& model, const ModelSpec& spec) {
  std::vector<Thrifty> needs;
  for (const ResolvedConfig& setting : Grid(model)) {
    try {
      needs.push_back({NeedOf(MakePlan(setting, spec, model.world), spec), Describe(setting)});
    } catch (const ConfigError&) {
      // No run at all.
    }
  }
  const auto order = [](const Thrifty& each) {
    return std::pair(each.need.device_bytes, each.need.host_bytes);
  };
  std::stable_sort(needs.begin(), needs.end(),
                   [&](const Thrifty& a, const Thrifty& b) { return order(a) < order(b); });
  std::vector<Thrifty> front;
  for (const Thrifty& each : needs) {
    if (front.empty() || each.need.host_bytes < front.back().need.host_bytes) {
      front.push_back(each);
    }
  }
  // Enough of them, the ends included.
  std::vector<Thrifty> some;
  for (size_t i = 0; i < kLooked; ++i) {
    const size_t at = i * (front.size() - 1) / (kLooked - 1);
    if (i == 0 || at != (i - 1) * (front.size() - 1) / (kLooked - 1)) some.push_back(front[at]);
  }
  return some;
}

TEST(Fitting, ThePlannerFindsWhatFits) {
  for (const Model& model : Models()) {
    const ModelSpec spec = BuildModelSpec(model.config);
    const ResolvedConfig resolved = Open(model);
    const std::vector<Thrifty> front = Thriftiest(model, spec);
    EXPECT_GT(front.size(), 3u);
    for (const auto& [need, setting] : front) {
      const MemoryLimits limits = LimitsOf(need);
      const ChosenPlan chosen = ChoosePlan({resolved, spec, model.world, limits, SlowCard()});
      EXPECT_TRUE(chosen.fits) << model.name << ":" << setting;
      EXPECT_EQ(chosen.fits, Fits(NeedOf(chosen.plan, spec), limits)) << model.name;
    }
  }
}

TEST(Fitting, ARefusalNamesAChangeWheneverOneFits) {
  for (const Model& model : Models()) {
    const ModelSpec spec = BuildModelSpec(model.config);
    const std::vector<Thrifty> front = Thriftiest(model, spec);
    for (const char* memory :
         {"memory: {plan: manual}\n", "memory: {plan: manual, offload: {optimizer: host}}\n",
          "memory: {plan: manual, recompute: [block], schedule: vertical, resident_layers: 1, "
          "offload: {optimizer: host, gradients: host, weights: host, residual: host}}\n"}) {
      const ResolvedConfig resolved = Open(model, memory);
      const MemoryNeed own = NeedOf(MakePlan(resolved, spec, model.world), spec);
      for (const auto& [need, setting] : front) {
        const MemoryLimits limits = LimitsOf(need);
        if (Fits(own, limits)) continue;
        const KeyValues change = SmallestChange(resolved, spec, model.world, limits);
        EXPECT_FALSE(change.empty()) << model.name << ", " << memory << ":" << setting;
        ResolvedConfig changed = resolved;
        for (const auto& [path, value] : change) {
          if (path == "memory.offload.optimizer") {
            for (const char* state : {"m", "v", "master"}) {
              Set(std::string("memory.offload.") + state, value, changed);
            }
          } else {
            Set(path, value, changed);
          }
        }
        EXPECT_TRUE(Fits(NeedOf(MakePlan(changed, spec, model.world), spec), limits));
      }
    }
  }
}

}  // namespace
}  // namespace hearth::test
