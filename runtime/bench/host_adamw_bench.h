// What the host optimizer reaches of the machine's memory bandwidth ("hearth bench cpu").
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/core/device.h"

namespace hearth {

struct HostAdamwBenchOptions {
  int threads = 1;
  int64_t elements = int64_t{64} << 20;  // far more than any cache holds
  int repetitions = 5;                   // the median counts
};

// One combination of storage types; gradient and new weight are bf16 unless all state is fp32.
struct HostAdamwBenchCase {
  std::string state;  // "m bf16, v bf16, master fp32"
  DType m;
  DType master;
  int64_t bytes_per_element;  // read and written
  double milliseconds;        // median of one update of all elements
  double gb_per_s;            // 10^9 bytes, read and written
  double fraction_of_triad;   // gb_per_s over the triad's
};

struct HostAdamwBenchResult {
  int threads;
  int64_t elements;
  int repetitions;
  std::string simd_target;
  double triad_gb_per_s;  // a[i] = b[i] + s * c[i] in fp32, 12 bytes an element (as STREAM counts)
  // a[i] = s * a[i] + b[i], as many bytes: all that memory moves. A triad whose writes do not go
  // around the caches reads what it writes besides.
  double in_place_gb_per_s;
  std::vector<HostAdamwBenchCase> cases;

  // With bf16 moments and master weights of that type.
  const HostAdamwBenchCase& Of(DType master) const;
};

// Allocates its arrays on the host through the device. Triad and updates alternate, so that all of
// them see the same machine. Takes about 40 * elements / bandwidth bytes a repetition.
HostAdamwBenchResult BenchHostAdamw(Device& device, const HostAdamwBenchOptions& options);

}  // namespace hearth
