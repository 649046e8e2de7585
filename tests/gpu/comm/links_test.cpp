#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "comm/communicators.h"
#include "kernels/backend.h"
#include "runtime/bench/links_bench.h"
#include "tests/support/gpu_ranks.h"

namespace hearth::test {
namespace {

// Prints what the links give; asserts nothing of it but that it is a number.
TEST(GpuRanksLinks, AreMeasured) {
  const auto bootstrap = MakeMpiBootstrap(
      {.init_timeout = std::chrono::seconds(60), .collective_timeout = std::chrono::seconds(60)});
  if (bootstrap->world() == 1) GTEST_SKIP() << "one rank has no links";
  KernelBackend& backend = RankBackend(*bootstrap);
  LinksBenchOptions options;
  for (bool through_host : {false, true}) {
    const char* suffix = through_host ? ", host" : "";
    options.ways.push_back({.name = std::string("bare copy") + suffix,
                            .make_bare_copies = [&, through_host](const TensorView& slab) {
                              return MakeBareCopies(*bootstrap, backend, slab, through_host);
                            }});
    options.ways.push_back(
        {.name = std::string("copy_engine") + suffix, .make_communicator = [&, through_host] {
           return MakeCommunicator("copy_engine", *bootstrap, backend, {.stage = through_host});
         }});
  }
  for (const char* kind : {"nccl", "mpi"}) {
    if (kind == std::string("nccl") && bootstrap->local_world() > CudaDeviceCount()) continue;
    options.ways.push_back({.name = kind, .make_communicator = [&, kind] {
                              return MakeCommunicator(kind, *bootstrap, backend, {});
                            }});
  }
  const LinksBenchResult result = BenchLinks(*bootstrap, backend, options);
  if (bootstrap->rank() == 0) std::fputs(ToText(result).c_str(), stdout);
  EXPECT_FALSE(result.cases.empty());
  for (const LinksBenchCase& c : result.cases) {
    EXPECT_FALSE(!(c.gb_per_s > 0 && c.milliseconds > 0)) << c.operation << " by " << c.way;
  }
}

}  // namespace
}  // namespace hearth::test
