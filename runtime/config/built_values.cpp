#include "runtime/config/built_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "runtime/config/field_table.h"
#include "runtime/config/resolved_config.h"
#include "runtime/config/suggestion.h"

namespace hearth {
namespace {

constexpr size_t kMostValues = 4;

// One leaf of which only some values are built, as the field prints them. A row goes when the rest
// is.
struct PartlyBuilt {
  std::string_view path;
  std::array<std::string_view, kMostValues> values;  // padded with ""
  bool is_offered = true;                            // in help; false where the values all mean one
};

constexpr std::array kPartlyBuilt = {
    PartlyBuilt{"training.clip_mode", {"exact"}, false},
    PartlyBuilt{"memory.offload.m", {"auto", "none", "host"}},
    PartlyBuilt{"memory.offload.v", {"auto", "none", "host"}},
    PartlyBuilt{"memory.offload.master", {"auto", "none", "host"}},
    PartlyBuilt{"memory.offload.weights", {"auto", "none", "host"}},
    PartlyBuilt{"memory.offload.gradients", {"auto", "none", "host"}},
    PartlyBuilt{"memory.offload.residual", {"auto", "none", "host"}},
    PartlyBuilt{"memory.offload.optimizer", {"null", "auto", "none", "host"}},
    PartlyBuilt{"memory.attention_chunks", {"auto", "1"}, false},
    PartlyBuilt{"memory.ssd_path", {"null"}, false},
    PartlyBuilt{"comm.backend", {"auto", "copy_engine", "mpi"}},
};

constexpr std::array kWithoutCuda = {
    PartlyBuilt{"device", {"auto", "cpu"}},
    PartlyBuilt{"precision.attention_provider", {"auto", "own"}, false},
    PartlyBuilt{"comm.backend", {"auto", "mpi"}, false},
};

template <size_t kRows>
const PartlyBuilt* FindIn(const std::array<PartlyBuilt, kRows>& rows, std::string_view path) {
  const auto row = std::find_if(rows.begin(), rows.end(),
                                [&](const PartlyBuilt& each) { return each.path == path; });
  return row == rows.end() ? nullptr : &*row;
}

bool NeedsCuda(std::string_view path) { return FindIn(kWithoutCuda, path) != nullptr; }

const PartlyBuilt* FindRow(std::string_view path, const BuildFeatures& features) {
  if (!features.cuda && NeedsCuda(path)) return FindIn(kWithoutCuda, path);
  return FindIn(kPartlyBuilt, path);
}

}  // namespace

std::vector<std::string_view> BuiltValues(const Field& field, const BuildFeatures& features) {
  std::vector<std::string_view> values;
  if (const PartlyBuilt* row = FindRow(field.path, features)) {
    for (const std::string_view value : row->values) {
      if (!value.empty()) values.push_back(value);
    }
  }
  return values;
}

bool IsOffered(const Field& field, const BuildFeatures& features) {
  const PartlyBuilt* row = FindRow(field.path, features);
  return row == nullptr || row->is_offered;
}

void CheckBuilt(const ResolvedConfig& resolved, const BuildFeatures& features) {
  for (const Field& field : FieldTable()) {
    const std::vector<std::string_view> built = BuiltValues(field, features);
    if (built.empty()) continue;
    const std::string value = field.print(resolved.config);
    if (std::find(built.begin(), built.end(), value) != built.end()) continue;
    if (!features.cuda && NeedsCuda(field.path)) {
      resolved.Fail(field.path,
                    fmt::format("this build has no CUDA backend, so '{}' cannot be had; "
                                "use {}, or build with CUDA",
                                value, fmt::join(built, " or ")));
    }
    resolved.Fail(field.path, fmt::format("'{}' is not built yet; use {}", Printable(value),
                                          fmt::join(built, " or ")));
  }
}

}  // namespace hearth
