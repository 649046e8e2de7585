// How long collectives take, on the rank that takes longest.
#pragma once

#include <functional>

#include "comm/api/bootstrap.h"
#include "kernels/core/stream.h"

namespace hearth {

struct LinksTimerArgs {
  int repetitions = 5;                   // of which the median counts
  double seconds_per_repetition = 0.03;  // by the number of calls in a row
};

// Seconds of one call of `enqueue`, which enqueues a collective on the stream; the same on every
// rank. Collective. CommError of the collectives.
double TimeTogether(Bootstrap& bootstrap, Stream& stream, const LinksTimerArgs& args,
                    const std::function<void()>& enqueue);

// The largest of all ranks' values, on every rank. Collective.
double Largest(Bootstrap& bootstrap, double mine);

}  // namespace hearth
