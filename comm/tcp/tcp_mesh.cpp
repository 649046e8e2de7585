#include "comm/tcp/tcp_mesh.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <iterator>
#include <set>
#include <span>
#include <utility>

#include "comm/api/gather_texts.h"
#include "kernels/core/check.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

// Who may be connected without having said who they are; beyond, the first of them have to go.
constexpr size_t kMostCallers = 256;

// What a rank can be reached by; the same fields in every process of the job.
struct Place {
  IpAddress address;
  IpAddress mask;

  bool IsIn(const Place& other) const {
    if (address.version != other.address.version || mask != other.mask) return false;
    for (size_t i = 0; i < mask.bytes.size(); ++i) {
      if (((address.bytes[i] ^ other.address.bytes[i]) & mask.bytes[i]) != 0) return false;
    }
    return true;
  }
};

// The caller shows the first half of the token, the called the second one.
using HalfToken = std::array<std::byte, 16>;
struct Token {
  HalfToken caller{};
  HalfToken called{};
};
struct Hello {
  HalfToken token{};
  int32_t rank = 0;
};

template <typename T>
Bytes Packed(const T& value) {
  Bytes bytes(sizeof(T));
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

template <typename T>
T Unpacked(const Bytes& bytes) {
  T value{};
  CHECK(bytes.size() == sizeof(T), "{} bytes for {}", bytes.size(), sizeof(T));
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

template <typename T>
std::span<std::byte> BytesOf(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

Token ShareToken(Bootstrap& bootstrap) {
  Token token;
  if (bootstrap.rank() == 0) {
    CHECK(getrandom(&token, sizeof(token), 0) == ssize_t{sizeof(token)}, "no random bytes");
  }
  return Unpacked<Token>(bootstrap.Broadcast(Packed(token), 0));
}

// By rank, the addresses of each.
std::vector<std::vector<Place>> GatherPlaces(Bootstrap& bootstrap,
                                             const std::vector<HostAddress>& mine) {
  Bytes bytes;
  for (const HostAddress& one : mine) {
    const Bytes place = Packed(Place{.address = one.address, .mask = one.mask});
    bytes.insert(bytes.end(), place.begin(), place.end());
  }
  std::vector<std::vector<Place>> all;
  for (const Bytes& theirs : bootstrap.AllGather(bytes)) {
    std::vector<Place> places(theirs.size() / sizeof(Place));
    if (!places.empty()) std::memcpy(places.data(), theirs.data(), theirs.size());
    all.push_back(std::move(places));
  }
  return all;
}

// One address per rank.
using Network = std::vector<IpAddress>;

// The first address of each rank in the network of `first`, or where the device was named any of
// its version. Empty when a rank has none or, unless the device was named, when two have the same:
// those of a bridge that leads nowhere.
Network NetworkOf(const Place& first, const std::vector<std::vector<Place>>& all, bool named) {
  Network network;
  for (const std::vector<Place>& places : all) {
    auto found = std::find_if(places.begin(), places.end(),
                              [&](const Place& place) { return place.IsIn(first); });
    if (named && found == places.end()) {
      found = std::find_if(places.begin(), places.end(), [&](const Place& place) {
        return place.address.version == first.address.version;
      });
    }
    if (found == places.end()) return {};
    network.push_back(found->address);
  }
  const std::set<IpAddress> different(network.begin(), network.end());
  if (!named && different.size() < network.size()) return {};
  return network;
}

class Attempt {
 public:
  Attempt(Bootstrap& bootstrap, const Token& token, const Network& network,
          std::chrono::milliseconds timeout)
      : bootstrap_(bootstrap),
        token_(token),
        network_(network),
        timeout_(timeout),
        sockets_(network.size()) {}

  // What went wrong here; "". The ranks are connected where nothing did anywhere.
  std::string Run() {
    std::string problem;
    uint16_t port = 0;
    Socket listener;
    try {
      listener = Listen(network_[static_cast<size_t>(bootstrap_.rank())]);
      port = PortOf(listener);
    } catch (const UnreachableError& error) {
      problem = error.what();
    }
    std::vector<uint16_t> ports;
    for (const Bytes& theirs : bootstrap_.AllGather(Packed(port))) {
      ports.push_back(Unpacked<uint16_t>(theirs));
    }
    // Somebody cannot listen, and says so; nobody calls then.
    if (std::count(ports.begin(), ports.end(), 0) > 0) return problem;
    try {
      Meet(listener, ports);
    } catch (const UnreachableError& error) {
      problem = error.what();
    }
    return problem;
  }

  std::vector<Socket> TakeSockets() { return std::move(sockets_); }

 private:
  // Everybody calls the ranks before it and is called by those behind. The calls are short enough
  // to wait with the kernel, so nobody waits for an answer before it has called all.
  void Meet(const Socket& listener, const std::vector<uint16_t>& ports) {
    const Deadline deadline = std::chrono::steady_clock::now() + timeout_;
    const int rank = bootstrap_.rank();
    Hello hello{.token = token_.caller, .rank = rank};
    for (int peer = 0; peer < rank; ++peer) {
      const auto index = static_cast<size_t>(peer);
      sockets_[index] = Connect(network_[index], ports[index], deadline);
      SendAll(sockets_[index], BytesOf(hello), deadline);
    }
    Answer(listener, deadline);
    for (int peer = 0; peer < rank; ++peer) {
      HalfToken answer{};
      const Socket& socket = sockets_[static_cast<size_t>(peer)];
      if (ReceiveAll(socket, BytesOf(answer), deadline) && answer == token_.called) continue;
      throw UnreachableError(Format("rank {} does not answer at {}", bootstrap_.job_rank(peer),
                                    AddressText(network_[static_cast<size_t>(peer)])));
    }
  }

  // A connection that has not yet said all of who it is.
  struct Caller {
    Socket socket;
    Hello hello = {};
    size_t received = 0;
  };

  // All at once: whoever calls and is silent keeps nobody else waiting.
  void Answer(const Socket& listener, Deadline deadline) {
    const int rank = bootstrap_.rank();
    std::deque<Caller> callers;
    for (int missing = bootstrap_.world() - 1 - rank; missing > 0;) {
      std::vector<pollfd> entries{{.fd = listener.descriptor(), .events = POLLIN, .revents = 0}};
      for (const Caller& caller : callers) {
        entries.push_back({.fd = caller.socket.descriptor(), .events = POLLIN, .revents = 0});
      }
      if (!AwaitEvents(entries, deadline) || std::chrono::steady_clock::now() >= deadline) {
        throw UnreachableError(Format("{} of the ranks behind {} did not call at {}", missing,
                                      bootstrap_.job_rank(rank),
                                      AddressText(network_[static_cast<size_t>(rank)])));
      }
      if (Socket socket = Accept(listener)) callers.push_back({.socket = std::move(socket)});
      if (callers.size() > kMostCallers) callers.pop_front();
      for (auto caller = callers.begin(); caller != callers.end();) {
        const bool waits = Hear(*caller);
        if (!waits && Admit(*caller, deadline)) --missing;
        caller = waits ? std::next(caller) : callers.erase(caller);
      }
    }
  }

  // Whether more has to come.
  static bool Hear(Caller& caller) {
    const int64_t received =
        ReceiveSome(caller.socket, BytesOf(caller.hello).subspan(caller.received));
    if (received > 0) caller.received += static_cast<size_t>(received);
    return received >= 0 && caller.received < sizeof(Hello);
  }

  // Keeps the connection of a rank that was missing.
  bool Admit(Caller& caller, Deadline deadline) {
    const Hello& hello = caller.hello;
    if (caller.received < sizeof(Hello) || hello.token != token_.caller ||
        hello.rank <= bootstrap_.rank() || hello.rank >= bootstrap_.world()) {
      return false;
    }
    Socket& place = sockets_[static_cast<size_t>(hello.rank)];
    if (place) return false;
    HalfToken answer = token_.called;
    SendAll(caller.socket, BytesOf(answer), deadline);
    place = std::move(caller.socket);
    return true;
  }

  Bootstrap& bootstrap_;
  const Token token_;
  const Network network_;
  const std::chrono::milliseconds timeout_;
  std::vector<Socket> sockets_;
};

// The problem of the last rank that has one; "". Collective. The last ones call the others, which
// know only that nobody came.
std::string AgreeOn(Bootstrap& bootstrap, const std::string& problem) {
  std::string last;
  for (const std::string& theirs : GatherTexts(bootstrap, problem)) {
    if (!theirs.empty()) last = theirs;
  }
  return last;
}

}  // namespace

TcpMesh ConnectMesh(Bootstrap& bootstrap, const std::string& interface,
                    std::chrono::milliseconds timeout) {
  const std::vector<HostAddress> own = HostAddresses(interface);
  const Token token = ShareToken(bootstrap);
  const std::vector<std::vector<Place>> all = GatherPlaces(bootstrap, own);
  std::string tried;
  // In the order of the first rank's devices, so that all ranks try the same.
  for (const Place& first : all.front()) {
    const Network network = NetworkOf(first, all, !interface.empty());
    if (network.empty()) continue;
    Attempt attempt(bootstrap, token, network, timeout);
    const std::string problem = AgreeOn(bootstrap, attempt.Run());
    const IpAddress mine = network[static_cast<size_t>(bootstrap.rank())];
    if (problem.empty()) {
      const auto device = std::find_if(own.begin(), own.end(),
                                       [&](const HostAddress& one) { return one.address == mine; });
      return {.sockets = attempt.TakeSockets(),
              .network = Format("{} ({})", device->device, AddressText(mine))};
    }
    tried += (tried.empty() ? "" : "; ") + problem;
    if (!interface.empty()) break;
  }
  if (!tried.empty()) throw UnreachableError(tried);
  throw UnreachableError(interface.empty()
                             ? "the ranks have no network in common"
                             : Format("not all ranks have an address on {} (IPv6's of a link "
                                      "alone, fe80::, do not count)",
                                      interface));
}

}  // namespace hearth
