// What a watched run says on standard error, kept in messages.txt of its folder: its report shows
// it later, when the terminal is gone.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>

#include "launcher/child_pipe.h"

namespace hearth {

inline constexpr const char* kMessagesFile = "messages.txt";

// Takes lines and keeps those that are Hearth's own ("hearth: ..."), each behind the time (UTC) as
// "2026-03-01T12:00:05Z ". They are appended as soon as the run's folder exists, which the ranks
// make; a run that is refused leaves nothing. A file that cannot be written is no failure.
class MessageLog {
 public:
  // `run_folder` empty: nothing is kept.
  explicit MessageLog(std::filesystem::path run_folder);

  void Take(std::string_view line);

 private:
  std::filesystem::path run_folder_;
  std::string waiting_;  // lines whose folder does not exist yet
};

// The standard error of ranks on this host: passed on to this process's own, line by line, and
// taken by a log.
class ErrorTee {
 public:
  // IoError when there is no pipe. `log` has to outlive the object.
  explicit ErrorTee(MessageLog* log);

  // For the process that starts the ranks; to be closed here once that has it.
  int write_end() const { return pipe_.write_end(); }
  void CloseWriteEnd() { pipe_.CloseWriteEnd(); }

  // Takes what is there, without waiting.
  void Drain();
  // Takes all to its end, as long as that comes in time.
  void DrainToEnd(std::chrono::milliseconds timeout);

 private:
  void Take(std::string_view text);

  MessageLog* log_;
  ChildPipe pipe_;
  std::string line_;  // begun, its end not yet seen
};

}  // namespace hearth
