#include "tests/fuzz/watched_run.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <thread>
#include <vector>

#include "tests/fuzz/corpus.h"
#include "tests/fuzz/mutator.h"

// Of the sanitizers' run time; not every compiler brings their headers.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*, size_t),
                                                         void (*)(const volatile void*));
extern "C" size_t __sanitizer_get_current_allocated_bytes();
extern "C" int __lsan_do_recoverable_leak_check();

namespace hearth::test {

namespace {

constexpr size_t kMaxInput = 64 << 10;
// What a reader may hold at once: buffers of fixed size, and a tree whose smallest node, two bytes
// of input, takes some two hundred bytes in a vector that doubles.
constexpr int64_t kFreeBytes = int64_t{16} << 20;
constexpr int64_t kBytesPerByte = 512;
constexpr uint64_t kExecutionsPerLookAtTheClock = 64;
constexpr std::chrono::milliseconds kLongestPause{32};  // between looks at a process

// Counts what is allocated and asks how much of it is still held only when the sum has reached the
// limit, which few inputs do: counting what is freed as well took a tenth of the time.
class AllocationLimit {
 public:
  static void Install() {
    TheState().before = Held();
    __sanitizer_install_malloc_and_free_hooks(&OnMalloc, &OnFree);
  }
  // From now on `bytes` more than when it was installed may be held.
  static void Set(int64_t bytes) { TheState().left = TheState().limit = bytes; }
  static void Remove() { Set(std::numeric_limits<int64_t>::max()); }

 private:
  struct State {
    int64_t left = std::numeric_limits<int64_t>::max();  // to allocate until it is looked at
    int64_t limit = std::numeric_limits<int64_t>::max();
    int64_t before = 0;  // held when it was installed
  };

  static State& TheState() {
    static constinit State state;
    return state;
  }
  static int64_t Held() { return static_cast<int64_t>(__sanitizer_get_current_allocated_bytes()); }
  // What is being allocated is held already. Targets have one thread.
  static void OnMalloc(const volatile void*, size_t size) {
    State& state = TheState();
    state.left -= static_cast<int64_t>(size);
    if (state.left >= 0) return;
    state.left = state.limit - (Held() - state.before);
    if (state.left >= 0) return;
    Remove();
    FailFuzz(fmt::format("an allocation of {} bytes, out of proportion to the input", size));
  }
  static void OnFree(const volatile void*) {}
};

double ProcessorSeconds(pid_t process) {
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(process, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

std::string OwnPath() {
  std::vector<char> path(4096);
  const ssize_t size = readlink("/proc/self/exe", path.data(), path.size());
  return {path.data(), static_cast<size_t>(std::max<ssize_t>(size, 0))};
}

}  // namespace

struct WatchedRun::Progress {
  std::atomic<uint64_t> executions;
  size_t size;  // of the input that runs
  char input[kMaxInput];
};

bool CanFindLeaks() {
  const pid_t process = fork();
  if (process == 0) {
    __lsan_do_recoverable_leak_check();
    std::_Exit(0);
  }
  int status = -1;
  return waitpid(process, &status, 0) == process && status == 0;
}

void InstallAllocationLimit() { AllocationLimit::Install(); }

void RunInput(const FuzzTarget& target, const std::string& input) {
  AllocationLimit::Set(kFreeBytes + kBytesPerByte * std::ssize(input));
  // A copy without the terminator that a string has: reading beyond the end is then seen.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  target.run(bytes.data(), bytes.size());
  AllocationLimit::Remove();
}

namespace {

// The process of one target.
[[noreturn]] void RunTarget(const FuzzTarget& target, const FuzzSettings& settings,
                            WatchedRun::Progress& progress) {
  const std::vector<std::string> corpus = CorpusOf(target);
  InstallAllocationLimit();
  size_t largest = 4096;
  for (const std::string& input : corpus) largest = std::max(largest, 2 * input.size());
  Mutator mutator(target.dictionary(), std::min(largest, kMaxInput),
                  settings.seed * 1'000'003 + std::hash<std::string_view>()(target.name));
  for (uint64_t i = 0; i < corpus.size() + settings.executions; ++i) {
    if (settings.deadline && i % kExecutionsPerLookAtTheClock == 0 &&
        std::chrono::steady_clock::now() >= *settings.deadline) {
      break;
    }
    const std::string input = i < corpus.size() ? corpus[i] : mutator.Next(corpus);
    progress.size = std::min(input.size(), kMaxInput);
    std::memcpy(progress.input, input.data(), progress.size);
    RunInput(target, input);
    ++progress.executions;
  }
  const bool leaks = settings.find_leaks && __lsan_do_recoverable_leak_check() != 0;
  if (leaks) std::fprintf(stderr, "fuzzing: memory was lost in one of the inputs\n");
  std::_Exit(leaks ? 1 : 0);
}

}  // namespace

WatchedRun::WatchedRun(const FuzzTarget& target, const FuzzSettings& settings)
    : progress_(*new (mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Progress()) {
  process_ = fork();
  if (process_ == 0) RunTarget(target, settings, progress_);
  end_ = Watch(settings.max_seconds);
}

WatchedRun::~WatchedRun() {
  munmap(&progress_, sizeof(Progress));
  RemoveFuzzFolders(process_);
}

uint64_t WatchedRun::executions() const { return progress_.executions; }

std::string_view WatchedRun::last_input() const { return {progress_.input, progress_.size}; }

std::string WatchedRun::Watch(double max_seconds) {
  uint64_t seen = 0;
  double since = 0;
  std::chrono::milliseconds pause{1};
  while (true) {
    int status = 0;
    rusage usage{};
    if (wait4(process_, &status, WNOHANG, &usage) == process_) {
      processor_seconds_ = Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
      return WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status))
                                 : fmt::format("exit status {}", WEXITSTATUS(status));
    }
    const double now = ProcessorSeconds(process_);
    if (progress_.executions != seen) {
      seen = progress_.executions;
      since = now;
    } else if (now - since > max_seconds) {
      kill(process_, SIGKILL);
      waitpid(process_, &status, 0);
      return fmt::format("more than {} s", max_seconds);
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, kLongestPause);
  }
}

std::string WatchedRun::KeepInput(const FuzzTarget& target, uint64_t seed) const {
  const std::string file = fmt::format("fuzz-{}-{}.input", target.name, seed);
  std::ofstream(file, std::ios::binary) << last_input();
  return fmt::format(
      "{} ended with {} in execution {}; the input is in {}, repeat it with\n"
      "ASAN_OPTIONS=malloc_context_size=20 {} {} {}",
      target.name, end(), executions() + 1, file, OwnPath(), target.name, file);
}

}  // namespace hearth::test
