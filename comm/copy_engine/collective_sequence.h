// The order of a communicator's collectives on the device, and their end when one does not go on.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "comm/api/bootstrap.h"
#include "comm/copy_engine/collective_watch.h"
#include "comm/copy_engine/flag_board.h"
#include "kernels/core/device.h"

namespace hearth {

struct CollectiveSequenceArgs {
  std::chrono::milliseconds timeout{0};
  // See CollectiveWatchArgs.
  std::function<void()> check;
  std::function<void()> abort;
};

struct CollectiveStart {
  std::string_view operation;
  int64_t number = 0;  // of the collective
  int64_t rounds = 1;
  int column = 0;
};

class CollectiveSequence {
 public:
  // Collective over the ranks of `bootstrap`. Ranks on several hosts wait for each other by other
  // means: each has a board of its own then.
  CollectiveSequence(Bootstrap& bootstrap, Device& device, CollectiveSequenceArgs args);
  ~CollectiveSequence();

  // Lets the stream wait for the end of the last collective. The number of the first round, by
  // which flags are posted; nothing when the communicator has failed: then the stream has the error
  // and nothing more is enqueued.
  std::optional<uint32_t> Begin(Stream& stream, const CollectiveStart& start);
  // All of the collective's work is ordered before this.
  void End(Stream& stream);

  FlagBoard& board() { return *board_; }
  int64_t completed() const { return watch_->completed(); }

  // Fails what is in flight, as does the destructor. False when some of it did not end: what it
  // uses must be kept.
  bool Stop() noexcept;
  // Says that this rank uses nothing of the others any more. Unless something has failed, waits a
  // little until all have said so: memory may only be freed when nobody maps it.
  void Leave() noexcept;

 private:
  const int exceptions_at_start_;
  std::unique_ptr<FlagBoard> board_;
  std::unique_ptr<HostSignal> status_;
  std::unique_ptr<Event> previous_;  // the end of the last collective, on whatever stream
  std::unique_ptr<CollectiveWatch> watch_;
  int64_t number_ = 0;
  uint32_t next_round_ = 1;
  uint32_t caught_up_ = 0;
};

}  // namespace hearth
