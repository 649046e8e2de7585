// Messages between the processes of an MPI job.
#pragma once

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <string_view>
#include <vector>

#include "comm/api/transport.h"

namespace hearth {

// CommError naming the call when an MPI call did not succeed.
void CheckMpi(int result, std::string_view call);

// Its messages never meet those of another transport. All calls of MPI are non-blocking and polled.
class MpiTransport final : public Transport {
 public:
  // Collective over the processes of `parent`, of a job that has MPI_THREAD_MULTIPLE. Rank r is
  // job_ranks[r] in messages.
  MpiTransport(MPI_Comm parent, std::chrono::milliseconds timeout, std::vector<int> job_ranks);
  // After a failure and while an exception unwinds, MPI keeps what it has: freeing it may wait for
  // ranks that are gone.
  ~MpiTransport() override;

  int rank() const override { return rank_; }
  int world() const override { return world_; }
  void Exchange(const ExchangeArgs& args) override;
  void Cancel() noexcept override { cancelled_ = true; }
  // To make others from; its messages stay its own.
  MPI_Comm communicator() const { return communicator_; }

 private:
  // The messages of one Exchange; request i carries messages[i].
  struct Pending {
    std::vector<MPI_Request> requests;
    std::vector<Message> messages;
    size_t receives = 0;  // the first requests are receives
  };

  void Post(const ExchangeArgs& args, Pending& pending);
  void PollUntilDone(Pending& pending);
  // Ends what has moved; returns how many messages.
  int Test(Pending& pending);
  void CheckStatus(const Pending& pending, size_t index, const MPI_Status& status) const;

  int NameOf(int rank) const { return job_ranks_[static_cast<size_t>(rank)]; }

  const std::chrono::milliseconds timeout_;
  const std::vector<int> job_ranks_;
  const int exceptions_at_start_;
  MPI_Comm communicator_ = MPI_COMM_NULL;
  int rank_ = 0;
  int world_ = 1;
  bool failed_ = false;
  std::atomic<bool> cancelled_{false};
};

}  // namespace hearth
