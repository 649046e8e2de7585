// A rank's side of the heartbeat page.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>

#include "runtime/telemetry/heartbeat_board.h"

namespace hearth {

class Heartbeat {
 public:
  // A heartbeat nobody watches: every call is a no-op.
  Heartbeat() = default;
  // Appears on the page as running and beats every `period` on a thread of its own, as long as the
  // object lives. IoError when there is no page; CheckError when it has no such rank.
  Heartbeat(const std::filesystem::path& board, int rank, std::chrono::milliseconds period);
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  // The work got on: this step, this phase, that many collectives enqueued. To be called wherever
  // work may take seconds: at least once for each micro-batch, evaluation batch and file written.
  // Any thread.
  void Progress(int64_t step, RunPhase phase, int64_t collectives = 0) noexcept;

  // Whether there is a page.
  bool watched() const { return slot_ != nullptr; }

  // Ends well, or badly with the exit code and the reason. The first of these counts. Any thread.
  void Finish() noexcept;
  void Fail(int exit_code, std::string_view message) noexcept;

 private:
  void Beat(std::chrono::milliseconds period);
  void End(RankState state, int exit_code, std::string_view message) noexcept;

  std::unique_ptr<HeartbeatBoard> board_;
  HeartbeatSlot* slot_ = nullptr;  // of board_; null: nobody watches
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace hearth
