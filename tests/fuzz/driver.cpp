// Runs every target on its corpus and on changed inputs, each target in a process of its own: what
// kills that process is found here, written to a file and named with the command that repeats it.
// Needs AddressSanitizer, whose hooks count what a reader allocates.
//
//   fuzz_parsers [--executions=N] [--seed=N] [GoogleTest's options]
//   fuzz_parsers TARGET FILE...          runs these inputs alone
//   fuzz_parsers --write-corpus=FOLDER   writes what libFuzzer starts from
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <thread>

#include "kernels/core/error.h"
#include "tests/fuzz/corpus.h"
#include "tests/fuzz/mutator.h"

// Of the sanitizers' run time; not every compiler brings their headers.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*, size_t),
                                                         void (*)(const volatile void*));
extern "C" size_t __sanitizer_get_allocated_size(const volatile void*);
extern "C" int __lsan_do_recoverable_leak_check();

namespace hearth::test {
namespace {

constexpr size_t kMaxInput = 64 << 10;
// What a reader may hold at once: buffers of fixed size, and a tree whose smallest node, two bytes
// of input, takes some two hundred bytes in a vector that doubles.
constexpr int64_t kFreeBytes = int64_t{16} << 20;
constexpr int64_t kBytesPerByte = 512;

struct Settings {
  uint64_t executions = 20'000;
  uint64_t seed = 1;
  double max_seconds = 10;  // of processor time, for one input; the slowest takes milliseconds
};

Settings& TheSettings() {
  static Settings settings;
  return settings;
}

// What the processes share.
struct Progress {
  std::atomic<uint64_t> executions;
  size_t size;  // of the input that runs
  char input[kMaxInput];
};

class AllocationLimit {
 public:
  static void Install() { __sanitizer_install_malloc_and_free_hooks(&OnMalloc, &OnFree); }
  // From now on `bytes` more than now may be held.
  static void Set(int64_t bytes) { Limit() = Held() + bytes; }
  static void Remove() { Limit() = std::numeric_limits<int64_t>::max(); }

