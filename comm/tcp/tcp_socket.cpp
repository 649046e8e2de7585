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

Socket NewSocket() {
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) Fail("socket");
  return socket;
}

void SendAtOnce(const Socket& socket) {
  const int yes = 1;
  if (setsockopt(socket.descriptor(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) != 0) {
    Fail("TCP_NODELAY");
  }
}

sockaddr_in SocketAddress(uint32_t address, uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_addr.s_addr = htonl(address);
  result.sin_port = htons(port);
  return result;
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

std::string AddressText(uint32_t address) {
  std::array<char, INET_ADDRSTRLEN> text{};
  const in_addr network{.s_addr = htonl(address)};
  inet_ntop(AF_INET, &network, text.data(), text.size());
  return text.data();
}

std::vector<HostAddress> HostAddresses(const std::string& device) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, freeifaddrs);
  std::vector<HostAddress> found;
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_netmask == nullptr ||
        at->ifa_addr->sa_family != AF_INET || (at->ifa_flags & IFF_UP) == 0) {
      continue;
    }
    const bool wanted =
        device.empty() ? (at->ifa_flags & IFF_LOOPBACK) == 0 : at->ifa_name == device;
    if (!wanted) continue;
    const auto number = [](const sockaddr* address) {
      return ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr);
    };
    found.push_back({at->ifa_name, number(at->ifa_addr), number(at->ifa_netmask)});
  }
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

Socket Listen(uint32_t address) {
  Socket listener = NewSocket();
  const sockaddr_in place = SocketAddress(address, 0);
  if (bind(listener.descriptor(), reinterpret_cast<const sockaddr*>(&place), sizeof(place)) != 0 ||
      listen(listener.descriptor(), SOMAXCONN) != 0) {
    Fail("listening on " + AddressText(address));
  }
  return listener;
}

uint16_t PortOf(const Socket& listener) {
  sockaddr_in place{};
  socklen_t size = sizeof(place);
  if (getsockname(listener.descriptor(), reinterpret_cast<sockaddr*>(&place), &size) != 0) {
    Fail("getsockname");
  }
  return ntohs(place.sin_port);
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

Socket Connect(uint32_t address, uint16_t port, Deadline deadline) {
  Socket socket = NewSocket();
  SendAtOnce(socket);
  const sockaddr_in place = SocketAddress(address, port);
  int error = 0;
  if (connect(socket.descriptor(), reinterpret_cast<const sockaddr*>(&place), sizeof(place)) != 0) {
    error = errno;
  }
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
