#include "launcher/doctor_system.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "kernels/backend.h"
#include "kernels/core/error.h"
#include "launcher/bounded_child.h"
#include "launcher/core_binding.h"
#include "launcher/doctor_probes.h"
#include "launcher/own_ranks.h"
#include "launcher/process.h"
#include "launcher/program_info.h"
#include "launcher/running_command.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kMostBytes = 64 << 10;
constexpr milliseconds kPollInterval{5};
constexpr milliseconds kShortQuestion{3'000};
constexpr milliseconds kGpuQuestion{30'000};
constexpr milliseconds kDiskTimeEach{800};
constexpr milliseconds kDiskQuestion{10'000};

std::string DiskToJson(const DiskFacts& facts) {
  return nlohmann::json({{"free", facts.free_bytes},
                         {"total", facts.total_bytes},
                         {"file_system", facts.file_system},
                         {"problem", facts.problem},
                         {"direct", facts.direct},
                         {"write", facts.write_megabytes_s},
                         {"read", facts.read_megabytes_s}})
      .dump();
}

DiskFacts DiskFromJson(const std::string& text) {
  const auto json = nlohmann::json::parse(text);
  return {.free_bytes = json.at("free"),
          .total_bytes = json.at("total"),
          .file_system = json.at("file_system"),
          .problem = json.at("problem"),
          .direct = json.at("direct"),
          .write_megabytes_s = json.at("write"),
          .read_megabytes_s = json.at("read")};
}

}  // namespace

std::optional<std::string> RealSystem::ReadText(const std::string& path) {
  std::ifstream in(root_ + path, std::ios::binary);
  std::string text(kMostBytes, '\0');
  if (!in) return std::nullopt;
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return std::nullopt;
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

std::vector<std::string> RealSystem::ListFolder(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator(root_ + path, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string RealSystem::FindProgram(const std::string& name) { return hearth::FindProgram(name); }

std::string RealSystem::HostName() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::vector<CommandEnd> RealSystem::RunAll(const std::vector<std::vector<std::string>>& commands,
                                           milliseconds timeout) {
  std::vector<std::unique_ptr<RunningCommand>> running;
  for (const std::vector<std::string>& arguments : commands) {
    running.push_back(std::make_unique<RunningCommand>(
        ProcessOptions{.arguments = arguments, .environment = Environment()}));
  }
  const Clock::time_point deadline = Clock::now() + timeout;
  while (Clock::now() < deadline &&
         !std::all_of(running.begin(), running.end(), [](auto& each) { return each->Poll(); })) {
    std::this_thread::sleep_for(kPollInterval);
  }
  std::vector<CommandEnd> ends;
  for (auto& each : running) ends.push_back(each->Finish());
  return ends;
}

CommandEnd RealSystem::StartTwoRanks(milliseconds timeout) {
  try {
    return RunOwnRanks({.ranks = 2,
                        .arguments = {"doctor", "--as-rank"},
                        .silence = timeout,
                        .init_timeout = timeout});
  } catch (const std::exception& error) {
    return {.output = error.what()};
  }
}

std::optional<int64_t> RealSystem::Limit(ProcessLimit limit) {
  rlimit value{};
  int result = -1;
  switch (limit) {
    case ProcessLimit::kLockedMemory:
      result = getrlimit(RLIMIT_MEMLOCK, &value);
      break;
    case ProcessLimit::kOpenFiles:
      result = getrlimit(RLIMIT_NOFILE, &value);
      break;
    case ProcessLimit::kProcesses:
      result = getrlimit(RLIMIT_NPROC, &value);
      break;
    case ProcessLimit::kFileSize:
      result = getrlimit(RLIMIT_FSIZE, &value);
      break;
  }
  if (result != 0) return std::nullopt;
  return value.rlim_cur == RLIM_INFINITY ? kUnlimited : static_cast<int64_t>(value.rlim_cur);
}

int RealSystem::UsableProcessors() { return static_cast<int>(hearth::UsableProcessors().size()); }

int64_t RealSystem::WallTimeSeconds() {
  return std::chrono::duration_cast<seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool RealSystem::BuiltWithCuda() { return BuiltFeatures().cuda; }

std::optional<GpuCount> RealSystem::CountGpus(milliseconds timeout) {
  const auto answer = AskChild(
      [] {
        const int count = CudaDeviceCount();
        return fmt::format("{} {}", count, count == 0 ? WhyNoGpu() : "");
      },
      timeout);
  if (!answer) return std::nullopt;
  const size_t blank = answer->find(' ');
  return GpuCount{.count = std::stoi(*answer), .why_none = answer->substr(blank + 1)};
}

std::optional<CachedLinks> RealSystem::Links(int ranks) {
  const auto answer = AskChild(
      [&] { return fmt::format("{}", fmt::join(GpuIdentities(ranks), "\n")); }, kGpuQuestion);
  if (!answer) return std::nullopt;
  std::vector<std::string> devices;
  std::istringstream in(*answer);
  for (std::string line; std::getline(in, line);) devices.push_back(line);
  return ReadLinks(LinkCacheFile(true, ranks), ThisMachine(std::move(devices), true));
}

std::optional<bool> RealSystem::CanLoad(const std::string& library) {
  const auto answer = AskChild(
      [&] {
        return std::string(dlopen(library.c_str(), RTLD_LAZY | RTLD_LOCAL) != nullptr ? "1" : "0");
      },
      kShortQuestion);
  if (!answer) return std::nullopt;
  return *answer == "1";
}

std::optional<DiskFacts> RealSystem::TryDisk(const std::string& folder, bool timed) {
  const milliseconds time_each = timed ? kDiskTimeEach : milliseconds(0);
  const auto answer =
      AskChild([&] { return DiskToJson(TrialOfDisk(folder, time_each)); }, kDiskQuestion);
  if (!answer) return std::nullopt;
  return DiskFromJson(*answer);
}

std::optional<std::string> RealSystem::TryIoUring() {
  return AskChild(TrialOfIoUring, kShortQuestion);
}

std::optional<std::string> RealSystem::TryReadingAnotherProcess() {
  return AskChild(TrialOfReadingAnotherProcess, kShortQuestion);
}

}  // namespace hearth
