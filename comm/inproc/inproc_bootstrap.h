// Ranks as threads of one process, for tests.
#pragma once

#include <memory>
#include <vector>

#include "comm/api/bootstrap.h"
#include "comm/inproc/inproc_world.h"

namespace hearth {

class InprocBootstrap final : public Bootstrap {
 public:
  InprocBootstrap(int rank, const BootstrapOptions& options, std::shared_ptr<InprocWorld> world);

  int rank() const override { return rank_; }
  int world() const override { return world_->ranks; }
  int local_rank() const override { return rank_; }
  int local_world() const override { return world_->ranks; }
  int job_rank(int rank) const override { return world_->job_ranks[static_cast<size_t>(rank)]; }
  std::unique_ptr<Bootstrap> Split(int color) override;
  std::vector<Bytes> AllGather(const Bytes& mine) override;
  Bytes Broadcast(const Bytes& mine, int root) override;
  void Barrier() override;
  // A thread cannot end the others: their waits, now and later, are a CommError with `why`, and so
  // is this call.
  [[noreturn]] void Abort(int exit_code, std::string_view why) override;

  const std::shared_ptr<InprocWorld>& shared_world() const { return world_; }
  // Numbers what all ranks create in the same order.
  int64_t NextChannel() { return channels_++; }

 private:
  const int rank_;
  const BootstrapOptions options_;
  const std::shared_ptr<InprocWorld> world_;  // shared by all ranks
  int64_t gatherings_ = 0;
  int64_t channels_ = 0;
  int64_t splits_ = 0;
};

// One per rank. Each may live in another thread.
std::vector<std::unique_ptr<Bootstrap>> MakeInprocBootstraps(int ranks,
                                                             const BootstrapOptions& options);

}  // namespace hearth
