#include "runtime/config/sweep_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include "kernels/core/error.h"
#include "kernels/core/philox.h"
#include "runtime/config/field_table.h"
#include "runtime/config/scalar_text.h"
#include "runtime/config/suggestion.h"

namespace hearth {

namespace {

// A random sweep over few values ends when so many draws in a row gave no new run.
constexpr int64_t kFruitlessDraws = 1000;

// FNV-1a.
uint64_t HashName(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

// In [0, 1).
double DrawUnit(std::string_view name, int64_t seed, int64_t index) {
  const uint64_t hash = HashName(name);
  const auto i = static_cast<uint64_t>(index);
  const Philox4 bits = Philox4x32(static_cast<uint64_t>(seed),
                                  {static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32),
                                   static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32)});
  const uint64_t joined = (uint64_t{bits[0]} << 32) | bits[1];
  return static_cast<double>(joined >> 11) * 0x1p-53;
}

// Few digits are easier to read, and hide the last bit in which mathematical libraries differ.
double RoundDigits(double value) {
  const std::string text = fmt::format("{:.3e}", value);
  double rounded = value;
  std::from_chars(text.data(), text.data() + text.size(), rounded);
  return rounded;
}

// The value in the form in which settings are compared.
SweepSetting Canonical(SweepSetting setting) {
  const YamlDocument document =
      YamlDocument::ParseValue(setting.value, fmt::format("{}: error", setting.place));
  const Field& field = *FindField(setting.path);
  RunConfig scratch;
  field.read(scratch, document, document.root());
  setting.value = field.print(scratch);
  return setting;
}

SweepAlternative DrawFrom(const SweepAxis& axis, int64_t seed, int64_t index) {
  if (axis.draw) {
    return {Canonical({.path = axis.draw->path,
                       .value = DrawValue(*axis.draw, seed, index),
                       .place = axis.draw->place})};
  }
  const auto count = static_cast<double>(axis.alternatives.size());
  const double unit = DrawUnit(axis.Paths()[0], seed, index);
  return axis.alternatives[static_cast<size_t>(unit * count)];
}

class Expansion {
 public:
  Expansion(const SweepConfig& sweep, const std::string& base_text, const BuildFeatures& features)
      : sweep_(sweep),
        base_text_(base_text),
        features_(features),
        keys_(sweep.Keys()),
        cap_(sweep.run_cap.value_or(kMaxSweepRuns)),
        used_(sweep.exclusions.size(), false) {}

  SweepRuns Run() {
    if (sweep_.method == SweepMethod::kRandom) {
      DrawAll();
    } else {
      CombineAll();
      CheckExclusions();
      if (result_.beyond_cap > 0 && !sweep_.run_cap) {
        throw ConfigError(
            fmt::format("{}: error: more than {} runs; remove values, or say how many with run_cap",
                        sweep_.file_name, kMaxSweepRuns));
      }
    }
    if (result_.runs.empty()) {
      throw ConfigError(fmt::format("{}: error: every run is excluded; remove an entry of exclude",
                                    sweep_.file_name));
    }
    return std::move(result_);
  }

 private:
  // Every combination, the last axis first, the seeds fastest.
  void CombineAll() {
    int64_t combinations = std::max<int64_t>(1, std::ssize(sweep_.seeds));
    for (const SweepAxis& axis : sweep_.axes) {
      combinations *= std::ssize(axis.alternatives);
      if (combinations > kMaxSweepCombinations) {
        throw ConfigError(fmt::format(
            "{}: error: the parameters have more than {} combinations; remove values, or use "
            "method: random with a run_cap",
            sweep_.file_name, kMaxSweepCombinations));
      }
    }
    std::vector<size_t> at(sweep_.axes.size(), 0);
    while (true) {
      SweepAlternative settings;
      for (size_t axis = 0; axis < at.size(); ++axis) {
        const SweepAlternative& more = sweep_.axes[axis].alternatives[at[axis]];
        settings.insert(settings.end(), more.begin(), more.end());
      }
      AddWithSeeds(settings);
      size_t axis = at.size();
      while (axis > 0 && ++at[axis - 1] == sweep_.axes[axis - 1].alternatives.size()) {
        at[--axis] = 0;
      }
      if (axis == 0) return;
    }
  }

  void DrawAll() {
    std::set<std::string> seen;
    int64_t fruitless = 0;
    for (int64_t i = 0; std::ssize(result_.runs) < cap_ && fruitless < kFruitlessDraws; ++i) {
      SweepAlternative settings;
      std::string text;
      for (const SweepAxis& axis : sweep_.axes) {
        for (SweepSetting& setting : DrawFrom(axis, sweep_.seed, i)) {
          text += fmt::format("{}: {}\n", setting.path, setting.value);
          settings.push_back(std::move(setting));
        }
      }
      const auto before = std::ssize(result_.runs);
      if (seen.insert(text).second) AddWithSeeds(settings);
      fruitless = std::ssize(result_.runs) > before ? 0 : fruitless + 1;
    }
    result_.beyond_cap = 0;
  }

  void AddWithSeeds(const SweepAlternative& settings) {
    if (sweep_.seeds.empty()) return Add(settings);
    for (const SweepSetting& seed : sweep_.seeds) {
      SweepAlternative more = settings;
      more.push_back(seed);
      Add(more);
    }
  }

