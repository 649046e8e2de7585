// How the runs of a sweep share the machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hearth {

struct SweepMachine {
  std::vector<std::string> gpus;  // as CUDA_VISIBLE_DEVICES names them
  int64_t cores = 1;
  int64_t free_bytes = 0;  // of memory; 0: unknown
};

// This machine, as far as this process may use it.
SweepMachine LookAtMachine();

// The first `count` names of CUDA_VISIBLE_DEVICES (`visible`; null: not set) or, beyond them,
// numbers.
std::vector<std::string> GpuNames(const char* visible, int count);

// What a run needs.
struct RunNeeds {
  int64_t ranks = 1;
  int64_t gpus = 0;   // 0: it runs on the CPU
  int64_t bytes = 0;  // of host memory, all ranks
};

// How many runs can be under way at once where the sweep does not say: as many as there are GPUs
// for or, on the CPU, one core for each rank and memory for the largest. At least one.
int64_t CountSlots(const std::vector<RunNeeds>& runs, const SweepMachine& machine);

// What a run has while it is under way.
struct Seat {
  int slot = 0;  // its share of the cores
  std::vector<std::string> gpus;
};

class SeatMap {
 public:
  SeatMap(int64_t slots, const std::vector<std::string>& gpus);

  // The lowest free slot with the lowest free GPUs; nullopt while there are not enough.
  std::optional<Seat> Take(int64_t gpus);
  void GiveBack(const Seat& seat);

 private:
  std::vector<bool> slot_taken_;
  std::vector<std::string> gpus_;
  std::vector<bool> gpu_taken_;
};

}  // namespace hearth
