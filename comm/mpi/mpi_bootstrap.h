// The ranks of an MPI job. Owns the life of MPI in this process.
#pragma once

#include <memory>
#include <vector>

#include "comm/api/bootstrap.h"
#include "comm/api/transport.h"

namespace hearth {

class MpiTransport;

class MpiBootstrap final : public Bootstrap {
 public:
  // See MakeMpiBootstrap.
  explicit MpiBootstrap(const BootstrapOptions& options);
  // While an exception unwinds, or after a call has failed, MPI is not finalised: that would wait
  // for ranks that may be gone.
  ~MpiBootstrap() override;

  int rank() const override;
  int world() const override;
  int local_rank() const override { return local_rank_; }
  int local_world() const override { return local_world_; }
  int job_rank(int rank) const override { return job_ranks_[static_cast<size_t>(rank)]; }
  std::unique_ptr<Bootstrap> Split(int color) override;
  std::vector<Bytes> AllGather(const Bytes& mine) override;
  Bytes Broadcast(const Bytes& mine, int root) override;
  void Barrier() override;
  [[noreturn]] void Abort(int exit_code, std::string_view why) override;
  // Another way between the same ranks. Collective.
  std::unique_ptr<Transport> MakeTransport(std::chrono::milliseconds timeout) const;

 private:
  // A part of another's ranks.
  MpiBootstrap(const BootstrapOptions& options, std::unique_ptr<MpiTransport> transport,
               std::vector<int> job_ranks);
  void FindLocalRanks();
  // One exchange of the operation, whose errors get its name.
  void Exchange(std::string_view operation, std::vector<Message> sends,
                std::vector<Message> receives);

  const BootstrapOptions options_;
  const int exceptions_at_start_;
  bool owns_mpi_ = false;
  bool failed_ = false;
  int local_rank_ = 0;
  int local_world_ = 1;
  int64_t sequence_ = 0;
  std::vector<int> job_ranks_;
  std::unique_ptr<MpiTransport> transport_;
};

}  // namespace hearth