  bool IsExcluded(const SweepAlternative& settings) {
    bool excluded = false;
    for (size_t i = 0; i < sweep_.exclusions.size(); ++i) {
      const auto holds = [&](const SweepSetting& wanted) {
        return std::any_of(settings.begin(), settings.end(), [&](const SweepSetting& setting) {
          return setting.path == wanted.path && setting.value == wanted.value;
        });
      };
      const SweepAlternative& exclusion = sweep_.exclusions[i];
      if (!std::all_of(exclusion.begin(), exclusion.end(), holds)) continue;
      used_[i] = true;
      excluded = true;
    }
    return excluded;
  }

  void Add(const SweepAlternative& settings) {
    if (IsExcluded(settings)) {
      ++result_.excluded;
      return;
    }
    if (std::ssize(result_.runs) >= cap_) {
      ++result_.beyond_cap;
      return;
    }
    SweepRun run{.resolved = Resolve(settings), .values = {}};
    for (const std::string& key : keys_) {
      run.values.push_back(FindField(key)->print(run.resolved.config));
    }
    const auto [first, is_new] =
        places_.emplace(run.resolved.IdentityText(), std::ssize(result_.runs));
    if (!is_new && sweep_.method == SweepMethod::kRandom) return;  // draws may coincide
    if (!is_new) {
      const SweepRun& other = result_.runs[static_cast<size_t>(first->second)];
      throw ConfigError(
          fmt::format("{}: error: two runs are the same: {} and {}; remove one, or write exclude",
                      settings[0].place, Named(settings), DescribeValues(keys_, other.values)));
    }
    result_.runs.push_back(std::move(run));
  }

  ResolvedConfig Resolve(const SweepAlternative& settings) const {
    std::vector<Override> overrides;
    for (const SweepSetting& setting : settings) {
      overrides.push_back({.path = setting.path,
                           .value = setting.value,
                           .given = fmt::format("{}: {}", setting.path, setting.value),
                           .place = setting.place});
    }
    try {
      return ParseConfig({.text = base_text_,
                          .file_name = sweep_.base,
                          .overrides = overrides,
                          .features = features_});
    } catch (const ConfigError& error) {
      throw ConfigError(fmt::format("{} (in the run {})", error.what(), Named(settings)));
    }
  }

  static std::string Named(const SweepAlternative& settings) {
    std::vector<std::string> keys;
    std::vector<std::string> values;
    for (const SweepSetting& setting : settings) {
      keys.push_back(setting.path);
      values.push_back(setting.value);
    }
    return DescribeValues(keys, values);
  }

  // What excludes nothing was probably meant to exclude something.
  void CheckExclusions() const {
    for (size_t i = 0; i < used_.size(); ++i) {
      if (used_[i]) continue;
      const SweepAlternative& exclusion = sweep_.exclusions[i];
      throw ConfigError(fmt::format("{}: error: no run has {}; correct or remove this exclusion",
                                    exclusion[0].place, Named(exclusion)));
    }
  }

  const SweepConfig& sweep_;
  const std::string& base_text_;
  const BuildFeatures& features_;
  const std::vector<std::string> keys_;
  const int64_t cap_;
  std::vector<bool> used_;  // by exclusion
  std::map<std::string, int64_t> places_;
  SweepRuns result_;
};

}  // namespace

std::string DrawValue(const SweepDraw& draw, int64_t seed, int64_t index) {
  const double unit = DrawUnit(draw.path, seed, index);
  double value = 0;
  switch (draw.distribution) {
    case Distribution::kUniform:
      value = RoundDigits(draw.min + unit * (draw.max - draw.min));
      break;
    case Distribution::kLogUniform:
      value = RoundDigits(draw.min * std::exp(unit * std::log(draw.max / draw.min)));
      break;
    case Distribution::kIntUniform:
      value = std::floor(draw.min + unit * (draw.max - draw.min + 1));
      break;
    case Distribution::kIntLogUniform:
      value = std::floor(draw.min * std::exp(unit * std::log((draw.max + 1) / draw.min)));
      break;
  }
  value = std::clamp(value, draw.min, draw.max);
  const bool is_integer = draw.distribution == Distribution::kIntUniform ||
                          draw.distribution == Distribution::kIntLogUniform;
  return is_integer ? fmt::format("{}", static_cast<int64_t>(value)) : NumberText(value);
}

SweepRuns ExpandSweep(const SweepConfig& sweep, const std::string& base_text,
                      const BuildFeatures& features) {
  return Expansion(sweep, base_text, features).Run();
}

std::string ShortKey(const std::vector<std::string>& keys, const std::string& key) {
  const auto leaf = [](const std::string& path) {
    const size_t dot = path.rfind('.');
    return dot == std::string::npos ? path : path.substr(dot + 1);
  };
  const auto same = std::count_if(
      keys.begin(), keys.end(), [&](const std::string& other) { return leaf(other) == leaf(key); });
  return same > 1 ? key : leaf(key);
}

std::string DescribeValues(const std::vector<std::string>& keys,
                           const std::vector<std::string>& values) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < keys.size(); ++i) {
    parts.push_back(fmt::format("{} {}", ShortKey(keys, keys[i]), Printable(values[i])));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace hearth
