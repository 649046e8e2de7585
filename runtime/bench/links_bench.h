// What collectives reach of the links between ranks ("hearth bench links").
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/api/bare_copies.h"
#include "comm/api/bootstrap.h"
#include "comm/api/communicator.h"
#include "kernels/api/kernel_backend.h"

namespace hearth {

// One way to move bytes: a kind of communicator, or "bare copy".
struct LinksBenchWay {
  std::string name;  // "copy_engine, host"
  // One of the two; collective. What throws ConfigError or CommError on any rank is left out.
  std::function<std::unique_ptr<Communicator>()> make_communicator;
  std::function<std::unique_ptr<BareCopies>(const TensorView& slab)> make_bare_copies;
};

struct LinksBenchOptions {
  std::vector<LinksBenchWay> ways;
  std::vector<int64_t> bytes = {int64_t{64} << 10, int64_t{1} << 20, int64_t{16} << 20,
                                int64_t{256} << 20};  // of all ranks' ranges together
  int repetitions = 5;                                // the median counts
  // Products of bf16 matrices of so many rows and columns run beside the largest collectives, to
  // see what they take from each other; 0: none do.
  int64_t matmul_size = 0;
};

struct LinksBenchCase {
  std::string operation;  // "all-gather"
  std::string way;
  int64_t bytes = 0;
  double milliseconds = 0;  // median, of the slowest rank
  double gb_per_s = 0;      // 10^9 bytes that each rank receives
  // By how much a matmul takes longer while such collectives follow each other: 0.03 is 3 %.
  std::optional<double> matmul_slowdown = {};
};

struct LinksBenchResult {
  std::string device;
  std::vector<std::string> identities;  // by rank: which one; a CPU's name
  std::vector<LinksBenchCase> cases;
  std::vector<std::string> left_out;  // "nccl: why"
};

// Collective over the ranks of `bootstrap`; the same result on each. All-gathers and, in bf16,
// reduce-scatters of equal shares, and a small all-reduce.
LinksBenchResult BenchLinks(Bootstrap& bootstrap, KernelBackend& backend,
                            const LinksBenchOptions& options);

// A table for people, then one line of JSON.
std::string ToText(const LinksBenchResult& result);

}  // namespace hearth
