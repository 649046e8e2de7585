#include "comm/mpi/mpi_bootstrap.h"

#include <mpi.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <numeric>
#include <utility>

#include "comm/mpi/mpi_transport.h"
#include "comm/mpi/patience.h"
#include "kernels/core/check.h"

namespace hearth {

namespace {

// The job's exit code for a rank that died or hung.
constexpr int kExitRankLost = 4;
// MPI_Abort normally ends the process within a second.
constexpr std::chrono::seconds kAbortTimeout{10};

Message SizeMessage(int peer, int64_t& size) {
  return {.peer = peer, .data = reinterpret_cast<std::byte*>(&size), .bytes = sizeof(size)};
}

void AddPayload(std::vector<Message>& messages, int peer, Bytes& bytes) {
  if (bytes.empty()) return;
  messages.push_back({.peer = peer, .data = bytes.data(), .bytes = std::ssize(bytes)});
}

}  // namespace

MpiBootstrap::MpiBootstrap(const BootstrapOptions& options)
    : options_(options), exceptions_at_start_(std::uncaught_exceptions()) {
  ExitAfter guard(options.init_timeout, kExitRankLost,
                  Format("MPI did not start within {} ms: a rank or its host does not answer",
                         options.init_timeout.count()));
  int initialized = 0;
  CheckMpi(MPI_Initialized(&initialized), "MPI_Initialized");
  int level = MPI_THREAD_SINGLE;
  if (initialized) {
    CheckMpi(MPI_Query_thread(&level), "MPI_Query_thread");
  } else {
    CheckMpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level), "MPI_Init_thread");
    owns_mpi_ = true;
  }
  if (level < MPI_THREAD_MULTIPLE) throw CommError("this MPI library allows only one thread");
  int ranks = 0;
  CheckMpi(MPI_Comm_size(MPI_COMM_WORLD, &ranks), "MPI_Comm_size");
  job_ranks_.resize(static_cast<size_t>(ranks));
  std::iota(job_ranks_.begin(), job_ranks_.end(), 0);
  transport_ =
      std::make_unique<MpiTransport>(MPI_COMM_WORLD, options.collective_timeout, job_ranks_);
  FindLocalRanks();
}

MpiBootstrap::MpiBootstrap(const BootstrapOptions& options, std::unique_ptr<MpiTransport> transport,
                           std::vector<int> job_ranks)
    : options_(options),
      exceptions_at_start_(std::uncaught_exceptions()),
      job_ranks_(std::move(job_ranks)),
      transport_(std::move(transport)) {
  FindLocalRanks();
}

int MpiBootstrap::rank() const { return transport_->rank(); }
int MpiBootstrap::world() const { return transport_->world(); }

std::unique_ptr<Transport> MpiBootstrap::MakeTransport(std::chrono::milliseconds timeout) const {
  return std::make_unique<MpiTransport>(transport_->communicator(), timeout, job_ranks_);
}

std::unique_ptr<Bootstrap> MpiBootstrap::Split(int color) {
  ExitAfter guard(options_.init_timeout, kExitRankLost,
                  Format("rank {}: the ranks did not divide into groups within {} ms",
                         job_rank(rank()), options_.init_timeout.count()));
  Bytes mine(sizeof(color));
  std::memcpy(mine.data(), &color, sizeof(color));
  std::vector<int> members;
  const std::vector<Bytes> colors = AllGather(mine);
  for (int other = 0; other < world(); ++other) {
    if (colors[static_cast<size_t>(other)] == mine) members.push_back(job_rank(other));
  }
  MPI_Comm part = MPI_COMM_NULL;
  CheckMpi(MPI_Comm_split(transport_->communicator(), color, rank(), &part), "MPI_Comm_split");
  auto transport = std::make_unique<MpiTransport>(part, options_.collective_timeout, members);
  CheckMpi(MPI_Comm_free(&part), "MPI_Comm_free");
  return std::unique_ptr<Bootstrap>(
      new MpiBootstrap(options_, std::move(transport), std::move(members)));
}

