// The request to finish the step, save and end.
#pragma once

namespace hearth {

// Set by its signals from the moment of Install on. The flag lives as long as the process, as a
// signal handler needs it to.
class StopFlag {
 public:
  // The handler of SIGUSR1; without it that signal kills. Call it before anything that takes time.
  static void Install();
  // The same for SIGTERM, where whoever sends it leaves time to save.
  static void InstallForTermination();
  static bool IsRequested();
};

}  // namespace hearth
