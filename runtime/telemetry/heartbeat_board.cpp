#include "runtime/telemetry/heartbeat_board.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

struct PhaseEntry {
  std::string_view name;
  bool is_long;
};

constexpr std::array<PhaseEntry, 6> kPhases = {{{"starting", true},
                                                {"loading", true},
                                                {"stepping", false},
                                                {"evaluating", false},
                                                {"saving", true},
                                                {"exporting", true}}};

[[noreturn]] void ThrowIo(const std::filesystem::path& path, const char* what, int error) {
  throw IoError(fmt::format("{}: {}: {}", path.string(), what, std::strerror(error)));
}

// Maps `bytes` of the open file and closes it.
void* MapAndClose(int file, size_t bytes, const std::filesystem::path& path) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  const int error = errno;
  close(file);
  if (memory == MAP_FAILED) ThrowIo(path, "cannot be mapped", error);
  return memory;
}

}  // namespace

std::string_view RunPhaseName(RunPhase phase) {
  return kPhases.at(static_cast<size_t>(phase)).name;
}

bool IsLongPhase(RunPhase phase) { return kPhases.at(static_cast<size_t>(phase)).is_long; }

HeartbeatBoard HeartbeatBoard::Create(const std::filesystem::path& path, int ranks) {
  CHECK(ranks > 0, "a heartbeat page for {} ranks", ranks);
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) ThrowIo(path, "cannot be created", errno);
  const size_t bytes = static_cast<size_t>(ranks) * sizeof(HeartbeatSlot);
  // Written, not only extended: a full disk shows here and not as SIGBUS at the first access.
  const std::string zeros(bytes, '\0');
  const ssize_t written = write(file, zeros.data(), zeros.size());
  if (written != static_cast<ssize_t>(bytes)) {
    const int error = written < 0 ? errno : ENOSPC;
    close(file);
    ThrowIo(path, "cannot be written", error);
  }
  return HeartbeatBoard(MapAndClose(file, bytes, path), ranks);
}

HeartbeatBoard HeartbeatBoard::Open(const std::filesystem::path& path) {
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) ThrowIo(path, "cannot be opened", errno);
  struct stat status {};
  const auto slot_bytes = static_cast<int64_t>(sizeof(HeartbeatSlot));
  if (fstat(file, &status) != 0 || status.st_size == 0 || status.st_size % slot_bytes != 0) {
    close(file);
    throw IoError(fmt::format("{}: is no heartbeat page of this version", path.string()));
  }
  return HeartbeatBoard(MapAndClose(file, static_cast<size_t>(status.st_size), path),
                        static_cast<int>(status.st_size / slot_bytes));
}

HeartbeatBoard::HeartbeatBoard(HeartbeatBoard&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), ranks_(other.ranks_) {}

HeartbeatBoard::~HeartbeatBoard() {
  if (memory_ != nullptr) munmap(memory_, static_cast<size_t>(ranks_) * sizeof(HeartbeatSlot));
}

HeartbeatSlot& HeartbeatBoard::slot(int rank) const {
  CHECK(rank >= 0 && rank < ranks_, "no rank {} among {}", rank, ranks_);
  return static_cast<HeartbeatSlot*>(memory_)[rank];
}

HeartbeatReading ReadHeartbeat(const HeartbeatBoard& board, int rank) {
  const HeartbeatSlot& slot = board.slot(rank);
  // First: what a rank wrote before it changed its state is then seen too.
  const int64_t state = slot.state.load(std::memory_order_acquire);
  HeartbeatReading reading;
  reading.state = static_cast<RankState>(std::clamp<int64_t>(state, 0, 3));
  reading.pid = slot.pid.load();
  reading.beats = slot.beats.load();
  reading.progress = slot.progress.load();
  reading.step = slot.step.load();
  reading.phase = static_cast<RunPhase>(
      std::clamp<int64_t>(slot.phase.load(), 0, static_cast<int64_t>(kPhases.size()) - 1));
  reading.collectives = slot.collectives.load();
  reading.exit_code = slot.exit_code.load();
  reading.ended_ns = slot.ended_ns.load();
  if (reading.state == RankState::kFailed) {
    reading.message.assign(slot.message.data(), strnlen(slot.message.data(), slot.message.size()));
  }
  return reading;
}

std::string DescribePlace(const HeartbeatReading& reading) {
  std::string place = fmt::format("step {}, {}", reading.step, RunPhaseName(reading.phase));
  if (reading.collectives > 0) place += fmt::format(", collective #{}", reading.collectives);
  return place;
}

}  // namespace hearth
