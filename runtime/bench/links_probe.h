// Whether a way moves data whole, and how fast ("hearth probe"). Runs in ranks that may be lost:
// a way may hang in a driver, or end the process.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/api/bootstrap.h"
#include "comm/api/communicator.h"
#include "kernels/api/kernel_backend.h"
#include "runtime/bench/links_bench.h"
#include "runtime/plan/link_table.h"

namespace hearth {

// Collective. Why the way cannot be used, the same on every rank: it could not be made, or data
// came that nobody had sent. "" when everything that it moved, in several sizes and twice with
// other contents, came whole: all-gathers, and with more than one sender sums.
using MakeWay = std::function<std::unique_ptr<Communicator>()>;

struct WayTrial {
  std::string problem;
  std::vector<LinkFigure> figures;  // only where there is no problem
};
// All ranks with all: correctness, then the sizes of `options` (whose ways are not looked at).
WayTrial TryWay(Bootstrap& bootstrap, KernelBackend& backend, const LinksBenchWay& way,
                const LinksBenchOptions& options);

struct DirectionTrial {
  std::string problem;
  double gb_per_s = 0;  // 10^9 bytes that each receiver got
};
// Two ranks, of which those in `senders` send.
DirectionTrial TryDirection(Bootstrap& bootstrap, KernelBackend& backend, const MakeWay& make,
                            const std::vector<int>& senders);

// What is checked: a communicator with the slab that it has registered, of at least 10 MiB for each
// rank, and a stream.
struct CheckedWay {
  Communicator& communicator;
  TensorView slab;
  Stream& stream;
};
// Collective over the ranks of `bootstrap`: gathers and reduces known data. What came wrong, the
// same on every rank.
std::string CheckExchange(Bootstrap& bootstrap, KernelBackend& backend, const CheckedWay& way,
                          const std::vector<int>& senders);

}  // namespace hearth
