#include "comm/tcp/tcp_transport.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "kernels/core/check.h"

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

// Of a connection whose socket is there but leads nowhere.
constexpr std::chrono::milliseconds kConnectTimeout{10'000};
// More than mpirun takes to tell of a rank that died.
constexpr std::chrono::milliseconds kEndedGrace{10'000};

std::vector<int> JobRanks(const Bootstrap& bootstrap) {
  std::vector<int> ranks;
  for (int rank = 0; rank < bootstrap.world(); ++rank) ranks.push_back(bootstrap.job_rank(rank));
  return ranks;
}

// A call of the kernel for what is left of a message behind its header, of which `done` bytes have
// moved. Header and bytes must outlive it.
class Remainder {
 public:
  Remainder(std::span<std::byte> header, const Message& message, int64_t done) {
    const auto of_header = std::min(static_cast<size_t>(done), header.size());
    const int64_t of_data = done - static_cast<int64_t>(of_header);
    parts_[0] = {.iov_base = header.data() + of_header, .iov_len = header.size() - of_header};
    parts_[1] = {.iov_base = message.data + of_data,
                 .iov_len = static_cast<size_t>(message.bytes - of_data)};
    call_.msg_iov = parts_.data();
    call_.msg_iovlen = parts_.size();
  }
  Remainder(const Remainder&) = delete;
  Remainder& operator=(const Remainder&) = delete;
  msghdr* call() { return &call_; }

 private:
  std::array<iovec, 2> parts_{};
  msghdr call_{};
};

}  // namespace

// Half of the time to connect: a rank that is refused at once waits in the bootstrap, whose
// patience is the same, for those that are still waiting here.
TcpTransport::TcpTransport(Bootstrap& bootstrap, const std::string& interface,
                           std::chrono::milliseconds timeout)
    : TcpTransport(bootstrap,
                   bootstrap.world() == 1
                       ? TcpMesh{.sockets = std::vector<Socket>(1), .network = ""}
                       : ConnectMesh(bootstrap, interface, std::min(kConnectTimeout, timeout / 2)),
                   timeout) {}

TcpTransport::TcpTransport(const Bootstrap& bootstrap, TcpMesh mesh,
                           std::chrono::milliseconds timeout)
    : timeout_(timeout),
      rank_(bootstrap.rank()),
      job_ranks_(JobRanks(bootstrap)),
      peers_(mesh.sockets.size()),
      network_(std::move(mesh.network)),
      wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (!wake_) throw CommError(Format("eventfd: {}", SystemErrorText(errno)));
  CHECK(std::ssize(peers_) == bootstrap.world(), "{} connections for {} ranks", peers_.size(),
        bootstrap.world());
  for (size_t i = 0; i < peers_.size(); ++i) peers_[i].socket = std::move(mesh.sockets[i]);
}

void TcpTransport::Cancel() noexcept {
  cancelled_ = true;
  const uint64_t one = 1;
  // It fails only where the counter is full, and then it wakes as well.
  static_cast<void>(write(wake_.descriptor(), &one, sizeof(one)));
}

void TcpTransport::Exchange(const ExchangeArgs& args) {
  Begin(args);
  Deadline deadline = Clock::now() + timeout_;
  Deadline last = Deadline::max();  // once a connection has ended
  bool late = false;
  while (!Finished()) {
    if (cancelled_) throw CommError("the communicator ended while it was in flight");
    bool moved = false;
    bool ended = false;
    for (int rank = 0; rank < world(); ++rank) {
      Peer& peer = peers_[static_cast<size_t>(rank)];
      if (!peer.open() || peer.ended) continue;
      moved |= Send(peer, args.sequence);
      moved |= Receive(rank, args.sequence);
      ended |= peer.ended;
    }
    if (ended) last = std::min(last, Clock::now() + Clock::duration(kEndedGrace));
    if (moved) {
      deadline = Clock::now() + timeout_;
      late = false;
      continue;
    }
    if (late) FailSilent();
    // Once more behind the deadline: a process that was stopped meanwhile finds what has come.
    late = !Await(std::min(deadline, last));
  }
}

