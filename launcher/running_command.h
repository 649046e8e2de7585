// A program that may hang, crash or talk without end, and what it has said.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>

#include "launcher/process.h"

namespace hearth {

// How a program that was started ended.
struct CommandEnd {
  bool started = false;
  bool timed_out = false;
  int exit_code = -1;  // of one that ended by itself; 128 + N where signal N has ended it
  std::string output;  // standard output and error, at most 64 KiB

  bool Succeeded() const { return started && !timed_out && exit_code == 0; }
};

// A started program in a process group of its own, whose output goes to a file in memory.
class RunningCommand {
 public:
  // One that cannot be started has ended.
  explicit RunningCommand(ProcessOptions options);
  // Kills its process group.
  ~RunningCommand();
  RunningCommand(const RunningCommand&) = delete;
  RunningCommand& operator=(const RunningCommand&) = delete;

  // True once it has ended.
  bool Poll();
  // Bytes that it has written so far.
  int64_t Written() const;
  // What is known now; one that still runs is killed.
  CommandEnd Finish();

 private:
  void Kill();

  int output_;
  pid_t pid_ = -1;
  CommandEnd end_;
};

// Runs it as long as it says something: it is killed when it has said nothing for so long.
CommandEnd RunWhileItSpeaks(const ProcessOptions& options, std::chrono::milliseconds silence);

}  // namespace hearth
