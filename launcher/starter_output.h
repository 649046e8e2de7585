// What mpirun says on standard error when ranks are on several hosts: the reports of the ranks, the
// ranks' own lines, and mpirun's words about hosts and ranks that failed.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/child_pipe.h"
#include "launcher/message_log.h"
#include "runtime/telemetry/heartbeat_board.h"

namespace hearth {

// What mpirun gave as the reason of a job's end.
struct StarterVerdict {
  bool started = true;  // false: hosts or program are not as they have to be; again is no use
  std::string message;  // one line
  // A host did not answer: no use at a first start, but one that was there may come back.
  bool unreachable = false;
};

class StarterOutput {
 public:
  // Reports of the job with that token go to `board`, which has to outlive the object.
  // So does `log`, which takes the ranks' own lines, where there is one.
  StarterOutput(const HeartbeatBoard& board, std::string token, MessageLog* log = nullptr);

  // For mpirun's standard error; to be closed here once mpirun has it.
  int write_end() const { return pipe_.write_end(); }
  void CloseWriteEnd() { pipe_.CloseWriteEnd(); }

  // Takes what is there, without waiting. What is for people goes to standard error.
  void Drain();
  // Takes all to its end, as long as that comes in time.
  void DrainToEnd(std::chrono::milliseconds timeout);

  // From here on nothing is for people.
  void Mute() { muted_ = true; }

  // The host that the rank reported from; "" before it has.
  const std::string& host(int rank) const { return hosts_[static_cast<size_t>(rank)]; }
  // The first that was found.
  const std::optional<StarterVerdict>& verdict() const { return verdict_; }

  // A piece of the stream. For Drain, and tests.
  void Take(std::string_view text);

 private:
  void TakeLine(const std::string& line);
  void PassOn(std::string_view text) const;
  void EndBlock();

  const HeartbeatBoard& board_;
  std::string token_;
  MessageLog* log_;
  ChildPipe pipe_;
  std::string line_;  // begun, its end not yet seen
  bool muted_ = false;
  bool in_block_ = false;
  std::string block_;  // mpirun frames what it says in lines of dashes
  std::vector<std::string> hosts_;
  std::optional<StarterVerdict> verdict_;
};

// What a framed message of mpirun 4.1 means; nullopt when it is none of the known.
// `message` empty: it only repeats what is known otherwise.
std::optional<StarterVerdict> JudgeStarterBlock(std::string_view block);

}  // namespace hearth