void MpiBootstrap::FindLocalRanks() {
  MPI_Comm host = MPI_COMM_NULL;
  CheckMpi(MPI_Comm_split_type(transport_->communicator(), MPI_COMM_TYPE_SHARED, rank(),
                               MPI_INFO_NULL, &host),
           "MPI_Comm_split_type");
  CheckMpi(MPI_Comm_rank(host, &local_rank_), "MPI_Comm_rank");
  CheckMpi(MPI_Comm_size(host, &local_world_), "MPI_Comm_size");
  CheckMpi(MPI_Comm_free(&host), "MPI_Comm_free");
}

MpiBootstrap::~MpiBootstrap() {
  if (failed_ || std::uncaught_exceptions() > exceptions_at_start_) return;
  // Ranks end at different times (one may still export), as they start at different times.
  ExitAfter guard(options_.init_timeout, kExitRankLost,
                  Format("rank {}: MPI did not end within {} ms: another rank does not come to "
                         "the end",
                         job_rank(rank()), options_.init_timeout.count()));
  transport_.reset();
  if (owns_mpi_) MPI_Finalize();
}

void MpiBootstrap::Exchange(std::string_view operation, std::vector<Message> sends,
                            std::vector<Message> receives) {
  try {
    transport_->Exchange(
        {.sequence = ++sequence_, .sends = std::move(sends), .receives = std::move(receives)});
  } catch (const CommError& error) {
    failed_ = true;
    throw CommError(Format("{} of the hosts: {}", operation, error.what()));
  }
}

std::vector<Bytes> MpiBootstrap::AllGather(const Bytes& mine) {
  const auto ranks = static_cast<size_t>(world());
  std::vector<Bytes> all(ranks);
  std::vector<int64_t> sizes(ranks, 0);
  const auto self = static_cast<size_t>(rank());
  all[self] = mine;
  sizes[self] = std::ssize(mine);

  std::vector<Message> sends;
  std::vector<Message> receives;
  for (int peer = 0; peer < world(); ++peer) {
    if (peer == rank()) continue;
    sends.push_back(SizeMessage(peer, sizes[self]));
    receives.push_back(SizeMessage(peer, sizes[static_cast<size_t>(peer)]));
  }
  Exchange("all-gather", std::move(sends), std::move(receives));

  sends.clear();
  receives.clear();
  for (int peer = 0; peer < world(); ++peer) {
    if (peer == rank()) continue;
    const auto index = static_cast<size_t>(peer);
    all[index].resize(static_cast<size_t>(sizes[index]));
    AddPayload(sends, peer, all[self]);
    AddPayload(receives, peer, all[index]);
  }
  Exchange("all-gather", std::move(sends), std::move(receives));
  return all;
}

Bytes MpiBootstrap::Broadcast(const Bytes& mine, int root) {
  CHECK(root >= 0 && root < world(), "broadcast from rank {} of {}", root, world());
  Bytes bytes = rank() == root ? mine : Bytes();
  int64_t size = std::ssize(bytes);
  if (rank() != root) {
    Exchange("broadcast", {}, {SizeMessage(root, size)});
    bytes.resize(static_cast<size_t>(size));
    std::vector<Message> receives;
    AddPayload(receives, root, bytes);
    Exchange("broadcast", {}, std::move(receives));
    return bytes;
  }
  std::vector<Message> sizes;
  std::vector<Message> payloads;
  for (int peer = 0; peer < world(); ++peer) {
    if (peer == rank()) continue;
    sizes.push_back(SizeMessage(peer, size));
    AddPayload(payloads, peer, bytes);
  }
  Exchange("broadcast", std::move(sizes), {});
  Exchange("broadcast", std::move(payloads), {});
  return bytes;
}

void MpiBootstrap::Barrier() { AllGather({}); }

void MpiBootstrap::Abort(int exit_code, std::string_view why) {
  std::fprintf(stderr, "hearth: rank %d: %.*s\n", job_rank(rank()), static_cast<int>(why.size()),
               why.data());
  std::fflush(stderr);
  ExitAfter guard(kAbortTimeout, exit_code, "MPI_Abort did not end the process");
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  _exit(exit_code);
}

}  // namespace hearth
