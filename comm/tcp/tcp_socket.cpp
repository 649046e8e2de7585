#include "comm/tcp/tcp_socket.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

// What the network, or who watches over it, answers; all else is this program's doing or what its
// host has left.
constexpr std::array kNetworkErrors{
    EACCES,       EADDRINUSE, EADDRNOTAVAIL, ECONNABORTED, ECONNREFUSED, ECONNRESET, EHOSTDOWN,
    EHOSTUNREACH, ENETDOWN,   ENETUNREACH,   EPERM,        EPIPE,        ETIMEDOUT,
};

[[noreturn]] void Fail(const std::string& what, int error = errno) {
  const std::string text = Format("{}: {}", what, SystemErrorText(error));
  if (std::find(kNetworkErrors.begin(), kNetworkErrors.end(), error) != kNetworkErrors.end()) {
    throw UnreachableError(text);
  }
  throw CommError(text);
}

int Family(const IpAddress& address) { return address.version == 6 ? AF_INET6 : AF_INET; }

Socket NewSocket(const IpAddress& address) {
  Socket socket(::socket(Family(address), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) Fail("socket");
  return socket;
}

void SendAtOnce(const Socket& socket) {
  const int yes = 1;
  if (setsockopt(socket.descriptor(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) != 0) {
    Fail("TCP_NODELAY");
  }
}

struct SocketAddress {
  SocketAddress() = default;
  SocketAddress(const IpAddress& address, uint16_t port) {
    if (address.version == 6) {
      sockaddr_in6 place{};
      place.sin6_family = AF_INET6;
      std::memcpy(&place.sin6_addr, address.bytes.data(), sizeof(place.sin6_addr));
      place.sin6_port = htons(port);
      Set(place);
    } else {
      sockaddr_in place{};
      place.sin_family = AF_INET;
      std::memcpy(&place.sin_addr, address.bytes.data(), sizeof(place.sin_addr));
      place.sin_port = htons(port);
      Set(place);
    }
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }

  sockaddr_storage storage{};
  socklen_t bytes = sizeof(storage);

 private:
  template <typename Place>
  void Set(const Place& place) {
    std::memcpy(&storage, &place, sizeof(place));
    bytes = sizeof(place);
  }
};

// Of an address or a mask of this family.
IpAddress FromSystem(int family, const sockaddr* address) {
  if (family == AF_INET6) {
    IpAddress result{.version = 6};
    std::memcpy(result.bytes.data(), &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr,
                sizeof(in6_addr));
    return result;
  }
  IpAddress result{.version = 4};
  std::memcpy(result.bytes.data(), &reinterpret_cast<const sockaddr_in*>(address)->sin_addr,
              sizeof(in_addr));
  return result;
}

bool IsOfALinkAlone(const IpAddress& address) {
  return address.version == 6 && address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
}

int MillisecondsUntil(Deadline deadline) {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1'000'000));
}

bool AwaitEvent(const Socket& socket, short events, Deadline deadline) {
  pollfd entry{.fd = socket.descriptor(), .events = events, .revents = 0};
  return AwaitEvents(std::span(&entry, 1), deadline);
}

}  // namespace

std::string SystemErrorText(int error) { return std::system_category().message(error); }

std::string AddressText(const IpAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(Family(address), address.bytes.data(), text.data(), text.size());
  return text.data();
}

std::vector<HostAddress> HostAddresses(const std::string& device) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, freeifaddrs);
  std::vector<HostAddress> found;
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_netmask == nullptr || (at->ifa_flags & IFF_UP) == 0) {
      continue;
    }
    const int family = at->ifa_addr->sa_family;
    const bool wanted =
        device.empty() ? (at->ifa_flags & IFF_LOOPBACK) == 0 : at->ifa_name == device;
    if (!wanted || (family != AF_INET && family != AF_INET6)) continue;
    HostAddress address{.device = at->ifa_name,
                        .address = FromSystem(family, at->ifa_addr),
                        .mask = FromSystem(family, at->ifa_netmask)};
    if (!IsOfALinkAlone(address.address)) found.push_back(std::move(address));
  }
  std::stable_sort(found.begin(), found.end(), [](const HostAddress& a, const HostAddress& b) {
    return a.address.version < b.address.version;
  });
  return found;
}

Socket::Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Socket::~Socket() {
  if (descriptor_ >= 0) close(descriptor_);
}

bool AwaitEvents(std::span<pollfd> entries, Deadline deadline) {
  while (true) {
    const int ready = poll(entries.data(), entries.size(), MillisecondsUntil(deadline));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) Fail("poll");
    if (std::chrono::steady_clock::now() >= deadline) return false;
  }
}

Socket Listen(const IpAddress& address) {
  Socket listener = NewSocket(address);
  const SocketAddress place(address, 0);
  if (bind(listener.descriptor(), place.get(), place.bytes) != 0 ||
      listen(listener.descriptor(), SOMAXCONN) != 0) {
    Fail("listening on " + AddressText(address));
  }
  return listener;
}

uint16_t PortOf(const Socket& listener) {
  SocketAddress place;
  if (getsockname(listener.descriptor(), place.get(), &place.bytes) != 0) Fail("getsockname");
  // At the same place in both versions' addresses.
  static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
  return ntohs(reinterpret_cast<const sockaddr_in*>(place.get())->sin_port);
}

Socket Accept(const Socket& listener) {
  Socket socket(accept4(listener.descriptor(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket) {
    SendAtOnce(socket);
  } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
    Fail("accept");  // who called would wait on
  }
  return socket;  // empty also when who called has given up
}

Socket Connect(const IpAddress& address, uint16_t port, Deadline deadline) {
  Socket socket = NewSocket(address);
  SendAtOnce(socket);
  const SocketAddress place(address, port);
  int error = connect(socket.descriptor(), place.get(), place.bytes) != 0 ? errno : 0;
  if (error == EINPROGRESS) {
    error = ETIMEDOUT;
    if (AwaitEvent(socket, POLLOUT, deadline)) {
      socklen_t size = sizeof(error);
      if (getsockopt(socket.descriptor(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    }
  }
  if (error != 0) Fail("connecting to " + AddressText(address), error);
  return socket;
}

void SendAll(const Socket& socket, std::span<const std::byte> bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket.descriptor(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
    } else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      Fail("send");
    } else if (!AwaitEvent(socket, POLLOUT, deadline)) {
      throw UnreachableError("send: nobody receives");
    }
  }
}

int64_t ReceiveSome(const Socket& socket, std::span<std::byte> bytes) {
  while (true) {
    const ssize_t received = recv(socket.descriptor(), bytes.data(), bytes.size(), 0);
    if (received > 0) return received;
    if (received < 0 && errno == EAGAIN) return 0;
    if (received == 0 || errno != EINTR) return -1;
  }
}

bool ReceiveAll(const Socket& socket, std::span<std::byte> bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const int64_t received = ReceiveSome(socket, bytes);
    if (received < 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(received));
    if (received == 0 && !AwaitEvent(socket, POLLIN, deadline)) return false;
  }
  return true;
}

}  // namespace hearth
