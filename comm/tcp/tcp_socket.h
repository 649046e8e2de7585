// Sockets with deadlines, and the addresses of this host.
#pragma once

#include <poll.h>

#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/error.h"

namespace hearth {

// By this network ranks do not reach each other; by another one they may.
class UnreachableError : public CommError {
 public:
  using CommError::CommError;
};

using Deadline = std::chrono::steady_clock::time_point;

// Or a mask. Without gaps, so that processes may send each other its bytes.
struct IpAddress {
  uint8_t version = 4;              // 4 | 6
  std::array<uint8_t, 16> bytes{};  // as they are sent; IPv4's are the first four
  auto operator<=>(const IpAddress&) const = default;
};

// Of a network device that is up.
struct HostAddress {
  std::string device;
  IpAddress address;
  IpAddress mask;
};

// "10.77.0.1", "fd00::1".
std::string AddressText(const IpAddress& address);

// Of the named device; of all but the loopback where the name is empty. IPv4's come first, each in
// the kernel's order. Without IPv6's of a link alone (fe80::), which lead nowhere by themselves.
std::vector<HostAddress> HostAddresses(const std::string& device);

// Owns a descriptor.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();
  int descriptor() const { return descriptor_; }
  explicit operator bool() const { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
};

// All of these are errors that name the address or the call when they do not succeed in time:
// UnreachableError where that is the network's doing, else CommError. The sockets do not block, and
// send what is small at once.

// On a port of the kernel's choice.
Socket Listen(const IpAddress& address);
uint16_t PortOf(const Socket& listener);
// An empty socket when nobody waits to be accepted.
Socket Accept(const Socket& listener);
Socket Connect(const IpAddress& address, uint16_t port, Deadline deadline);
void SendAll(const Socket& socket, std::span<const std::byte> bytes, Deadline deadline);
// What is there, without waiting: how many bytes; -1 when the other side has ended or failed.
int64_t ReceiveSome(const Socket& socket, std::span<std::byte> bytes);
// False when the other side ends, fails or is silent.
bool ReceiveAll(const Socket& socket, std::span<std::byte> bytes, Deadline deadline);

// Until one of these has an event it asks for, or one that poll reports unasked; false at the
// deadline.
bool AwaitEvents(std::span<pollfd> entries, Deadline deadline);

// The system's words for an errno.
std::string SystemErrorText(int error);

}  // namespace hearth
