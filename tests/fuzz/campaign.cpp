#include "tests/fuzz/campaign.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <thread>

#include "tests/fuzz/watched_run.h"

namespace hearth::test {

namespace {

using Clock = std::chrono::steady_clock;

// Of one process: some seconds, and a failure stops its target and no other.
constexpr uint64_t kPiece = 100'000;
constexpr size_t kMostTargets = 64;
constexpr std::chrono::seconds kBetweenReports{10};

// What the processes share.
struct Shared {
  std::atomic<uint64_t> next_piece;
  struct Target {
    std::atomic<uint64_t> executions;
    std::atomic<uint64_t> microseconds;  // of processor time
    std::atomic<bool> failed;
  } targets[kMostTargets];
};

class Campaign {
 public:
  explicit Campaign(const CampaignOptions& options)
      : options_(options),
        shared_(*new (mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Shared()) {
    if (options.targets.size() > kMostTargets) throw std::runtime_error("too many targets");
  }
  ~Campaign() { munmap(&shared_, sizeof(Shared)); }
  Campaign(const Campaign&) = delete;
  Campaign& operator=(const Campaign&) = delete;

  bool Run() {
    if (!find_leaks_) fmt::print("leaks cannot be looked for on this machine\n");
    std::fflush(stdout);
    std::vector<pid_t> processes;
    for (uint64_t i = 0; i < options_.processes; ++i) {
      const pid_t process = fork();
      if (process < 0) throw std::runtime_error("fork failed");
      if (process == 0) {
        TakePieces();
        std::_Exit(0);
      }
      processes.push_back(process);
    }
    Clock::time_point reported = Clock::now();
    while (!processes.empty()) {
      int status = 0;
      std::erase_if(processes, [&](pid_t each) {
        if (waitpid(each, &status, WNOHANG) != each) return false;
        all_ended_well_ &= status == 0;
        return true;
      });
      if (Clock::now() - reported >= kBetweenReports) {
        reported = Clock::now();
        ReportProgress();
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return ReportEnd();
  }

 private:
  std::optional<Clock::time_point> Deadline() const {
    if (options_.seconds == 0) return std::nullopt;
    return start_ + std::chrono::seconds(options_.seconds);
  }

  void TakePieces() {
    const uint64_t rounds = (options_.executions + kPiece - 1) / kPiece;
    const size_t count = options_.targets.size();
    while (true) {
      const uint64_t piece = shared_.next_piece++;
      const uint64_t round = piece / count;
      if (round >= rounds || (Deadline() && Clock::now() >= *Deadline())) return;
      const FuzzTarget& target = options_.targets[piece % count];
      Shared::Target& sum = shared_.targets[piece % count];
      if (sum.failed) continue;
      const uint64_t seed = options_.seed * 1'000'000 + round;
      const WatchedRun run(target,
                           {.executions = std::min(kPiece, options_.executions - round * kPiece),
                            .seed = seed,
                            .find_leaks = find_leaks_,
                            .deadline = Deadline()});
      sum.executions += run.executions();
      sum.microseconds += static_cast<uint64_t>(1e6 * run.processor_seconds());
      if (run.end().empty()) continue;
      sum.failed = true;
      std::printf("%s\n", run.KeepInput(target, seed).c_str());
      std::fflush(stdout);
    }
  }

  void ReportProgress() const {
    uint64_t done = 0, failed = 0;
    for (size_t i = 0; i < options_.targets.size(); ++i) {
      done += std::min<uint64_t>(shared_.targets[i].executions, options_.executions);
      failed += shared_.targets[i].failed ? 1 : 0;
    }
    const uint64_t all = options_.executions * options_.targets.size();
    const double passed = std::chrono::duration<double>(Clock::now() - start_).count();
    const double share = static_cast<double>(done) / static_cast<double>(all);
    fmt::print("{:.0f} s: {} of {} executions ({:.1f} %), {} targets failed", passed, done, all,
               100 * share, failed);
    if (share > 0) fmt::print(", {:.0f} s left", passed / share - passed);
    if (options_.seconds > 0) fmt::print(" (stops after {} s)", options_.seconds);
    fmt::print("\n");
    std::fflush(stdout);
  }

  bool ReportEnd() const {
    bool good = all_ended_well_;
    uint64_t all = 0, crashes = 0;
    double seconds = 0;
    for (size_t i = 0; i < options_.targets.size(); ++i) {
      const Shared::Target& sum = shared_.targets[i];
      const uint64_t executions = sum.executions;
      const double own = 1e-6 * static_cast<double>(sum.microseconds);
      const bool complete = executions >= options_.executions;
      good &= complete && !sum.failed;
      all += executions;
      seconds += own;
      crashes += sum.failed ? 1 : 0;
      fmt::print("{:15} {:>10} executions {:>8.0f} /s of a core {:8.1f} core-seconds, {}\n",
                 options_.targets[i].name, executions,
                 own > 0 ? static_cast<double>(executions) / own : 0, own,
                 sum.failed ? "1 CRASH"
                 : complete ? "0 crashes, complete"
                            : "0 crashes, out of time");
    }
    fmt::print("{:15} {:>10} executions {:8.2f} core-hours, {} crashes, {:.0f} s, seed {}\n", "all",
               all, seconds / 3600, crashes,
               std::chrono::duration<double>(Clock::now() - start_).count(), options_.seed);
    return good;
  }

  const CampaignOptions& options_;
  const Clock::time_point start_ = Clock::now();
  const bool find_leaks_ = CanFindLeaks();
  bool all_ended_well_ = true;
  Shared& shared_;
};

}  // namespace

bool RunCampaign(const CampaignOptions& options) { return Campaign(options).Run(); }

}  // namespace hearth::test
