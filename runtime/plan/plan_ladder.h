// What the planner may choose, as a table: the keys of run.yaml that say `auto`, and the values
// each can take. A row is all it takes to make it choose something more.
#pragma once

#include <string>
#include <vector>

#include "runtime/config/resolved_config.h"
#include "runtime/plan/hardware_profile.h"
#include "runtime/plan/smallest_change.h"

namespace hearth {

// The one key of the ladder that changes bits.
inline constexpr const char* kMicroBatch = "training.micro_batch_size";

enum class LeverKind : uint8_t {
  kCompute,    // changes what is computed
  kPlacement,  // changes where something lives
  kOrder,      // the order of the schedule
  kChunks,     // frees memory and costs nothing that is priced: the first value that fits, whatever
               // the others of these are
};

// Keys that are set together.
struct Lever {
  LeverKind kind = LeverKind::kPlacement;
  std::vector<std::string> paths;
  // Each has one text per path, as resolved.yaml has it. The first is what the key means without a
  // planner.
  std::vector<std::vector<std::string>> values;
};

// Which parts of the optimizer state are moved before which: the usual ways, or all others, by
// which a run may fit within a few bytes where it does not by the usual ones.
enum class StateOrder : uint8_t { kUsual, kOther };

// Those of which something is `auto`, with the values that this version has and that agree with
// what is given; none under `memory.plan: manual`, nor where the state has no other order.
std::vector<Lever> PlanLadder(const ResolvedConfig& resolved, const ModelSpec& spec,
                              const RankGrid& grid, const HardwareProfile& hardware,
                              StateOrder order = StateOrder::kUsual);

inline constexpr const char* kOptimizerDevice = "memory.optimizer_device";

// What the planner decides behind the levers, for the plan that they lead to.
inline constexpr const char* kResidentLayers = "memory.resident_layers";
inline constexpr const char* kHostUpdatedLayers = "memory.host_updated_layers";

// The keys of all levers, and these two.
std::vector<std::string> PlannedKeys();

// Whether a step with `value` takes at least as long as one with `than`, all else being equal: what
// leaves the device has to be moved. Gradients for an update on the host leave it in any case, and
// sooner where they are at home there.
bool IsNeverFaster(const Lever& lever, size_t value, size_t than, bool updates_on_host);

// Sets the lever to its value of that index.
void Pull(const Lever& lever, size_t value, RunConfig& config);

// Whether the configuration leaves the key open: it is `auto`, or one whose default, unlike what is
// written, gives way to the memory there is (checkpoint.async_save).
bool IsOpen(const ResolvedConfig& resolved, const std::string& path);

}  // namespace hearth
