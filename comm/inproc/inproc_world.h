// What the ranks of one process share.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "comm/api/bootstrap.h"

namespace hearth {

// A message its sender has put out and not yet taken back.
struct InprocMessage {
  enum class State : uint8_t { kWaiting, kCopying, kTaken };
  int64_t sequence = 0;
  const std::byte* data = nullptr;
  int64_t bytes = 0;
  State state = State::kWaiting;
};

// One mailbox per (source, destination).
struct InprocChannel {
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<InprocMessage>>> mailboxes;
};

// One gathering of the bootstraps: it ends when everybody has contributed.
struct InprocGathering {
  std::vector<std::optional<Bytes>> contributions;  // by rank
  int readers = 0;                                  // ranks that have read the result
};

// Everything is guarded by `mutex`; `changed` tells of every change.
struct InprocWorld {
  // Of these ranks of the job, which all worlds end together.
  InprocWorld(std::vector<int> names, std::shared_ptr<InprocWorld> from)
      : ranks(static_cast<int>(names.size())),
        job_ranks(std::move(names)),
        parent(std::move(from)) {}

  const int ranks;
  const std::vector<int> job_ranks;
  const std::shared_ptr<InprocWorld> parent;  // null: the job; shared by the parts' ranks
  std::mutex mutex;
  std::condition_variable changed;
  std::string abort_reason;  // not empty: every wait fails with it
  std::map<int64_t, InprocGathering> gatherings;
  std::map<int64_t, std::shared_ptr<InprocChannel>> channels;
  std::map<std::pair<int64_t, int>, std::weak_ptr<InprocWorld>> parts;  // by split and color
};

}  // namespace hearth