void TcpTransport::Begin(const ExchangeArgs& args) {
  for (Peer& peer : peers_) peer.in = peer.out = {};
  for (const Message& send : args.sends) {
    if (send.bytes > 0) peers_[static_cast<size_t>(send.peer)].out.messages.push_back(send);
  }
  for (const Message& receive : args.receives) {
    if (receive.bytes > 0) peers_[static_cast<size_t>(receive.peer)].in.messages.push_back(receive);
  }
}

bool TcpTransport::Finished() const {
  return std::none_of(peers_.begin(), peers_.end(), [](const Peer& peer) { return peer.open(); });
}

int64_t TcpTransport::Moved(Peer& peer, ssize_t result, bool end_of_file) const {
  if (result > 0) return result;
  const bool waits = result < 0 && (errno == EAGAIN || errno == EINTR);
  if (!waits && (result < 0 || end_of_file)) peer.ended = true;
  return 0;
}

bool TcpTransport::Send(Peer& peer, int64_t sequence) {
  Lane& lane = peer.out;
  if (!lane.open()) return false;
  const Message& message = lane.messages[lane.index];
  Header header{.sequence = sequence, .bytes = message.bytes};
  Remainder rest(std::as_writable_bytes(std::span(&header, 1)), message, lane.done);
  const int64_t sent = Moved(peer, sendmsg(peer.socket.descriptor(), rest.call(), MSG_NOSIGNAL),
                             /*end_of_file=*/false);
  lane.Advance(sent);
  return sent > 0;
}

bool TcpTransport::Receive(int rank, int64_t sequence) {
  Peer& peer = peers_[static_cast<size_t>(rank)];
  Lane& lane = peer.in;
  if (!lane.open() || peer.ended) return false;
  const Message& message = lane.messages[lane.index];
  const bool has_header = lane.done >= kHeaderBytes;
  // What follows the header is read with it: nothing else can come before the message's end.
  Remainder rest(std::as_writable_bytes(std::span(&lane.header, 1)), message, lane.done);
  const int64_t received =
      Moved(peer, recvmsg(peer.socket.descriptor(), rest.call(), 0), /*end_of_file=*/true);
  if (!has_header && lane.done + received >= kHeaderBytes) CheckHeader(rank, sequence);
  lane.Advance(received);
  return received > 0;
}

void TcpTransport::CheckHeader(int rank, int64_t sequence) const {
  const auto index = static_cast<size_t>(rank);
  const Lane& lane = peers_[index].in;
  const int64_t bytes = lane.messages[lane.index].bytes;
  if (lane.header.sequence != sequence) {
    throw CommError(Format("rank {} is at number {} instead of {}", job_ranks_[index],
                           lane.header.sequence, sequence));
  }
  if (lane.header.bytes != bytes) {
    throw CommError(
        Format("rank {} sent {} bytes instead of {}", job_ranks_[index], lane.header.bytes, bytes));
  }
}

bool TcpTransport::Await(Deadline deadline) const {
  std::vector<pollfd> entries{{.fd = wake_.descriptor(), .events = POLLIN, .revents = 0}};
  for (const Peer& peer : peers_) {
    if (!peer.open() || peer.ended) continue;
    const int events = (peer.in.open() ? POLLIN : 0) | (peer.out.open() ? POLLOUT : 0);
    entries.push_back(
        {.fd = peer.socket.descriptor(), .events = static_cast<short>(events), .revents = 0});
  }
  return AwaitEvents(entries, deadline) && Clock::now() < deadline;
}

void TcpTransport::FailSilent() const {
  std::set<int> ended;
  std::set<int> silent;
  for (size_t i = 0; i < peers_.size(); ++i) {
    if (!peers_[i].open()) continue;
    (peers_[i].ended ? ended : silent).insert(job_ranks_[i]);
  }
  if (ended.empty()) throw NoAnswer(silent, timeout_);
  throw CommError(Format("the connection to {} has ended", RankList(ended)));
}

}  // namespace hearth
