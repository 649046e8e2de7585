#include "tests/e2e/processes/fake_job.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <limits>
#include <memory>
#include <sstream>
#include <thread>

#include "kernels/core/error.h"
#include "launcher/mpirun.h"
#include "launcher/process.h"
#include "launcher/rank_entry.h"
#include "launcher/run_lock.h"
#include "launcher/supervisor.h"

namespace hearth::test {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kPatience{60};
constexpr milliseconds kStepTime{5};
constexpr milliseconds kCollectiveTimeout{3'000};
constexpr int kFewSteps = 10;

template <typename Condition>
bool Eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return true;
}

// As far as it can be read: a file of /proc goes away with its process.
std::string ReadText(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// Under its final name the file is complete.
void WriteText(const std::filesystem::path& path, const std::string& text) {
  const std::filesystem::path next = path.string() + ".next";
  std::ofstream(next) << text;
  std::filesystem::rename(next, path);
}

std::filesystem::path RankFile(const std::filesystem::path& folder, int rank, int start) {
  return folder / fmt::format("rank-{}-{}", rank, start);
}

struct FakeRole {
  std::filesystem::path folder;
  FakeWork work = FakeWork::kSteps;
  int ranks = 1;
  int max_restarts = 0;
  int start = 0;
};

bool IsOdd(const FakeRole& role, int rank) {
  if (role.start > 0 || rank != 1) return false;
  return role.work == FakeWork::kRank1Idle || role.work == FakeWork::kRank1Alone ||
         role.work == FakeWork::kRank1Throws;
}

void BeOdd(const FakeRole& role) {
  if (role.work == FakeWork::kRank1Throws) throw IoError("the disk of rank 1 is gone");
  pause();
}

volatile sig_atomic_t requests_to_stop = 0;

void CountRequest(int) { requests_to_stop = requests_to_stop + 1; }

bool IsAskedToStop(const FakeRole& role, const RankContext& context) {
  if (role.work == FakeWork::kDeafOnce) return requests_to_stop > 1;
  return role.work != FakeWork::kStubborn && context.stop_requested();
}

int Work(const FakeRole& role, const RankContext& context) {
  const int rank = context.bootstrap.rank();
  if (role.work == FakeWork::kDeafOnce) signal(SIGUSR1, CountRequest);
  std::unique_ptr<RunLock> lock;
  if (rank == 0) lock = std::make_unique<RunLock>(role.folder / "out", kPatience);
  context.bootstrap.Barrier();
  if (role.work == FakeWork::kRefused) throw ConfigError("run.yaml:1:1: error: refused by all");
  const bool endless = role.start == 0 && role.work != FakeWork::kFewSteps;
  for (int step = 1; endless || step <= kFewSteps; ++step) {
    context.heartbeat.Progress(step, RunPhase::kStepping, step);
    if (step == 3) {
      WriteText(RankFile(role.folder, rank, role.start), fmt::format("{} {}", getpid(), getppid()));
    }
    if (step == 5 && IsOdd(role, rank)) BeOdd(role);
    const bool asked = IsAskedToStop(role, context);
    // All stop at the same step.
    bool stop = asked;
    if (role.work != FakeWork::kRank1Alone) {
      for (const Bytes& theirs : context.bootstrap.AllGather(Bytes(asked ? 1 : 0))) {
        stop |= !theirs.empty();
      }
    }
    if (stop) {
      WriteText(role.folder / fmt::format("saved-{}", rank), "");
      return kExitDone;
    }
    std::this_thread::sleep_for(kStepTime);
  }
  return kExitDone;
}

std::vector<std::string> RoleArguments(const char* name, const FakeRole& role) {
  return {OwnProgram(),
          name,
          role.folder.string(),
          std::to_string(static_cast<int>(role.work)),
          std::to_string(role.ranks),
          std::to_string(role.max_restarts),
          std::to_string(role.start)};
}

bool IsOnTwoHosts(const FakeRole& role) { return std::filesystem::exists(role.folder / "hosts"); }

int Launch(const FakeRole& role) {
  const auto make_start = [&](const std::filesystem::path& job_folder, int64_t start) {
    FakeRole rank_role = role;
    rank_role.start = static_cast<int>(start);
    MpirunOptions options;
    options.mpirun = FindProgram("mpirun");
    options.ranks = role.ranks;
    options.rank_command = RoleArguments("rank", rank_role);
    options.job_folder = job_folder;
    options.as_root = geteuid() == 0;
    options.environment = Environment();
    options.rank_environment.job_folder = job_folder;
    options.rank_environment.launcher_pid = getpid();
    if (IsOnTwoHosts(role)) {
      const std::filesystem::path hosts = role.folder / "hosts";
      options.hostfile = hosts.string();
      options.folder = role.folder;
      options.rank_environment.relay = true;
      options.rank_environment.launcher_pid = 0;
    }
    options.rank_environment.heartbeat = milliseconds(100);
    options.rank_environment.collective_timeout = kCollectiveTimeout;
    options.rank_environment.bind_cores = false;
    return MpirunProcess(options);
  };
  return Supervise({.ranks = role.ranks,
                    .limits = {.silence = milliseconds(2'000),
                               .progress = kCollectiveTimeout + milliseconds(2'000),
                               .long_phase = kPatience,
                               .start = kPatience},
                    .max_restarts = role.max_restarts,
                    .remote_ranks = IsOnTwoHosts(role),
                    .make_start = make_start,
                    .job_base = role.folder / "jobs"});
}

}  // namespace

int RunFakeRole(const std::vector<std::string>& arguments) {
  if (arguments.size() != 7) return -1;
  const FakeRole role{.folder = arguments[2],
                      .work = static_cast<FakeWork>(std::stoi(arguments[3])),
                      .ranks = std::stoi(arguments[4]),
                      .max_restarts = std::stoi(arguments[5]),
                      .start = std::stoi(arguments[6])};
  if (arguments[1] == "launcher") return Launch(role);
  if (arguments[1] != "rank") return -1;
  return RunRankProcess({.file = (role.folder / "run.yaml").string(), .overrides = {}},
                        [&](const RankContext& context) { return Work(role, context); });
}

namespace {

// The rank's file has its pid on its host.
pid_t FindRank(const std::filesystem::path& folder, int rank) {
  const std::string number = fmt::format("OMPI_COMM_WORLD_RANK={}", rank);
  const std::string role = fmt::format("rank{}{}", '\0', folder.string());
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (ReadText(entry.path() / "cmdline").find(role) == std::string::npos) continue;
    const std::string environment = '\0' + ReadText(entry.path() / "environ");
    if (environment.find('\0' + number + '\0') != std::string::npos) return std::stoi(name);
  }
  ADD_FAILURE() << "no rank " << rank << " runs";
  return std::numeric_limits<pid_t>::max();
}

}  // namespace

FakeJob::FakeJob(const FakeOptions& options) : options_(options) {
  std::filesystem::create_directory(folder_ / "jobs");
  std::ofstream(folder_ / "run.yaml") << "model: {name_or_path: configs/models/tiny.yaml}\n"
                                         "data: {datasets: [{path: nothing.hearth}]}\n";
  if (!options.on_two_hosts) return;
  hosts_ = std::make_unique<FakeHosts>(folder_, std::vector<std::string>{"fakeone", "faketwo"});
  for (const char* host : {"fakeone", "faketwo"}) {
    std::ofstream(folder_ / "hosts", std::ios::app)
        << host << " slots=" << options.ranks / 2 << "\n";
  }
}

FakeJob::~FakeJob() {
  if (launcher_ > 0) {
    kill(launcher_, SIGKILL);
    waitpid(launcher_, nullptr, 0);
  }
  AwaitNothingLeft();
  hosts_.reset();
}

void FakeJob::Start() {
  const std::vector<std::string> arguments =
      RoleArguments("launcher", {.folder = folder_,
                                 .work = options_.work,
                                 .ranks = options_.ranks,
                                 .max_restarts = options_.max_restarts,
                                 .start = 0});
  const std::string output = (folder_ / "output").string();
  std::vector<char*> pointers;
  for (const std::string& argument : arguments)
    pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  launcher_ = fork();
  if (launcher_ == 0) {
    const int file = open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(file, STDOUT_FILENO);
    dup2(file, STDERR_FILENO);
    setpgid(0, 0);
    if (hosts_) setenv("OMPI_MCA_plm_rsh_agent", hosts_->agent().c_str(), 1);
    execv(pointers[0], pointers.data());
    _exit(127);
  }
}

void FakeJob::AwaitSteps(int start) {
  for (int rank = 0; rank < options_.ranks; ++rank) {
    ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(RankFile(folder_, rank, start)); }))
        << "rank " << rank << " took no step; output:\n"
        << Output();
  }
}

