// The time of every op of a training step, next to the least it could take ("hearth bench
// kernels").
#pragma once

#include <string>
#include <vector>

#include "runtime/bench/op_timer.h"
#include "runtime/train/run_setup.h"

namespace hearth {

struct KernelsBenchOptions {
  OpTimerOptions timer;
  // Of the copies and the square matmuls that show what the device can do; 0: by its kind.
  int64_t copy_bytes = 0;
  int64_t square = 0;
};

struct KernelsBenchOp {
  std::string op;
  std::string shape;
  int64_t calls = 0;              // in a step of this run
  double microseconds = 0;        // of one
  double floor_microseconds = 0;  // the larger of operations / peak and bytes / bandwidth
  bool is_compute_bound = false;  // which of the two that is
  double flops = 0;
  double bytes = 0;
};

// The rate that counts for operations on a type.
struct KernelsBenchPeak {
  std::string type;
  double tflops = 0;
  bool is_measured = false;  // by a square matmul, for want of the maker's word
};

struct KernelsBenchResult {
  std::string device;
  std::string model;
  std::string compute_dtype;
  int64_t sequence_len = 0;
  int64_t micro_batch_size = 0;
  int64_t micro_batches = 0;  // of a step
  int repetitions = 0;
  double copy_gb_per_s = 0;       // device memory, read and written
  double host_link_gb_per_s = 0;  // pinned host memory to device memory
  AttentionReport attention;
  std::vector<KernelsBenchPeak> peaks;
  std::vector<KernelsBenchOp> ops;     // in the order of a step
  double step_milliseconds = 0;        // all calls, one after the other
  double step_floor_milliseconds = 0;  // as if each took its floor
  double tokens_per_second = 0;        // from step_milliseconds
};

// Runs one training step of the run's model cut to one block and one micro-batch, as one rank, by
// the Executor itself, and times every op it meets; how often a step of the whole run calls each
// follows from the schedules. Random weights and tokens; `resolved`'s data is not read. Work of the
// host optimizer is no op and not in it.
KernelsBenchResult BenchKernels(const ResolvedConfig& resolved, const RunEnvironment& environment,
                                const KernelsBenchOptions& options);

}  // namespace hearth
