#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/communicator_conformance.h"
#include "tests/support/communicator_rig.h"

namespace hearth::test {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kShort{300};
// Long enough for the ranks that do come, on a busy machine.
constexpr std::chrono::seconds kMissing{2};
// More than five times what the time-outs should take.
constexpr std::chrono::seconds kSoon{15};

// What Synchronize throws; empty when it does not.
std::string ErrorOf(Stream& stream) {
  try {
    stream.Synchronize(kRigTimeout);
  } catch (const CommError& error) {
    return error.what();
  }
  return "";
}

// A collective in which every rank waits for the last one.
struct Call {
  std::string operation;
  void (*enqueue)(CommunicatorRig& rig);
};

const std::vector<Call>& Calls() {
  static const std::vector<Call> calls = {
      {"all-reduce",
       [](CommunicatorRig& rig) {
         rig.communicator().AllReduce(rig.stream(), {.range = {.offset_bytes = 0, .bytes = 512}});
       }},
      {"all-gather",
       [](CommunicatorRig& rig) {
         std::vector<SlabRange> ranges;
         for (int r = 0; r < rig.world(); ++r) ranges.push_back({r * 64, 64});
         rig.communicator().AllGather(rig.stream(), {.ranges = ranges});
       }},
      {"reduce-scatter",
       [](CommunicatorRig& rig) {
         std::vector<SlabRange> ranges;
         for (int r = 0; r < rig.world(); ++r) ranges.push_back({r * 64, 64});
         rig.communicator().ReduceScatter(
             rig.stream(),
             {.ranges = ranges, .out = {rig.device_slab() + rig.rank() * 64, DType::kF32, {16}}});
       }},
      {"broadcast",
       [](CommunicatorRig& rig) {
         rig.communicator().Broadcast(
             rig.stream(), {.range = {.offset_bytes = 0, .bytes = 512}, .root = rig.world() - 1});
       }},
  };
  return calls;
}

void MissingRankIsNamed(const ConformanceRank& rank) {
  if (rank.bootstrap.world() == 1) return;
  const int missing = rank.bootstrap.world() - 1;
  // All at once, so that the time-out passes once.
  std::vector<std::unique_ptr<CommunicatorRig>> rigs;
  const std::vector<CommunicatorOptions> modes = Modes(rank.kind);
  for (CommunicatorOptions mode : {modes.front(), modes.back()}) {
    mode.collective_timeout = kMissing;
    for (size_t i = 0; i < Calls().size(); ++i) {
      rigs.push_back(std::make_unique<CommunicatorRig>(rank, mode, 1024));
    }
  }
  rank.bootstrap.Barrier();
  const auto begin = Clock::now();
  if (rank.bootstrap.rank() != missing) {
    for (size_t i = 0; i < rigs.size(); ++i) Calls()[i % Calls().size()].enqueue(*rigs[i]);
    for (size_t i = 0; i < rigs.size(); ++i) {
      const Call& call = Calls()[i % Calls().size()];
      CommunicatorRig& rig = *rigs[i];
      const std::string error = ErrorOf(rig.stream());
      EXPECT_NE(error.find(call.operation + " #1: no answer from rank " + std::to_string(missing)),
                std::string::npos)
          << "'" << error << "'";
      EXPECT_EQ(rig.communicator().completed(), 0);
      // The communicator stays broken and does not wait again.
      call.enqueue(rig);
      EXPECT_EQ(ErrorOf(rig.stream()), error);
    }
    EXPECT_LT(Clock::now() - begin, kSoon);
  }
  rank.bootstrap.Barrier();
}

// A rank that calls another collective than the others is an error of all of them, not a wrong sum.
void DifferentSizesAreRefused(const ConformanceRank& rank) {
  if (rank.bootstrap.world() == 1) return;
  CommunicatorOptions options = Modes(rank.kind).front();
  options.collective_timeout = kShort;
  CommunicatorRig rig(rank, options, 1024);
  const int64_t bytes = rig.rank() == 0 ? 64 : 128;
  rig.communicator().AllReduce(
      rig.stream(), {.dtype = DType::kF32, .range = {.offset_bytes = 0, .bytes = bytes}});
  const std::string error = ErrorOf(rig.stream());
  EXPECT_NE(error.find("all-reduce #1: "), std::string::npos) << "'" << error << "'";
  rank.bootstrap.Barrier();
}

// Destroying a communicator ends what waits for it.
void DestroyedInFlight(const ConformanceRank& rank) {
  if (rank.bootstrap.world() == 1) return;
  CommunicatorRig rig(rank, Modes(rank.kind).front(), 1024);
  if (rig.rank() == 0) {
    const auto begin = Clock::now();
    rig.communicator().AllReduce(rig.stream(),
                                 {.dtype = DType::kF32, .range = {.offset_bytes = 0, .bytes = 64}});
    rig.DestroyCommunicator();
    EXPECT_NE(ErrorOf(rig.stream()).find("all-reduce #1: the communicator ended"),
              std::string::npos);
    EXPECT_LT(Clock::now() - begin, kSoon);
  }
  rank.bootstrap.Barrier();
}

void ArgumentsAreChecked(const ConformanceRank& rank) {
  CommunicatorRig rig(rank, Modes(rank.kind).front(), 64);
  Communicator& communicator = rig.communicator();
  const auto ranges = [&](SlabRange range) {
    return std::vector<SlabRange>(static_cast<size_t>(rig.world()), range);
  };
  EXPECT_THROW(communicator.AllGather(rig.stream(), {.ranges = {}}), CheckError);
  EXPECT_THROW(communicator.AllGather(rig.stream(), {.ranges = ranges({60, 5})}), CheckError);
  EXPECT_THROW(communicator.AllGather(rig.stream(), {.ranges = ranges({-1, 5})}), CheckError);
  EXPECT_THROW(communicator.AllGather(rig.stream(), {.ranges = ranges({0, -5})}), CheckError);
  EXPECT_THROW(communicator.AllReduce(rig.stream(), {.dtype = DType::kBF16, .range = {0, 4}}),
               CheckError);
  EXPECT_THROW(communicator.AllReduce(rig.stream(), {.dtype = DType::kI64, .range = {4, 8}}),
               CheckError);
  EXPECT_THROW(communicator.Broadcast(rig.stream(), {.range = {0, 4}, .root = rig.world()}),
               CheckError);
  EXPECT_THROW(
      communicator.ReduceScatter(
          rig.stream(), {.ranges = ranges({0, 8}), .out = {rig.device_slab(), DType::kF32, {3}}}),
      CheckError);
  EXPECT_EQ(communicator.enqueued(), 0);
}

// ---- Bootstrap ----

Bytes Contribution(int rank, size_t bytes) {
  Bytes mine(bytes);
  for (size_t i = 0; i < bytes; ++i) mine[i] = TestByte(rank, static_cast<int64_t>(i));
  return mine;
}

void BootstrapGathersAndBroadcasts(const ConformanceRank& rank) {
  Bootstrap& bootstrap = rank.bootstrap;
  const auto size_of = [](int r) { return static_cast<size_t>(r == 1 ? 0 : 70'000 * r + 3); };
  for (int round = 0; round < 3; ++round) {
    const auto all = bootstrap.AllGather(Contribution(bootstrap.rank(), size_of(bootstrap.rank())));
    ASSERT_EQ(std::ssize(all), bootstrap.world());
    for (int r = 0; r < bootstrap.world(); ++r) {
      EXPECT_EQ(all[static_cast<size_t>(r)], Contribution(r, size_of(r))) << "from rank " << r;
    }
    for (int root = 0; root < bootstrap.world(); ++root) {
      EXPECT_EQ(bootstrap.Broadcast(Contribution(bootstrap.rank(), 1000), root),
                Contribution(root, 1000));
    }
  }
  EXPECT_EQ(bootstrap.local_world(), bootstrap.world());
  EXPECT_EQ(bootstrap.local_rank(), bootstrap.rank());
}

}  // namespace

const std::vector<ConformanceCase>& CommunicatorFailureCases() {
  static const std::vector<ConformanceCase> cases = {
      {"MissingRankIsNamed", &MissingRankIsNamed},
      {"DifferentSizesAreRefused", &DifferentSizesAreRefused},
      {"DestroyedInFlight", &DestroyedInFlight},
      {"ArgumentsAreChecked", &ArgumentsAreChecked},
  };
  return cases;
}

const std::vector<ConformanceCase>& BootstrapCases() {
  static const std::vector<ConformanceCase> cases = {
      {"BootstrapGathersAndBroadcasts", &BootstrapGathersAndBroadcasts},
  };
  return cases;
}

}  // namespace hearth::test
