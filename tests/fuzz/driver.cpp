// Runs every target on its corpus and on changed inputs, each target in a process of its own: what
// kills that process is found here, written to a file and named with the command that repeats it.
// Needs AddressSanitizer, whose hooks count what a reader allocates.
//
//   fuzz_parsers [--executions=N] [--seed=N] [GoogleTest's options]
//   fuzz_parsers --processes=N [--executions=N] [--seed=N] [--seconds=N] [TARGET...]
//       shares the targets, or those named, among N processes; stops after so many seconds
//   fuzz_parsers TARGET FILE...          runs these inputs alone
//   fuzz_parsers --write-corpus=FOLDER   writes what libFuzzer starts from
// Options may stand anywhere.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <span>
#include <stdexcept>

#include "kernels/core/error.h"
#include "tests/fuzz/campaign.h"
#include "tests/fuzz/corpus.h"
#include "tests/fuzz/watched_run.h"

// ASan's defaults for this program. Recording where each allocation was made takes long, and a
// failing input is run again alone, with all of it; less than two frames, and no leak is found.
// Freed memory stays poisoned while an input or two allocate; more of it lies beyond the caches.
extern "C" const char* __asan_default_options() {
  return "malloc_context_size=2:quarantine_size_mb=1:thread_local_quarantine_size_kb=64:"
         "detect_stack_use_after_return=0";
}

// ASan asks the system four times for the signal stack whenever something is thrown, which takes as
// long as throwing. Nobody changes it but by this function, so that the answer is known.
extern "C" __attribute__((no_sanitize("address", "undefined"))) int sigaltstack(
    const stack_t* set, stack_t* old) noexcept {
  static stack_t known;
  static bool is_known = false;
  if (set == nullptr && old != nullptr && is_known) {
    *old = known;
    return 0;
  }
  const long result = syscall(SYS_sigaltstack, set, old);
  if (result == 0 && (set != nullptr || old != nullptr)) {
    known = set != nullptr ? *set : *old;
    is_known = true;
  }
  return static_cast<int>(result);
}

namespace hearth::test {
namespace {

FuzzSettings& TheSettings() {
  static FuzzSettings settings;
  return settings;
}

class EveryTarget : public testing::TestWithParam<FuzzTarget> {};

TEST_P(EveryTarget, RefusesOrReads) {
  const FuzzTarget& target = GetParam();
  const WatchedRun run(target, TheSettings());
  EXPECT_TRUE(!run.end().empty() || run.executions() >= TheSettings().executions);
  if (!run.end().empty()) ADD_FAILURE() << run.KeepInput(target, TheSettings().seed);
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
  const FuzzSettings corpus_alone{.executions = 0, .max_seconds = 0.3};
  for (auto* seeds : {OneLetter<'r'>, OneLetter<'o'>, OneLetter<'a'>, OneLetter<'l'>,
                      OneLetter<'h'>, OneLetter<'t'>, OneLetter<'m'>}) {
    const WatchedRun run({"mistakes", MakeMistake, seeds, no_words}, corpus_alone);
    EXPECT_NE(run.end(), "") << seeds()[2];
    EXPECT_EQ(run.last_input(), seeds()[2]);
  }
  const WatchedRun sound({"mistakes", MakeMistake, OneLetter<'d'>, no_words}, corpus_alone);
  EXPECT_EQ(sound.end(), "");
}

int Repeat(const FuzzTarget& target, const std::vector<std::string>& files) {
  InstallAllocationLimit();
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

int FailUsage(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  return 2;
}

int Main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  constexpr std::string_view kWrite = "--write-corpus=";
  CampaignOptions campaign{.processes = 0};
  std::vector<std::string> words;  // a target and its files, or targets
  for (const std::string argument : std::span(argv, static_cast<size_t>(argc)).subspan(1)) {
    if (!argument.starts_with("--")) {
      words.push_back(argument);
    } else if (argument.starts_with(kWrite)) {
      WriteCorpora(argument.substr(kWrite.size()));
      return 0;
    } else if (!TakeNumber(argument, "--executions=", TheSettings().executions) &&
               !TakeNumber(argument, "--seed=", TheSettings().seed) &&
               !TakeNumber(argument, "--processes=", campaign.processes) &&
               !TakeNumber(argument, "--seconds=", campaign.seconds)) {
      return FailUsage(argument + " is no option");
    }
  }
  const bool is_campaign = campaign.processes > 0;
  if (words.empty() && !is_campaign) return RUN_ALL_TESTS();
  for (const std::string& word : words) {
    const FuzzTarget* target = FindFuzzTarget(word);
    if (target == nullptr) return FailUsage(word + " is no target");
    if (!is_campaign && words.size() == 1) return FailUsage(word + " without --processes or files");
    if (!is_campaign) return Repeat(*target, {words.begin() + 1, words.end()});
    campaign.targets.push_back(*target);
  }
  campaign.executions = TheSettings().executions;
  campaign.seed = TheSettings().seed;
  if (campaign.targets.empty()) campaign.targets = FuzzTargets();
  return RunCampaign(campaign) ? 0 : 1;
}

}  // namespace
}  // namespace hearth::test

int main(int argc, char** argv) { return hearth::test::Main(argc, argv); }
