// Sockets with deadlines, and the addresses of this host.
#pragma once

#include <poll.h>

#include <chrono>
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

// An IPv4 address of a network device that is up, in host byte order.
struct HostAddress {
  std::string device;
  uint32_t address = 0;
  uint32_t mask = 0;
  uint32_t network() const { return address & mask; }
};

// "10.77.0.1".
std::string AddressText(uint32_t address);

// Of the named device; of all but the loopback where the name is empty; in the kernel's order.
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
Socket Listen(uint32_t address);
uint16_t PortOf(const Socket& listener);
// An empty socket when nobody waits to be accepted.
Socket Accept(const Socket& listener);
Socket Connect(uint32_t address, uint16_t port, Deadline deadline);
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
