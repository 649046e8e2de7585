// A way that moves wrong data is found out, whatever it does wrong.
#include "runtime/bench/links_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <mutex>

#include "comm/communicators.h"
#include "tests/support/inproc_world.h"

namespace hearth::test {
namespace {

using ::testing::HasSubstr;

constexpr std::chrono::seconds kTimeout{60};
constexpr int64_t kRankBytes = int64_t{10} << 20;

// Changes what a collective has brought to rank `victim`, as sick links do.
class SickCommunicator final : public Communicator {
 public:
  using Spoil = std::function<void(std::byte* slab, const std::vector<SlabRange>& ranges)>;
  SickCommunicator(std::unique_ptr<Communicator> inner, Spoil gather, Spoil reduce)
      : inner_(std::move(inner)), gather_(std::move(gather)), reduce_(std::move(reduce)) {}

  int rank() const override { return inner_->rank(); }
  int world() const override { return inner_->world(); }
  CommunicatorMemory memory() const override { return inner_->memory(); }
  int64_t completed() const override { return inner_->completed(); }

 private:
  void DoRegisterSlab() override { inner_->RegisterSlab(slab()); }
  void DoAllGather(Stream& stream, const AllGatherArgs& args) override {
    inner_->AllGather(stream, args);
    stream.Synchronize(kTimeout);
    if (gather_) gather_(static_cast<std::byte*>(slab().data()), args.ranges);
  }
  void DoReduceScatter(Stream& stream, const ReduceScatterArgs& args) override {
    inner_->ReduceScatter(stream, args);
    stream.Synchronize(kTimeout);
    if (reduce_) reduce_(static_cast<std::byte*>(slab().data()), args.ranges);
  }
  void DoAllReduce(Stream& stream, const AllReduceArgs& args) override {
    inner_->AllReduce(stream, args);
  }
  void DoBroadcast(Stream& stream, const BroadcastArgs& args) override {
    inner_->Broadcast(stream, args);
  }

  const std::unique_ptr<Communicator> inner_;
  const Spoil gather_;
  const Spoil reduce_;
};

struct Sickness {
  const char* name;
  SickCommunicator::Spoil gather;  // on rank 1
  SickCommunicator::Spoil reduce;
  const char* expected;
};

// What every rank says of a way whose rank 1 is sick so.
std::vector<std::string> Problems(const Sickness& sickness, int ranks) {
  std::vector<std::string> problems(static_cast<size_t>(ranks));
  RunInprocWorld({.ranks = ranks}, [&](InprocRank& rank) {
    const Buffer slab = rank.backend.device().Allocate(ranks * kRankBytes, MemoryKind::kDevice);
    const bool sick = rank.bootstrap.rank() == 1;
    SickCommunicator communicator(
        MakeCommunicator("inproc", rank.bootstrap, rank.backend, {.collective_timeout = kTimeout}),
        sick ? sickness.gather : nullptr, sick ? sickness.reduce : nullptr);
    const TensorView view = slab.View(0, DType::kU8, {slab.bytes()});
    communicator.RegisterSlab(view);
    std::vector<int> senders;
    for (int r = 0; r < ranks; ++r) senders.push_back(r);
    problems[static_cast<size_t>(rank.bootstrap.rank())] =
        CheckExchange(rank.bootstrap, rank.backend, {communicator, view, rank.stream}, senders);
  });
  return problems;
}

TEST(CheckExchange, FindsWhateverALinkDoesWrong) {
  static std::vector<std::byte> stale;
  stale.clear();
  const Sickness kinds[] = {
      {"well", nullptr, nullptr, ""},
      {"zeros",
       [](std::byte* slab, const std::vector<SlabRange>& ranges) {
         std::memset(slab + ranges[0].offset_bytes, 0, static_cast<size_t>(ranges[0].bytes));
       },
       nullptr, "rank 1 got byte 0"},
      {"last byte",
       [](std::byte* slab, const std::vector<SlabRange>& ranges) {
         if (ranges[0].bytes > 1'000'000) slab[ranges[0].bytes - 1] ^= std::byte{1};
       },
       nullptr, "from rank 0 wrong"},
      {"one byte too many",
       [](std::byte* slab, const std::vector<SlabRange>& ranges) {
         slab[ranges[0].bytes] = std::byte{7};
       },
       nullptr, "rank 1 got byte 40 of 40"},
      {"what came before",
       [](std::byte* slab, const std::vector<SlabRange>& ranges) {
         if (ranges[0].bytes != 40) return;
         if (stale.empty()) stale.assign(slab, slab + 40);
         std::copy(stale.begin(), stale.end(), slab);
       },
       nullptr, "rank 1 got byte"},
      {"a sum", nullptr,
       [](std::byte* slab, const std::vector<SlabRange>& ranges) {
         slab[ranges[1].offset_bytes + ranges[1].bytes - 1] ^= std::byte{0x10};
       },
       "wrong sums: rank 1"},
  };
  for (const Sickness& kind : kinds) {
    for (const std::string& problem : Problems(kind, 3)) {
      EXPECT_EQ(problem.empty(), *kind.expected == '\0') << kind.name << ": " << problem;
      EXPECT_THAT(problem, HasSubstr(kind.expected)) << kind.name;
    }
  }
}

TEST(TryWay, GivesFiguresOfWhatIsWholeAndReasonsOfWhatIsNot) {
  RunInprocWorld({.ranks = 2}, [](InprocRank& rank) {
    const auto make = [&] {
      return MakeCommunicator("inproc", rank.bootstrap, rank.backend,
                              {.collective_timeout = kTimeout});
    };
    const LinksBenchOptions options{.ways = {}, .bytes = {4096}, .repetitions = 1};
    const WayTrial well = TryWay(rank.bootstrap, rank.backend,
                                 {.name = "inproc", .make_communicator = make}, options);
    EXPECT_EQ(well.problem, "");
    ASSERT_EQ(well.figures.size(), 3u);
    for (const LinkFigure& figure : well.figures) {
      EXPECT_EQ(figure.way, "inproc");
      EXPECT_FALSE(!(figure.microseconds > 0));
    }
    const bool first = rank.bootstrap.rank() == 0;
    const WayTrial refused = TryWay(rank.bootstrap, rank.backend,
                                    {.name = "sick",
                                     .make_communicator = [&]() -> std::unique_ptr<Communicator> {
                                       if (first) throw CommError("no such wire");
                                       return make();
                                     }},
                                    options);
    EXPECT_EQ(refused.problem, "no such wire");
    EXPECT_TRUE(refused.figures.empty());
  });
}

TEST(TryDirection, OneSenderOrBoth) {
  RunInprocWorld({.ranks = 2}, [](InprocRank& rank) {
    const auto make = [&] {
      return MakeCommunicator("inproc", rank.bootstrap, rank.backend,
                              {.collective_timeout = kTimeout});
    };
    for (const std::vector<int>& senders : {std::vector<int>{0}, {1}, {0, 1}}) {
      const DirectionTrial trial = TryDirection(rank.bootstrap, rank.backend, make, senders);
      EXPECT_EQ(trial.problem, "");
      EXPECT_FALSE(!(trial.gb_per_s > 0));
    }
  });
}

}  // namespace
}  // namespace hearth::test
