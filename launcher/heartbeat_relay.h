// The rank's side of rank_report.h: sends what its heartbeat page says to the launcher.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>

#include "runtime/telemetry/heartbeat_board.h"

namespace hearth {

class HeartbeatRelay {
 public:
  // Makes a page of one slot for this rank in the job folder, and sends what appears there every
  // `period` on a thread of its own, and at once when the rank has ended. IoError when there can
  // be no page.
  HeartbeatRelay(const std::filesystem::path& job_folder, int rank,
                 std::chrono::milliseconds period);
  // Sends the last state.
  ~HeartbeatRelay();
  HeartbeatRelay(const HeartbeatRelay&) = delete;
  HeartbeatRelay& operator=(const HeartbeatRelay&) = delete;

  const std::filesystem::path& page() const { return page_; }

 private:
  void Run(std::chrono::milliseconds period);
  void Send();

  std::filesystem::path page_;
  std::string token_;
  std::string host_;
  int rank_;
  HeartbeatBoard board_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

// The job's token: the name of its folder, which is like no other's.
std::string JobToken(const std::filesystem::path& job_folder);

}  // namespace hearth
