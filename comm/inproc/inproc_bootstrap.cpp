#include "comm/inproc/inproc_bootstrap.h"

#include <cstring>
#include <numeric>
#include <set>
#include <utility>

#include "comm/api/transport.h"
#include "kernels/core/check.h"

namespace hearth {

namespace {

void EndWaits(InprocWorld& world, const std::string& reason) {
  std::vector<std::shared_ptr<InprocWorld>> parts;
  {
    std::lock_guard lock(world.mutex);
    if (world.abort_reason.empty()) world.abort_reason = reason;
    for (const auto& [key, part] : world.parts) parts.push_back(part.lock());
  }
  world.changed.notify_all();
  for (const auto& part : parts) {
    if (part) EndWaits(*part, reason);
  }
}

}  // namespace

InprocBootstrap::InprocBootstrap(int rank, const BootstrapOptions& options,
                                 std::shared_ptr<InprocWorld> world)
    : rank_(rank), options_(options), world_(std::move(world)) {}

std::vector<Bytes> InprocBootstrap::AllGather(const Bytes& mine) {
  const std::chrono::milliseconds timeout =
      gatherings_ == 0 ? options_.init_timeout : options_.collective_timeout;
  const int64_t number = gatherings_++;
  std::unique_lock lock(world_->mutex);
  InprocGathering& gathering = world_->gatherings[number];
  gathering.contributions.resize(static_cast<size_t>(world()));
  gathering.contributions[static_cast<size_t>(rank_)] = mine;
  world_->changed.notify_all();

  std::set<int> missing;
  const auto complete = [&] {
    missing.clear();
    for (int rank = 0; rank < world(); ++rank) {
      if (!gathering.contributions[static_cast<size_t>(rank)]) missing.insert(job_rank(rank));
    }
    return missing.empty() || !world_->abort_reason.empty();
  };
  world_->changed.wait_for(lock, timeout, complete);
  if (!world_->abort_reason.empty()) throw CommError(world_->abort_reason);
  if (!missing.empty()) throw NoAnswer(missing, timeout);

  std::vector<Bytes> all;
  for (const auto& contribution : gathering.contributions) all.push_back(*contribution);
  if (++gathering.readers == world()) world_->gatherings.erase(number);
  return all;
}

Bytes InprocBootstrap::Broadcast(const Bytes& mine, int root) {
  CHECK(root >= 0 && root < world(), "broadcast from rank {} of {}", root, world());
  return AllGather(rank_ == root ? mine : Bytes())[static_cast<size_t>(root)];
}

void InprocBootstrap::Barrier() { AllGather({}); }

void InprocBootstrap::Abort(int exit_code, std::string_view why) {
  const std::string reason =
      Format("rank {} ended the job with exit code {}: {}", job_rank(rank_), exit_code, why);
  InprocWorld* job = world_.get();
  while (job->parent) job = job->parent.get();
  EndWaits(*job, reason);
  throw CommError(reason);
}

std::unique_ptr<Bootstrap> InprocBootstrap::Split(int color) {
  const int64_t number = splits_++;
  Bytes mine(sizeof(color));
  std::memcpy(mine.data(), &color, sizeof(color));
  std::vector<int> members;
  int place = 0;
  const std::vector<Bytes> colors = AllGather(mine);
  for (int other = 0; other < world(); ++other) {
    if (colors[static_cast<size_t>(other)] != mine) continue;
    if (other < rank_) ++place;
    members.push_back(job_rank(other));
  }
  std::shared_ptr<InprocWorld> part;
  {
    std::lock_guard lock(world_->mutex);
    std::weak_ptr<InprocWorld>& known = world_->parts[{number, color}];
    part = known.lock();
    if (!part) {
      part = std::make_shared<InprocWorld>(std::move(members), world_);
      part->abort_reason = world_->abort_reason;
      known = part;
    }
  }
  return std::make_unique<InprocBootstrap>(place, options_, std::move(part));
}

std::vector<std::unique_ptr<Bootstrap>> MakeInprocBootstraps(int ranks,
                                                             const BootstrapOptions& options) {
  CHECK(ranks > 0, "{} ranks", ranks);
  std::vector<int> names(static_cast<size_t>(ranks));
  std::iota(names.begin(), names.end(), 0);
  const auto world = std::make_shared<InprocWorld>(std::move(names), nullptr);
  std::vector<std::unique_ptr<Bootstrap>> bootstraps;
  for (int rank = 0; rank < ranks; ++rank) {
    bootstraps.push_back(std::make_unique<InprocBootstrap>(rank, options, world));
  }
  return bootstraps;
}

}  // namespace hearth
