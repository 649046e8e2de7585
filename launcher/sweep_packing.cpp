#include "launcher/sweep_packing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string_view>

#include "kernels/backend.h"
#include "kernels/core/check.h"
#include "launcher/core_binding.h"

namespace hearth {

namespace {

// Of the memory that is free when the sweep starts, its runs may take so much together.
constexpr double kMemoryShare = 0.8;
// A rank's libraries and buffers outside the plan.
constexpr int64_t kBytesBesidePlan = int64_t{128} << 20;

int64_t AvailableMemory() {
  std::ifstream in("/proc/meminfo");
  for (std::string name; in >> name;) {
    int64_t kibibytes = 0;
    if (name == "MemAvailable:" && in >> kibibytes) return kibibytes * 1024;
    in.ignore(256, '\n');
  }
  return 0;
}

}  // namespace

std::vector<std::string> GpuNames(const char* visible, int count) {
  std::vector<std::string> names;
  std::string_view rest = visible != nullptr ? visible : "";
  while (static_cast<int>(names.size()) < count) {
    const std::string_view name = rest.substr(0, rest.find(','));
    names.push_back(name.empty() ? fmt::format("{}", names.size()) : std::string(name));
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
  }
  return names;
}

SweepMachine LookAtMachine() {
  const std::vector<GpuInfo> gpus = UsableGpus();
  const std::vector<std::string> names =
      GpuNames(std::getenv("CUDA_VISIBLE_DEVICES"), gpus.empty() ? 0 : gpus.back().ordinal + 1);
  std::vector<std::string> usable;
  for (const GpuInfo& gpu : gpus) usable.push_back(names[static_cast<size_t>(gpu.ordinal)]);
  return {.gpus = std::move(usable),
          .cores = std::max<int64_t>(1, std::ssize(UsableProcessors())),
          .free_bytes = AvailableMemory()};
}

int64_t CountSlots(const std::vector<RunNeeds>& runs, const SweepMachine& machine) {
  int64_t fewest_gpus = 0;
  int64_t most_ranks = 1;
  int64_t most_bytes = 0;
  for (const RunNeeds& run : runs) {
    if (run.gpus > 0) fewest_gpus = fewest_gpus == 0 ? run.gpus : std::min(fewest_gpus, run.gpus);
    most_ranks = std::max(most_ranks, run.ranks);
    most_bytes = std::max(most_bytes, run.bytes + run.ranks * kBytesBesidePlan);
  }
  int64_t slots = machine.cores / most_ranks;
  if (fewest_gpus > 0) {
    slots = std::ssize(machine.gpus) / fewest_gpus;
  } else if (machine.free_bytes > 0 && most_bytes > 0) {
    const auto room =
        static_cast<int64_t>(kMemoryShare * static_cast<double>(machine.free_bytes)) / most_bytes;
    slots = std::min(slots, room);
  }
  return std::clamp<int64_t>(slots, 1, std::max<int64_t>(1, std::ssize(runs)));
}

SeatMap::SeatMap(int64_t slots, const std::vector<std::string>& gpus)
    : slot_taken_(static_cast<size_t>(slots), false), gpus_(gpus), gpu_taken_(gpus.size(), false) {}

std::optional<Seat> SeatMap::Take(int64_t gpus) {
  const auto slot = std::find(slot_taken_.begin(), slot_taken_.end(), false);
  if (slot == slot_taken_.end()) return std::nullopt;
  if (std::count(gpu_taken_.begin(), gpu_taken_.end(), false) < gpus) return std::nullopt;
  Seat seat{.slot = static_cast<int>(slot - slot_taken_.begin()), .gpus = {}};
  for (size_t gpu = 0; std::ssize(seat.gpus) < gpus; ++gpu) {
    if (gpu_taken_[gpu]) continue;
    gpu_taken_[gpu] = true;
    seat.gpus.push_back(gpus_[gpu]);
  }
  *slot = true;
  return seat;
}

void SeatMap::GiveBack(const Seat& seat) {
  slot_taken_[static_cast<size_t>(seat.slot)] = false;
  for (const std::string& name : seat.gpus) {
    const auto gpu = std::find(gpus_.begin(), gpus_.end(), name);
    CHECK(gpu != gpus_.end(), "GPU {} was never given", name);
    gpu_taken_[static_cast<size_t>(gpu - gpus_.begin())] = false;
  }
}

}  // namespace hearth
