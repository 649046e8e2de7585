// The request to finish the step, save and end.
#pragma once

namespace hearth {

// Set by SIGUSR1 from the moment of Install on. The flag lives as long as the process, as a signal
// handler needs it to.
class StopFlag {
 public:
  // The handler of SIGUSR1; without it that signal kills. Call it before anything that takes time.
  static void Install();
  static bool IsRequested();
};

}  // namespace hearth
