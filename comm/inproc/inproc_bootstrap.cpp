#include "comm/inproc/inproc_bootstrap.h"

#include <set>

#include "comm/api/transport.h"
#include "kernels/core/check.h"

namespace hearth {

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
      if (!gathering.contributions[static_cast<size_t>(rank)]) missing.insert(rank);
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
      Format("rank {} ended the job with exit code {}: {}", rank_, exit_code, why);
  {
    std::lock_guard lock(world_->mutex);
    if (world_->abort_reason.empty()) world_->abort_reason = reason;
  }
  world_->changed.notify_all();
  throw CommError(reason);
}

std::vector<std::unique_ptr<Bootstrap>> MakeInprocBootstraps(int ranks,
                                                             const BootstrapOptions& options) {
  CHECK(ranks > 0, "{} ranks", ranks);
  const auto world = std::make_shared<InprocWorld>(ranks);
  std::vector<std::unique_ptr<Bootstrap>> bootstraps;
  for (int rank = 0; rank < ranks; ++rank) {
    bootstraps.push_back(std::make_unique<InprocBootstrap>(rank, options, world));
  }
  return bootstraps;
}

}  // namespace hearth
