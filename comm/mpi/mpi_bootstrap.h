// The ranks of an MPI job. Owns the life of MPI in this process.
#pragma once

#include <memory>
#include <vector>

#include "comm/api/bootstrap.h"
#include "comm/api/transport.h"

namespace hearth {

class MpiBootstrap final : public Bootstrap {
 public:
  // See MakeMpiBootstrap.
  explicit MpiBootstrap(const BootstrapOptions& options);
  // While an exception unwinds, or after a call has failed, MPI is not finalised: that would wait
  // for ranks that may be gone.
  ~MpiBootstrap() override;

  int rank() const override { return transport_->rank(); }
  int world() const override { return transport_->world(); }
  int local_rank() const override { return local_rank_; }
  int local_world() const override { return local_world_; }
  std::vector<Bytes> AllGather(const Bytes& mine) override;
  Bytes Broadcast(const Bytes& mine, int root) override;
  void Barrier() override;
  [[noreturn]] void Abort(int exit_code, std::string_view why) override;

 private:
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
  std::unique_ptr<Transport> transport_;
};

}  // namespace hearth
