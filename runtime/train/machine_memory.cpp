#include "runtime/train/machine_memory.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>

#include "kernels/core/check.h"
#include "runtime/telemetry/host_memory.h"

namespace hearth {

namespace {

// What libraries take at the first use of their kernels, after this look at the device.
constexpr int64_t kDeviceWarmUpBytes = int64_t{256} << 20;
// What a process takes for data, logs and checkpoints once it runs.
constexpr int64_t kHostWarmUpBytes = int64_t{64} << 20;

// One rank's answer.
struct Answer {
  std::array<char, 64> host{};   // its name
  std::array<char, 64> place{};  // of the device; empty: it has no memory of its own
  int64_t device_total = 0;
  int64_t device_free = 0;
  int64_t device_outside = 0;
  int64_t host_total = 0;  // 0: not told
  int64_t host_outside = 0;
  int64_t local_world = 1;
};

void Copy(const std::string& text, std::array<char, 64>& out) {
  std::memcpy(out.data(), text.data(), std::min(text.size(), out.size() - 1));
}

Answer Ask(const RunEnvironment& environment) {
  Answer mine{.local_world = environment.bootstrap.local_world()};
  gethostname(mine.host.data(), mine.host.size() - 1);
  mine.host_total = HostMemoryBytes(ReadSystemFile).value_or(0);
  const Device& device = environment.backend.device();
  const CommunicatorMemory communicator = environment.communicator.memory();
  // What is pinned the process holds from the start, what is not when it comes to use it.
  const bool is_pinned = device.kind() == DeviceType::kCuda;
  const int64_t held =
      is_pinned ? communicator.pinned_bytes + communicator.shared_bytes : int64_t{0};
  mine.host_outside = std::max<int64_t>(0, ProcessMemoryBytes(ReadSystemFile) - held) +
                      communicator.HostBytes(environment.bootstrap.local_world()) +
                      kHostWarmUpBytes;
  if (const auto memory = device.Memory()) {
    Copy(memory->place, mine.place);
    mine.device_total = memory->total_bytes;
    mine.device_free = std::max<int64_t>(0, memory->free_bytes - kDeviceWarmUpBytes);
    mine.device_outside = memory->own_bytes - device.allocated_bytes(MemoryKind::kDevice) +
                          communicator.device_bytes + kDeviceWarmUpBytes;
  }
  return mine;
}

std::vector<Answer> AskAll(const RunEnvironment& environment) {
  environment.bootstrap.Barrier();  // processes that share a device have all opened it
  const Answer mine = Ask(environment);
  Bytes bytes(sizeof(mine));
  std::memcpy(bytes.data(), &mine, sizeof(mine));
  std::vector<Answer> answers;
  for (const Bytes& theirs : environment.bootstrap.AllGather(bytes)) {
    CHECK(theirs.size() == sizeof(Answer), "an answer of {} bytes", theirs.size());
    std::memcpy(&answers.emplace_back(), theirs.data(), sizeof(Answer));
  }
  return answers;
}

template <typename Value>
void TakeLess(std::optional<Value>& least, Value value) {
  least = std::min(least.value_or(value), value);
}

// One for each rank without a device of its own memory.
int CountDevices(const std::vector<Answer>& answers) {
  int devices = 0;
  std::set<std::pair<std::string_view, std::string_view>> places;  // of hosts
  for (const Answer& answer : answers) {
    const bool is_new = places.emplace(answer.host.data(), answer.place.data()).second;
    if (is_new || answer.place[0] == '\0') ++devices;
  }
  return devices;
}

}  // namespace

MachineMemory MeasureMachine(const RunEnvironment& environment) {
  const std::vector<Answer> answers = AskAll(environment);
  MachineMemory machine{.devices = CountDevices(answers)};
  for (const Answer& answer : answers) {
    machine.ranks_per_host = std::max(machine.ranks_per_host, static_cast<int>(answer.local_world));
    if (answer.host_total > 0) TakeLess(machine.host_bytes, answer.host_total);
    machine.host_outside_bytes = std::max(machine.host_outside_bytes, answer.host_outside);
    if (answer.place[0] == '\0') continue;
    machine.device_is_host = false;
    TakeLess(machine.device_bytes, answer.device_total);
    TakeLess(machine.device_free_bytes, answer.device_free);
    machine.device_outside_bytes = std::max(machine.device_outside_bytes, answer.device_outside);
    const auto same = [&](const Answer& other) {
      return other.host == answer.host && other.place == answer.place;
    };
    machine.ranks_per_device =
        std::max(machine.ranks_per_device,
                 static_cast<int>(std::count_if(answers.begin(), answers.end(), same)));
  }
  return machine;
}

MachineMemory HostOf(int ranks, bool uses_gpus, const CommunicatorMemory& communicator) {
  return {.device_is_host = !uses_gpus,
          .host_bytes = HostMemoryBytes(ReadSystemFile),
          .host_outside_bytes =
              ProcessMemoryBytes(ReadSystemFile) + communicator.HostBytes(ranks) + kHostWarmUpBytes,
          .ranks_per_host = ranks};
}

ProcessMemory MeasureProcess(const Device& device) {
  ProcessMemory process{.host_bytes = ProcessMemoryBytes(ReadSystemFile)};
  if (const auto memory = device.Memory()) process.device_bytes = memory->own_bytes;
  return process;
}

}  // namespace hearth
