// What the links of a box give at best, as a measure for communicators.
#pragma once

#include <vector>

#include "comm/api/communicator.h"

namespace hearth {

// The copies of an all-gather without anything that orders them between the ranks: what arrives is
// garbage, how fast it arrives is the links' limit.
class BareCopies {
 public:
  virtual ~BareCopies() = default;
  // Enqueues them behind the stream's work; later work of the stream comes behind them. Ranges as
  // for an all-gather of the slab.
  virtual void Enqueue(Stream& stream, const std::vector<SlabRange>& ranges) = 0;
};

}  // namespace hearth
