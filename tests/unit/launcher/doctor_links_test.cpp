#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/doctor_checks.h"
#include "tests/unit/launcher/fake_system.h"

namespace hearth::test {
namespace {

using ::testing::HasSubstr;

Finding PeerAccess(FakeSystem& system) {
  for (const Finding& finding : Examine(system, {})) {
    if (finding.name == "peer access") return finding;
  }
  return {.name = "", .text = "", .remedy = ""};
}

TEST(DoctorLinks, OneGpuHasNoPeers) {
  FakeSystem system;
  system.AddGpu("0", "NVIDIA H200", "9.0");
  EXPECT_EQ(PeerAccess(system).name, "");
}

TEST(DoctorLinks, SaysWhatTheProbeHasFound) {
  FakeSystem system;
  system.AddGpu("0", "NVIDIA H200", "9.0");
  system.AddGpu("1", "NVIDIA H200", "9.0");
  const Finding unknown = PeerAccess(system);
  EXPECT_EQ(system.asked_links, 2);
  EXPECT_EQ(unknown.health, Health::kWarning);
  EXPECT_THAT(unknown.text, HasSubstr("none yet"));
  EXPECT_EQ(unknown.remedy, "hearth probe");

  LinkTable table{.machine = {.devices = {"a", "b"}},
                  .directions = {{.from = 0, .to = 1, .way = "copy_engine", .gb_per_s = 374},
                                 {.from = 1, .to = 0, .way = "copy_engine", .gb_per_s = 361.25},
                                 {.from = 1, .to = 0, .way = "mpi", .gb_per_s = 5}}};
  system.links = CachedLinks{.table = table};
  const Finding fine = PeerAccess(system);
  EXPECT_EQ(fine.health, Health::kOk);
  EXPECT_EQ(fine.text, "between all 2 GPUs, at least 361.2 GB/s");

  table.directions.clear();  // a quick probe
  system.links = CachedLinks{.table = table};
  EXPECT_EQ(PeerAccess(system).text, "between all 2 GPUs");

  table.problems = {{"nccl", "not there"}, {"copy_engine", "rank 0 to 1: wrong data: byte 0"}};
  system.links = CachedLinks{.table = table};
  const Finding sick = PeerAccess(system);
  EXPECT_EQ(sick.health, Health::kWarning);
  EXPECT_THAT(sick.text, HasSubstr("rank 0 to 1: wrong data"));
  EXPECT_THAT(sick.remedy, HasSubstr("hearth probe"));

  system.links.reset();
  EXPECT_EQ(PeerAccess(system).health, Health::kWarning);
}

}  // namespace
}  // namespace hearth::test