 private:
  static std::atomic<int64_t>& Held() {
    static std::atomic<int64_t> held{0};
    return held;
  }
  static std::atomic<int64_t>& Limit() {
    static std::atomic<int64_t> limit{std::numeric_limits<int64_t>::max()};
    return limit;
  }
  static void OnMalloc(const volatile void*, size_t size) {
    const int64_t held = Held() += static_cast<int64_t>(size);
    if (held <= Limit()) return;
    Remove();
    FailFuzz(fmt::format("an allocation of {} bytes, out of proportion to the input", size));
  }
  static void OnFree(const volatile void* address) {
    Held() -= static_cast<int64_t>(__sanitizer_get_allocated_size(address));
  }
};

void RunInput(const FuzzTarget& target, const std::string& input) {
  AllocationLimit::Set(kFreeBytes + kBytesPerByte * std::ssize(input));
  // A copy without the terminator that a string has: reading beyond the end is then seen.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  target.run(bytes.data(), bytes.size());
  AllocationLimit::Remove();
}

// The process of one target.
[[noreturn]] void RunTarget(const FuzzTarget& target, const Settings& settings,
                            Progress& progress) {
  AllocationLimit::Install();
  const std::vector<std::string> corpus = CorpusOf(target);
  size_t largest = 4096;
  for (const std::string& input : corpus) largest = std::max(largest, 2 * input.size());
  Mutator mutator(target.dictionary(), std::min(largest, kMaxInput),
                  settings.seed * 1'000'003 + std::hash<std::string_view>()(target.name));
  for (uint64_t i = 0; i < corpus.size() + settings.executions; ++i) {
    const std::string input = i < corpus.size() ? corpus[i] : mutator.Next(corpus);
    progress.size = std::min(input.size(), kMaxInput);
    std::memcpy(progress.input, input.data(), progress.size);
    RunInput(target, input);
    ++progress.executions;
  }
  const bool leaks = __lsan_do_recoverable_leak_check() != 0;
  if (leaks) std::fprintf(stderr, "fuzzing: memory was lost in one of the inputs\n");
  std::_Exit(leaks ? 1 : 0);
}

double ProcessorSeconds(pid_t process) {
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(process, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// What became of the process; "" when it came to its end.
std::string Watch(pid_t process, double max_seconds, const Progress& progress) {
  uint64_t seen = 0;
  double since = 0;
  while (true) {
    int status = 0;
    if (waitpid(process, &status, WNOHANG) == process) {
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
      return WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status))
                                 : fmt::format("exit status {}", WEXITSTATUS(status));
    }
    const double now = ProcessorSeconds(process);
    if (progress.executions != seen) {
      seen = progress.executions;
      since = now;
    } else if (now - since > max_seconds) {
      kill(process, SIGKILL);
      waitpid(process, &status, 0);
      return fmt::format("more than {} s", max_seconds);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

std::string OwnPath() {
  std::vector<char> path(4096);
  const ssize_t size = readlink("/proc/self/exe", path.data(), path.size());
  return {path.data(), static_cast<size_t>(std::max<ssize_t>(size, 0))};
}

// Runs a target; `end` is what became of its process.
class WatchedRun {
 public:
  WatchedRun(const FuzzTarget& target, const Settings& settings)
      : progress_(*new (mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Progress()) {
    const pid_t process = fork();
    if (process == 0) RunTarget(target, settings, progress_);
    end = Watch(process, settings.max_seconds, progress_);
  }
  ~WatchedRun() { munmap(&progress_, sizeof(Progress)); }
  WatchedRun(const WatchedRun&) = delete;
  WatchedRun& operator=(const WatchedRun&) = delete;

  uint64_t executions() const { return progress_.executions; }
  std::string_view last_input() const { return {progress_.input, progress_.size}; }

  std::string end;  // "" when it came to its end

 private:
  Progress& progress_;
};

class EveryTarget : public testing::TestWithParam<FuzzTarget> {};

TEST_P(EveryTarget, RefusesOrReads) {
  const FuzzTarget& target = GetParam();
  const WatchedRun run(target, TheSettings());
  EXPECT_TRUE(!run.end.empty() || run.executions() >= TheSettings().executions);
  if (run.end.empty()) return;
  const std::string file = fmt::format("fuzz-{}.input", target.name);
  std::ofstream(file, std::ios::binary) << run.last_input();
  ADD_FAILURE() << target.name << " ended with " << run.end << " in execution "
                << run.executions() + 1 << "; the input is in " << file << ", repeat it with\n"
                << OwnPath() << " " << target.name << " " << file;
}

INSTANTIATE_TEST_SUITE_P(Fuzz, EveryTarget, testing::ValuesIn(FuzzTargets()),
                         [](const auto& test) { return std::string(test.param.name); });

// Mistakes as readers make them, each in the input that begins with its letter.
volatile int64_t& Result() {
  static volatile int64_t result = 0;
  return result;
}

int MakeMistake(const uint8_t* data, size_t size) {
  return RunReader([&] {
    switch (size == 0 ? 0 : data[0]) {
      case 'r':  // reads one byte too many
        Result() = data[size];
        break;
      case 'o':  // overflows
        Result() = std::numeric_limits<int64_t>::max();
        Result() = Result() + 1;
        break;
      case 'a':  // allocates what the input says
        Result() = static_cast<int64_t>(std::vector<char>(size_t{64} << 20).size());
        break;
      case 'l':  // loses memory
        Result() = reinterpret_cast<intptr_t>(new char[100]) & 1;
        break;
      case 'h':  // hangs
        while (Result() >= 0) Result() = 0;
        break;
      case 't':  // throws what nobody catches
        throw std::out_of_range("out of range");
      case 'm':  // lets the input into its message
        throw ConfigError("line\nbreak");
      case 'd':  // a documented refusal
        throw ConfigError("refused");
      default:
        break;
    }
  });
}

template <char kLetter>
std::vector<std::string> OneLetter() {
  return {"", "x", std::string(1, kLetter)};
}

TEST(FuzzDriver, NoticesEveryMistake) {
  const auto no_words = [] { return std::vector<std::string>(); };
  const Settings corpus_alone{.executions = 0, .max_seconds = 0.3};
  for (auto* seeds : {OneLetter<'r'>, OneLetter<'o'>, OneLetter<'a'>, OneLetter<'l'>,
                      OneLetter<'h'>, OneLetter<'t'>, OneLetter<'m'>}) {
    const WatchedRun run({"mistakes", MakeMistake, seeds, no_words}, corpus_alone);
    EXPECT_NE(run.end, "") << seeds()[2];
    EXPECT_EQ(run.last_input(), seeds()[2]);
  }
  const WatchedRun sound({"mistakes", MakeMistake, OneLetter<'d'>, no_words}, corpus_alone);
  EXPECT_EQ(sound.end, "");
}

int Repeat(const FuzzTarget& target, const std::vector<std::string>& files) {
  AllocationLimit::Install();
  for (const std::string& file : files) {
    std::ifstream in(file, std::ios::binary);
    const std::string input(std::istreambuf_iterator<char>(in), {});
    if (!in) FailFuzz("cannot read " + file);
    RunInput(target, input);
    std::printf("%s: refused or read as documented\n", file.c_str());
  }
  return 0;
}

bool TakeNumber(std::string_view argument, std::string_view option, uint64_t& value) {
  if (!argument.starts_with(option)) return false;
  argument.remove_prefix(option.size());
  const auto end = argument.data() + argument.size();
  return std::from_chars(argument.data(), end, value).ptr == end && !argument.empty();
}

int Main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  constexpr std::string_view kWrite = "--write-corpus=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (const FuzzTarget* target = FindFuzzTarget(argument)) {
      return Repeat(*target, {argv + i + 1, argv + argc});
    }
    if (argument.starts_with(kWrite)) {
      WriteCorpora(argument.substr(kWrite.size()));
      return 0;
    }
    if (!TakeNumber(argument, "--executions=", TheSettings().executions) &&
        !TakeNumber(argument, "--seed=", TheSettings().seed)) {
      std::fprintf(stderr, "%s is neither an option nor a target\n", argv[i]);
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace hearth::test

int main(int argc, char** argv) { return hearth::test::Main(argc, argv); }
