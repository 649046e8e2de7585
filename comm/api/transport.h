// Messages between ranks in host memory: the part of a staged communicator that differs between MPI
// and threads of one process.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "kernels/core/error.h"

namespace hearth {

// Bytes that go to, or come from, a peer. An empty message is not sent; the peer knows that too.
struct Message {
  int peer = 0;
  std::byte* data = nullptr;
  int64_t bytes = 0;
};

struct ExchangeArgs {
  // Equal on all ranks; messages of different numbers never meet.
  int64_t sequence = 0;
  std::vector<Message> sends;
  // The messages of one peer arrive in the order of its sends and have the same sizes.
  std::vector<Message> receives;
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int world() const = 0;

  // Returns when all messages have left and arrived; one thread at a time. CommError naming the
  // ranks waited for when nothing has moved for the time-out, or when a message had another size;
  // the transport is of no further use then, and the memory must outlive the process's last use of
  // the underlying library.
  virtual void Exchange(const ExchangeArgs& args) = 0;

  // Makes the running and every later Exchange fail soon. Any thread may call it.
  virtual void Cancel() noexcept = 0;
};

// "rank 3", "ranks 1, 3".
std::string RankList(const std::set<int>& ranks);

// "no answer from ranks 1, 3 for 100000 ms".
CommError NoAnswer(const std::set<int>& ranks, std::chrono::milliseconds timeout);

}  // namespace hearth
