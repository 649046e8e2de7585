// The words by which the streams of different ranks wait for each other.
#pragma once

#include <cstdint>
#include <memory>

#include "comm/api/communicator_memory.h"
#include "comm/copy_engine/shared_segment.h"
#include "kernels/core/stream.h"

namespace hearth {

enum class Flag : uint8_t {
  kReady,  // what others want to read is there
  kDone,   // this rank has read what it wanted
};

// Rounds are numbered from 1 and compare cyclically. For each pair of ranks and each flag there is
// a row of columns, of which a collective uses the one that its arguments choose: ranks that call
// different collectives wait for different words, so they end in a time-out and not in wrong sums.
// The words lie in memory shared by the hosts, so that a rank's host can end all waits of its own
// streams, and only those.
class FlagBoard {
 public:
  static constexpr int kColumns = kBoardColumns;

  // Collective over the ranks of `bootstrap`.
  explicit FlagBoard(Bootstrap& bootstrap);
  // Of a rank whose peers are on other hosts: it is rank 0 of a world of one here.
  FlagBoard();

  // ---- On a stream ----
  // Tells every rank, this one included. A column's rounds rise.
  void Post(Stream& stream, Flag flag, int column, uint32_t round);
  void Await(Stream& stream, Flag flag, int column, uint32_t round, int source);
  // Of every rank, this one included.
  void AwaitAll(Stream& stream, Flag flag, int column, uint32_t round);
  // Brings every word up to `round`, where all rounds so far must have ended: words that lag by
  // 2^31 rounds would count as ahead.
  void CatchUp(Stream& stream, uint32_t round);
  // The number of a collective that this rank has completed.
  void Complete(Stream& stream, uint32_t number);

  // ---- On the host ----
  uint32_t posted(Flag flag, int column, int source) const;
  uint32_t completed() const;
  // Ends every wait of this rank for a round up to this one.
  void Release(uint32_t round) noexcept;
  // Says that this rank uses nothing of the others any more, and whether all have said so.
  void Leave() noexcept;
  bool AllLeft() const;
  int64_t bytes() const { return segment_->bytes(); }
  // See SharedSegment::Abandon.
  void Abandon() { segment_->Abandon(); }

 private:
  int64_t IndexOf(int reader, int source, Flag flag, int column) const;
  uint32_t* host_words() const { return reinterpret_cast<uint32_t*>(segment_->host()); }
  uint32_t* device_words() const { return reinterpret_cast<uint32_t*>(segment_->device()); }

  const int rank_;
  const int world_;
  const int64_t completed_index_;  // the first of `world` words
  const int64_t left_index_;
  std::unique_ptr<SharedSegment> segment_;
};

}  // namespace hearth