void FakeJob::AwaitOutput(const std::string& part) const {
  ASSERT_TRUE(Eventually([&] { return Output().find(part) != std::string::npos; })) << Output();
}

int FakeJob::AwaitEnd() {
  int status = 0;
  const bool ended = Eventually([&] { return waitpid(launcher_, &status, WNOHANG) == launcher_; });
  EXPECT_TRUE(ended) << "the launcher does not end; output:\n" << Output();
  if (!ended) return -1;
  launcher_ = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

pid_t FakeJob::rank(int rank, int start) const {
  if (hosts_) return FindRank(folder_, rank);
  return std::stoi(ReadText(RankFile(folder_, rank, start)));
}

pid_t FakeJob::mpirun(int start) const {
  const std::string text = ReadText(RankFile(folder_, 0, start));
  return std::stoi(text.substr(text.find(' ')));
}

std::string FakeJob::Output() const { return ReadText(folder_ / "output"); }

bool FakeJob::Saved(int rank) const {
  return std::filesystem::exists(folder_ / fmt::format("saved-{}", rank));
}

bool FakeJob::AwaitNothingLeft() const {
  // Every process of the job, guard and mpirun included, was started with a path in this folder in
  // its arguments.
  const auto processes = [&] {
    int count = 0;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
      const std::string name = entry.path().filename();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      if (!IsRunning(std::stoi(name))) continue;
      count += ReadText(entry.path() / "cmdline").find(folder_.string()) != std::string::npos;
    }
    return count;
  };
  return Eventually([&] {
    return processes() == 0 && std::filesystem::is_empty(folder_ / "jobs") &&
           (!hosts_ || hosts_->AreClean());
  });
}

void Report(const char* what, std::chrono::steady_clock::time_point since) {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - since;
  std::printf("%s: %.2f s\n", what, elapsed.count());
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace hearth::test
