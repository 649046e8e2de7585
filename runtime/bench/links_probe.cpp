#include "runtime/bench/links_probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "comm/api/gather_texts.h"
#include "kernels/core/bfloat16.h"
#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/bench/links_timer.h"

namespace hearth {

namespace {

constexpr std::chrono::milliseconds kTimeout{60'000};
// Shares that are checked: less than a line, odd, larger than any piece and slot.
constexpr int64_t kCheckedShares[] = {40, 100'001, (int64_t{9} << 20) + 17};
constexpr int64_t kSlabBytesPerRank = int64_t{10} << 20;
// With one size of them sums are checked too, of bf16.
constexpr int64_t kSumElements = 70'000;
constexpr int kRounds = 2;
constexpr std::byte kNobodys{0xA5};

// What rank `rank` sends at `index` in a round. Neither zeros nor what an earlier round has left.
std::byte SentByte(int rank, int round, int64_t index) {
  uint64_t x = (static_cast<uint64_t>(index) + 1) * 0x9E3779B97F4A7C15ull;
  x += static_cast<uint64_t>(rank * 7 + round * 131 + 1) * 0xBF58476D1CE4E5B9ull;
  x ^= x >> 29;
  return static_cast<std::byte>(x >> 24);
}

// Small whole numbers: every sum of them is exact in bf16.
float SentNumber(int rank, int round, int64_t index) {
  return static_cast<float>((index + rank * 3 + round) % 8) - 3.0f;
}

// Checks one communicator. What is in the slab is written and read through pinned memory.
class Check {
 public:
  Check(Bootstrap& bootstrap, KernelBackend& backend, const CheckedWay& way)
      : bootstrap_(bootstrap),
        backend_(backend),
        way_(way),
        rank_(bootstrap.rank()),
        mirror_(backend.device().Allocate(way.slab.bytes(), MemoryKind::kPinnedHost)) {}

  std::string Gathers(int64_t share, int round, const std::vector<int>& senders) {
    std::vector<SlabRange> ranges(static_cast<size_t>(bootstrap_.world()));
    for (int sender : senders) {
      ranges[static_cast<size_t>(sender)] = {.offset_bytes = sender * kSlabBytesPerRank,
                                             .bytes = share};
    }
    std::fill_n(mirror_.data(), mirror_.bytes(), kNobodys);
    const SlabRange& mine = ranges[static_cast<size_t>(rank_)];
    for (int64_t i = 0; i < mine.bytes; ++i) {
      mirror_.data()[mine.offset_bytes + i] = SentByte(rank_, round, i);
    }
    Move([&] { way_.communicator.AllGather(way_.stream, {.ranges = ranges}); });
    for (int rank = 0; rank < bootstrap_.world(); ++rank) {
      const SlabRange& range = ranges[static_cast<size_t>(rank)];
      for (int64_t i = 0; i < kSlabBytesPerRank; ++i) {
        const std::byte expected = i < range.bytes ? SentByte(rank, round, i) : kNobodys;
        if (mirror_.data()[rank * kSlabBytesPerRank + i] == expected) continue;
        return fmt::format("wrong data: rank {} got byte {} of {} from rank {} wrong", rank_, i,
                           range.bytes, rank);
      }
    }
    return "";
  }

  std::string Sums(int round) {
    const int world = bootstrap_.world();
    const int64_t bytes = kSumElements * SizeOf(DType::kBF16);
    std::vector<SlabRange> ranges;
    auto* numbers = reinterpret_cast<BFloat16*>(mirror_.data());
    for (int rank = 0; rank < world; ++rank) {
      ranges.push_back({.offset_bytes = rank * bytes, .bytes = bytes});
    }
    for (int64_t i = 0; i < world * kSumElements; ++i) {
      numbers[i] = ToBFloat16(SentNumber(rank_, round, i));
    }
    const SlabRange& mine = ranges[static_cast<size_t>(rank_)];
    const TensorView out(static_cast<std::byte*>(way_.slab.data()) + mine.offset_bytes,
                         DType::kBF16, {kSumElements});
    Move([&] {
      way_.communicator.ReduceScatter(way_.stream,
                                      {.dtype = DType::kBF16, .ranges = ranges, .out = out});
    });
    for (int64_t i = rank_ * kSumElements; i < (rank_ + 1) * kSumElements; ++i) {
      float sum = 0;
      for (int rank = 0; rank < world; ++rank) sum += SentNumber(rank, round, i);
      if (ToFloat(numbers[i]) == sum) continue;
      return fmt::format("wrong sums: rank {} got {} for {}", rank_, ToFloat(numbers[i]), sum);
    }
    return "";
  }

 private:
  TensorView Mirror() const { return mirror_.View(0, DType::kU8, {mirror_.bytes()}); }

  void Move(const std::function<void()>& enqueue) {
    backend_.Copy(way_.stream, {.source = Mirror(), .destination = way_.slab});
    way_.stream.Synchronize(kTimeout);
    enqueue();
    backend_.Copy(way_.stream, {.source = way_.slab, .destination = Mirror()});
    way_.stream.Synchronize(kTimeout);
  }

  Bootstrap& bootstrap_;
  KernelBackend& backend_;
  const CheckedWay& way_;
  const int rank_;
  const Buffer mirror_;
};

// A communicator with a slab, or why there is none.
struct OpenWay {
  // The last is destroyed first: what waits for ranks that are gone ends with the communicator.
  Buffer slab;
  std::unique_ptr<Stream> stream;
  std::unique_ptr<Communicator> communicator;
  std::string problem;

  OpenWay(Bootstrap& bootstrap, KernelBackend& backend, const MakeWay& make)
      : slab(backend.device().Allocate(bootstrap.world() * kSlabBytesPerRank, MemoryKind::kDevice)),
        stream(backend.device().CreateStream("probe")) {
    // Where one rank is refused nobody goes on to the next.
    problem = GatherFirstText(bootstrap, Refusal([&] { communicator = make(); }));
    if (problem.empty()) {
      problem = GatherFirstText(
          bootstrap,
          Refusal([&] { communicator->RegisterSlab(slab.View(0, DType::kU8, {slab.bytes()})); }));
    }
    if (!problem.empty()) communicator.reset();
  }

  CheckedWay Way() const {
    return {*communicator, slab.View(0, DType::kU8, {slab.bytes()}), *stream};
  }

 private:
  static std::string Refusal(const std::function<void()>& action) {
    try {
      action();
    } catch (const ConfigError& refusal) {
      return refusal.what();
    } catch (const CommError& refusal) {
      return refusal.what();
    }
    return "";
  }
};

std::vector<int> AllRanks(const Bootstrap& bootstrap) {
  std::vector<int> ranks;
  for (int rank = 0; rank < bootstrap.world(); ++rank) ranks.push_back(rank);
  return ranks;
}

}  // namespace

std::string CheckExchange(Bootstrap& bootstrap, KernelBackend& backend, const CheckedWay& way,
                          const std::vector<int>& senders) {
  CHECK(way.slab.bytes() >= bootstrap.world() * kSlabBytesPerRank, "a slab of {} bytes",
        way.slab.bytes());
  Check check(bootstrap, backend, way);
  for (int round = 0; round < kRounds; ++round) {
    for (const int64_t share : kCheckedShares) {
      const std::string problem = GatherFirstText(bootstrap, check.Gathers(share, round, senders));
      if (!problem.empty()) return problem;
    }
    if (std::ssize(senders) < bootstrap.world()) continue;
    const std::string problem = GatherFirstText(bootstrap, check.Sums(round));
    if (!problem.empty()) return problem;
  }
  return "";
}

WayTrial TryWay(Bootstrap& bootstrap, KernelBackend& backend, const LinksBenchWay& way,
                const LinksBenchOptions& options) {
  WayTrial trial;
  {
    const OpenWay open(bootstrap, backend, way.make_communicator);
    trial.problem = open.problem;
    if (trial.problem.empty()) {
      trial.problem = CheckExchange(bootstrap, backend, open.Way(), AllRanks(bootstrap));
    }
  }
  if (!trial.problem.empty()) return trial;
  const LinksBenchResult result =
      BenchLinks(bootstrap, backend,
                 {.ways = {way}, .bytes = options.bytes, .repetitions = options.repetitions});
  for (const LinksBenchCase& c : result.cases) {
    trial.figures.push_back({.operation = c.operation,
                             .way = c.way,
                             .bytes = c.bytes,
                             .microseconds = c.milliseconds * 1e3});
  }
  if (!result.left_out.empty()) trial.problem = result.left_out.front();
  return trial;
}

DirectionTrial TryDirection(Bootstrap& bootstrap, KernelBackend& backend, const MakeWay& make,
                            const std::vector<int>& senders) {
  CHECK(bootstrap.world() == 2 && !senders.empty(), "a direction among {} ranks",
        bootstrap.world());
  const OpenWay open(bootstrap, backend, make);
  if (!open.problem.empty()) return {.problem = open.problem};
  DirectionTrial trial{.problem = CheckExchange(bootstrap, backend, open.Way(), senders)};
  if (!trial.problem.empty()) return trial;
  std::vector<SlabRange> ranges(2);
  for (int sender : senders) {
    ranges[static_cast<size_t>(sender)] = {.offset_bytes = sender * kSlabBytesPerRank,
                                           .bytes = kSlabBytesPerRank};
  }
  const double seconds = TimeTogether(bootstrap, *open.stream, {}, [&] {
    open.communicator->AllGather(*open.stream, {.ranges = ranges});
  });
  trial.gb_per_s = static_cast<double>(kSlabBytesPerRank) / seconds / 1e9;
  return trial;
}

}  // namespace hearth
