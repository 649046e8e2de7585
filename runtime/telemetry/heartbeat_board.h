// The page on which the ranks of a host show their launcher that they live, where they are and how
// they ended: a small file that the launcher creates and everybody maps.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace hearth {

// What a rank is doing. In the long phases a rank may go without progress for many minutes.
enum class RunPhase : int64_t {
  kStarting,  // long: processes find each other, memory is allocated
  kLoading,   // long: weights, a checkpoint
  kStepping,
  kEvaluating,
  kSaving,     // long
  kExporting,  // long
};

std::string_view RunPhaseName(RunPhase phase);
bool IsLongPhase(RunPhase phase);

enum class RankState : int64_t { kAbsent, kRunning, kFinished, kFailed };

// One rank's part. Every word is written by its rank alone and read at any time.
struct alignas(64) HeartbeatSlot {
  static constexpr size_t kMaxMessage = 1984;

  std::atomic<int64_t> state;  // RankState; written last when a rank appears or ends
  std::atomic<int64_t> pid;
  std::atomic<int64_t> beats;     // rises as long as the process gets to run
  std::atomic<int64_t> progress;  // rises as long as its work gets on
  std::atomic<int64_t> step;
  std::atomic<int64_t> phase;             // RunPhase
  std::atomic<int64_t> collectives;       // enqueued so far
  std::atomic<int64_t> exit_code;         // of a rank that ended
  std::atomic<int64_t> ended_ns;          // monotonic clock
  std::array<char, kMaxMessage> message;  // why it failed; zero-terminated
};
static_assert(std::atomic<int64_t>::is_always_lock_free, "the page is shared between processes");

class HeartbeatBoard {
 public:
  // Creates the file for that many ranks and maps it. IoError when that fails.
  static HeartbeatBoard Create(const std::filesystem::path& path, int ranks);
  // Maps an existing one. IoError when it is missing or is none.
  static HeartbeatBoard Open(const std::filesystem::path& path);

  HeartbeatBoard(HeartbeatBoard&& other) noexcept;
  HeartbeatBoard& operator=(HeartbeatBoard&&) = delete;
  ~HeartbeatBoard();

  int ranks() const { return ranks_; }
  HeartbeatSlot& slot(int rank) const;

 private:
  HeartbeatBoard(void* memory, int ranks) : memory_(memory), ranks_(ranks) {}

  void* memory_;
  int ranks_;
};

// A slot as it was at one moment.
struct HeartbeatReading {
  RankState state = RankState::kAbsent;
  int64_t pid = 0;
  int64_t beats = 0;
  int64_t progress = 0;
  int64_t step = 0;
  RunPhase phase = RunPhase::kStarting;
  int64_t collectives = 0;
  int64_t exit_code = 0;
  int64_t ended_ns = 0;
  std::string message;
  std::string host;  // where the rank runs; "": where this page is. Not on the page.
};

HeartbeatReading ReadHeartbeat(const HeartbeatBoard& board, int rank);

// "step 120, stepping, collective #1579": where a rank was last.
std::string DescribePlace(const HeartbeatReading& reading);

}  // namespace hearth
