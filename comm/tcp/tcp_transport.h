// Messages over connections of our own, one between each two ranks.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "comm/api/transport.h"
#include "comm/tcp/tcp_mesh.h"

namespace hearth {

// The kernel moves the bytes, in both directions at once, also while this thread waits for a
// processor: the thread sleeps until a socket has room or something to read. A message has "left"
// when the kernel has its bytes. A connection that ends is like a silent rank, but only for a few
// seconds: time for who watches the job to say why.
class TcpTransport final : public Transport {
 public:
  // Collective over the ranks of the bootstrap; errors as of ConnectMesh.
  TcpTransport(Bootstrap& bootstrap, const std::string& interface,
               std::chrono::milliseconds timeout);
  // By connections that are there.
  TcpTransport(const Bootstrap& bootstrap, TcpMesh mesh, std::chrono::milliseconds timeout);

  int rank() const override { return rank_; }
  int world() const override { return static_cast<int>(peers_.size()); }
  void Exchange(const ExchangeArgs& args) override;
  void Cancel() noexcept override;
  // In words: "eth0 (10.77.0.1)".
  const std::string& network() const { return network_; }

 private:
  // Goes before each message.
  struct Header {
    int64_t sequence = 0;
    int64_t bytes = 0;
  };
  static constexpr int64_t kHeaderBytes = sizeof(Header);
  // One direction of a connection during an exchange.
  struct Lane {
    std::vector<Message> messages;
    size_t index = 0;  // of the message under way
    int64_t done = 0;  // bytes of it, its header included
    Header header;     // as far as it has been received
    bool open() const { return index < messages.size(); }
    void Advance(int64_t bytes) {
      done += bytes;
      if (done < kHeaderBytes + messages[index].bytes) return;
      ++index;
      done = 0;
    }
  };
  struct Peer {
    Socket socket;
    Lane out;
    Lane in;
    bool ended = false;
    bool open() const { return in.open() || out.open(); }
  };

  void Begin(const ExchangeArgs& args);
  bool Finished() const;
  // Sends or receives what can be without waiting; true when something moved.
  bool Send(Peer& peer, int64_t sequence);
  bool Receive(int rank, int64_t sequence);
  void CheckHeader(int rank, int64_t sequence) const;
  // The result of a call of the kernel; 0 when it would have to wait, or the other side has ended.
  int64_t Moved(Peer& peer, ssize_t result, bool end_of_file) const;
  // Until a socket is ready; false when the deadline is over.
  bool Await(Deadline deadline) const;
  [[noreturn]] void FailSilent() const;

  const std::chrono::milliseconds timeout_;
  const int rank_;
  std::vector<int> job_ranks_;
  std::vector<Peer> peers_;  // by rank
  std::string network_;
  Socket wake_;  // an event counter that ends waits
  std::atomic<bool> cancelled_{false};
};

}  // namespace hearth
