#include "runtime/train/machine_memory.h"

#include <gtest/gtest.h>

#include "runtime/train/summary.h"
#include "tests/support/inproc_world.h"
#include "tests/support/split_memory_backend.h"

namespace hearth::test {
namespace {

MachineMemory MeasureWith(InprocRank& rank, KernelBackend& backend) {
  Heartbeat unwatched;
  return MeasureMachine({.bootstrap = rank.bootstrap,
                         .backend = backend,
                         .communicator = rank.communicator,
                         .heartbeat = unwatched});
}

TEST(MachineMemory, RanksThatShareADeviceAreNotDevices) {
  RunInprocWorld({.ranks = 3}, [&](InprocRank& rank) {
    SplitMemoryBackend backend(1);
    backend.device().set_memory(
        {.place = rank.bootstrap.rank() == 1 ? "GPU-1" : "GPU-0", .total_bytes = 1 << 30});
    const MachineMemory machine = MeasureWith(rank, backend);
    EXPECT_EQ(machine.devices, 2);
    EXPECT_EQ(machine.ranks_per_device, 2);
  });
}

TEST(MachineMemory, TheProcessorIsADeviceForEachRank) {
  RunInprocWorld({.ranks = 2, .backend = "cpu"},
                 [&](InprocRank& rank) { EXPECT_EQ(MeasureWith(rank, rank.backend).devices, 2); });
}

TEST(DescribeDevices, CountsThemAndTheRanksWhereTheyDiffer) {
  EXPECT_EQ(DescribeDevices(2, "NVIDIA H200", 2), "2 x NVIDIA H200");
  EXPECT_EQ(DescribeDevices(2, "NVIDIA H200", 1), "2 ranks on 1 x NVIDIA H200");
  EXPECT_EQ(DescribeDevices(4, "NVIDIA H200", 2), "4 ranks on 2 x NVIDIA H200");
}

}  // namespace
}  // namespace hearth::test
