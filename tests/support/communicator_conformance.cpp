#include "tests/support/communicator_conformance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "tests/support/communicator_rig.h"

namespace hearth::test {

namespace {

// ---- All-gather and broadcast ----

constexpr int kVariants = 6;

// Of a slab for every variant.
int64_t MostSlabBytes(int world, int64_t unit) {
  int64_t most = 0;
  for (int variant = 0; variant < kVariants; ++variant) {
    most = std::max(most, SlabBytesFor(UnevenRanges(world, unit, variant), unit));
  }
  return most;
}

void AllGatherUneven(const ConformanceRank& rank) {
  const int64_t bytes = MostSlabBytes(rank.bootstrap.world(), 1);
  for (const CommunicatorOptions& mode : Modes(rank.kind)) {
    CommunicatorRig rig(rank, mode, bytes);
    for (int variant = 0; variant < kVariants; ++variant) {
      const auto ranges = UnevenRanges(rank.bootstrap.world(), 1, variant);
      rig.Refill();
      rig.communicator().AllGather(rig.stream(), {.ranges = ranges});
      rig.Finish();
      for (int64_t i = 0; i < bytes; ++i) {
        int owner = rig.rank();
        for (int r = 0; r < rig.world(); ++r) {
          const SlabRange& range = ranges[static_cast<size_t>(r)];
          if (i >= range.offset_bytes && i < range.offset_bytes + range.bytes) owner = r;
        }
        ASSERT_EQ(rig.slab()[i], TestByte(owner, i)) << "byte " << i << ", variant " << variant;
      }
    }
  }
}

void BroadcastFromEachRoot(const ConformanceRank& rank) {
  for (const CommunicatorOptions& mode : Modes(rank.kind)) {
    constexpr int64_t kSlab = 1200;
    CommunicatorRig rig(rank, mode, kSlab);
    for (int root = 0; root < rank.bootstrap.world(); ++root) {
      for (int64_t bytes : {0, 1, 64, 1001}) {
        rig.Refill();
        rig.communicator().Broadcast(rig.stream(),
                                     {.range = {.offset_bytes = 3, .bytes = bytes}, .root = root});
        rig.Finish();
        for (int64_t i = 0; i < kSlab; ++i) {
          const int owner = i >= 3 && i < 3 + bytes ? root : rig.rank();
          ASSERT_EQ(rig.slab()[i], TestByte(owner, i)) << "byte " << i << " from rank " << root;
        }
      }
    }
  }
}

// ---- Reduce-scatter ----

struct ReduceScatterCase {
  DType slab = DType::kF32;
  DType out = DType::kF32;
  float scale = 1.0f;
  bool accumulate = false;
  bool in_place = false;
};

void Store(std::byte* base, DType dtype, int64_t index, float value) {
  if (dtype == DType::kF32) {
    reinterpret_cast<float*>(base)[index] = value;
  } else {
    reinterpret_cast<BFloat16*>(base)[index] = ToBFloat16(value);
  }
}

// The value as it is after rounding to the type.
float Rounded(DType dtype, float value) {
  return dtype == DType::kF32 ? value : ToFloat(ToBFloat16(value));
}

// What element `index` of the slab becomes, in the order of the ranks or in the reverse one.
float ReducedValue(const ReduceScatterCase& test, int world, int64_t index, float before,
                   bool reverse) {
  float sum = 0;
  for (int step = 0; step < world; ++step) {
    const int source = reverse ? world - 1 - step : step;
    const float term = Rounded(test.slab, TestValue(source, index));
    if (test.accumulate) {
      if (step == 0) sum = before;
      const float scaled = test.scale * term;
      sum = sum + scaled;
    } else {
      sum = step == 0 ? term : sum + term;
    }
  }
  return Rounded(test.out, test.accumulate ? sum : test.scale * sum);
}

// Returns how many of my elements would have other bits in another order.
int64_t RunReduceScatter(const ConformanceRank& rank, CommunicatorRig& rig,
                         const ReduceScatterCase& test, int variant) {
  const int64_t unit = SizeOf(test.slab);
  const auto ranges = UnevenRanges(rig.world(), unit, variant);
  rig.Refill();
  const SlabRange mine = ranges[static_cast<size_t>(rig.rank())];
  const int64_t first = mine.offset_bytes / unit;
  const int64_t elements = mine.bytes / unit;
  for (int64_t i = 0; i < SlabBytesFor(ranges, unit) / unit; ++i) {
    Store(rig.slab(), test.slab, i, TestValue(rig.rank(), i));
  }

  const TestMemory other(rank.backend, elements * 4 + 4);
  std::byte* out = test.in_place ? rig.slab() + mine.offset_bytes : other.host();
  std::vector<float> before;
  for (int64_t i = 0; i < elements; ++i) {
    before.push_back(Rounded(
        test.out, test.in_place ? TestValue(rig.rank(), first + i) : TestValue(1000, first + i)));
    Store(out, test.out, i, before.back());
  }
  other.Upload(rig.stream());
  std::byte* const device_out =
      test.in_place ? rig.device_slab() + mine.offset_bytes : other.device();
  rig.communicator().ReduceScatter(rig.stream(), {.dtype = test.slab,
                                                  .ranges = ranges,
                                                  .out = {device_out, test.out, {elements}},
                                                  .scale = test.scale,
                                                  .accumulate = test.accumulate});
  other.Download(rig.stream());
  rig.Finish();

  int64_t sensitive = 0;
  for (int64_t i = 0; i < elements; ++i) {
    const float expected = ReducedValue(test, rig.world(), first + i,
                                        before[static_cast<size_t>(i)], /*reverse=*/false);
    const float got = test.out == DType::kF32 ? reinterpret_cast<float*>(out)[i]
                                              : ToFloat(reinterpret_cast<BFloat16*>(out)[i]);
    EXPECT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(expected))
        << "element " << i << " of " << elements << ": " << got << ", not " << expected;
    if (std::bit_cast<uint32_t>(got) != std::bit_cast<uint32_t>(expected)) return 0;
    sensitive += expected != ReducedValue(test, rig.world(), first + i,
                                          before[static_cast<size_t>(i)], /*reverse=*/true);
  }
  return sensitive;
}

void ReduceScatterInRankOrder(const ConformanceRank& rank) {
  int64_t sensitive = 0;
  for (const CommunicatorOptions& mode : Modes(rank.kind)) {
    CommunicatorRig rig(rank, mode, MostSlabBytes(rank.bootstrap.world(), 4));
    int variant = 0;
    for (DType slab : {DType::kF32, DType::kBF16}) {
      for (DType out : {DType::kF32, DType::kBF16}) {
        for (float scale : {1.0f, 1.0f / 3.0f}) {
          for (bool accumulate : {false, true}) {
            sensitive += RunReduceScatter(
                rank, rig, {.slab = slab, .out = out, .scale = scale, .accumulate = accumulate},
                variant++);
          }
        }
      }
    }
  }
  // Otherwise the case could not tell one order from another.
  EXPECT_TRUE(rank.bootstrap.world() < 3 || sensitive > 100) << sensitive;
}

void ReduceScatterInPlace(const ConformanceRank& rank) {
  for (const CommunicatorOptions& mode : Modes(rank.kind)) {
    CommunicatorRig rig(rank, mode, MostSlabBytes(rank.bootstrap.world(), 4));
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      for (int variant = 0; variant < kVariants; ++variant) {
        RunReduceScatter(rank, rig, {.slab = dtype, .out = dtype, .in_place = true}, variant);
      }
    }
  }
}

// ---- All-reduce ----

void AllReduceFloats(const ConformanceRank& rank) {
  constexpr int64_t kElements = 101;
  for (const CommunicatorOptions& mode : Modes(rank.kind)) {
    CommunicatorRig rig(rank, mode, kElements * 4);
    for (AllReduceOp op : {AllReduceOp::kSum, AllReduceOp::kMax}) {
      rig.Refill();
      // Element e is not a number on rank e of the first `world` elements.
      const auto value = [](int source, int64_t i) {
        return i == source ? std::numeric_limits<float>::quiet_NaN() : TestValue(source, i);
      };
      for (int64_t i = 0; i < kElements; ++i) rig.slab_as<float>()[i] = value(rig.rank(), i);
      rig.communicator().AllReduce(
          rig.stream(),
          {.dtype = DType::kF32, .op = op, .range = {.offset_bytes = 0, .bytes = kElements * 4}});
      rig.Finish();
      for (int64_t i = 0; i < kElements; ++i) {
        const float got = rig.slab_as<float>()[i];
        if (i < rig.world()) {
          EXPECT_TRUE(std::isnan(got)) << "element " << i << " is " << got;
          continue;
        }
        float expected = value(0, i);
        for (int source = 1; source < rig.world(); ++source) {
          expected = op == AllReduceOp::kSum ? expected + value(source, i)
                                             : std::fmax(expected, value(source, i));
        }
        EXPECT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(expected)) << i;
      }
    }
  }
}

void AllReduceIntegers(const ConformanceRank& rank) {
  constexpr int64_t kElements = 37;
  constexpr int64_t kOffset = 16;
  for (const CommunicatorOptions& mode : Modes(rank.kind)) {
    CommunicatorRig rig(rank, mode, kOffset + kElements * 8 + 8);
    for (AllReduceOp op : {AllReduceOp::kSum, AllReduceOp::kMax}) {
      rig.Refill();
      int64_t* values = rig.slab_as<int64_t>(kOffset);
      for (int64_t i = 0; i <= kElements; ++i) values[i] = TestInteger(rig.rank(), i);
      const AllReduceArgs args{.dtype = DType::kI64,
                               .op = op,
                               .range = {.offset_bytes = kOffset, .bytes = kElements * 8}};
      rig.communicator().AllReduce(rig.stream(), args);
      // An empty one moves nothing and leaves nothing waiting.
      rig.communicator().AllReduce(
          rig.stream(), {.dtype = DType::kI64, .range = {.offset_bytes = kOffset, .bytes = 0}});
      rig.Finish();
      for (int64_t i = 0; i < kElements; ++i) {
        auto sum = static_cast<uint64_t>(TestInteger(0, i));
        int64_t largest = TestInteger(0, i);
        for (int source = 1; source < rig.world(); ++source) {
          sum += static_cast<uint64_t>(TestInteger(source, i));
          largest = std::max(largest, TestInteger(source, i));
        }
        EXPECT_EQ(values[i], op == AllReduceOp::kSum ? static_cast<int64_t>(sum) : largest) << i;
      }
      EXPECT_EQ(values[kElements], TestInteger(rig.rank(), kElements)) << "beyond the range";
    }
  }
}

// ---- Sums everywhere ----

// Of memory that is no slab; what no rank adds stays as it is.
void SumEverywhereInRankOrder(const ConformanceRank& rank) {
  if (rank.kind == "copy_engine") return;  // which reaches slabs alone
  int64_t sensitive = 0;
  for (const CommunicatorOptions& mode : Modes(rank.kind)) {
    const int world = rank.bootstrap.world();
    CommunicatorRig rig(rank, mode, 64);
    for (int variant = 0; variant < kVariants; ++variant) {
      const DType dtype = variant % 2 == 0 ? DType::kF32 : DType::kBF16;
      const int64_t unit = SizeOf(dtype);
      const auto parts = UnevenRanges(world, unit, variant);
      const int64_t elements = SlabBytesFor(parts, unit) / unit;
      const TestMemory data(rank.backend, elements * unit);
      for (int64_t i = 0; i < elements; ++i) {
        Store(data.host(), dtype, i, TestValue(rig.rank(), i));
      }
      data.Upload(rig.stream());
      rig.communicator().SumEverywhere(
          rig.stream(), {.data = {data.device(), dtype, {elements}}, .parts = parts});
      data.Download(rig.stream());
      rig.Finish();
      for (int64_t i = 0; i < elements; ++i) {
        const bool added = std::any_of(parts.begin(), parts.end(), [&](const SlabRange& part) {
          return i * unit >= part.offset_bytes && i * unit < part.offset_bytes + part.bytes;
        });
        const ReduceScatterCase sum{.slab = dtype, .out = dtype};
        const float expected = added ? ReducedValue(sum, world, i, 0, /*reverse=*/false)
                                     : Rounded(dtype, TestValue(rig.rank(), i));
        const float got = dtype == DType::kF32
                              ? reinterpret_cast<float*>(data.host())[i]
                              : ToFloat(reinterpret_cast<BFloat16*>(data.host())[i]);
        ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(expected))
            << "element " << i << " of " << elements << ", variant " << variant;
        sensitive += added && expected != ReducedValue(sum, world, i, 0, /*reverse=*/true);
      }
    }
  }
  EXPECT_TRUE(rank.bootstrap.world() < 3 || sensitive > 100) << sensitive;
}

// ---- Many at once ----

// Two communicators on two streams, each with a long queue in which every collective reads what the
// one before it wrote.
void ManyInFlight(const ConformanceRank& rank) {
  constexpr int kCollectives = 30;
  constexpr int64_t kElements = 50;
  for (const CommunicatorOptions& mode : Modes(rank.kind)) {
    CommunicatorRig first(rank, mode, kElements * 8);
    CommunicatorRig second(rank, mode, kElements * 8);
    for (CommunicatorRig* rig : {&first, &second}) {
      for (int64_t i = 0; i < kElements; ++i) rig->slab_as<int64_t>()[i] = TestInteger(0, i);
    }
    const SlabRange range{.offset_bytes = 0, .bytes = kElements * 8};
    for (int i = 0; i < kCollectives; ++i) {
      first.communicator().AllReduce(first.stream(), {.dtype = DType::kI64, .range = range});
      second.communicator().AllReduce(second.stream(), {.dtype = DType::kI64, .range = range});
    }
    first.Finish();
    second.Finish();
    for (CommunicatorRig* rig : {&first, &second}) {
      EXPECT_EQ(rig->communicator().enqueued(), kCollectives);
      EXPECT_EQ(rig->communicator().completed(), kCollectives);
      for (int64_t i = 0; i < kElements; ++i) {
        auto expected = static_cast<uint64_t>(TestInteger(0, i));
        for (int n = 0; n < kCollectives; ++n) expected *= static_cast<uint64_t>(rig->world());
        ASSERT_EQ(rig->slab_as<int64_t>()[i], static_cast<int64_t>(expected)) << i;
      }
    }
  }
}

// One communicator serves two streams in turn; ranks come at different times.
void TwoStreamsShareOne(const ConformanceRank& rank) {
  constexpr int kCollectives = 12;
  constexpr int64_t kElements = 40;
  constexpr int64_t kHalf = kElements * 4;
  for (const CommunicatorOptions& mode : Modes(rank.kind)) {
    CommunicatorRig rig(rank, mode, 2 * kHalf);
    const auto other = rank.backend.device().CreateStream("other");
    for (int64_t i = 0; i < 2 * kElements; ++i) {
      rig.slab_as<float>()[i] = TestValue(rig.rank(), i);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(3 * rig.rank()));
    for (int n = 0; n < kCollectives; ++n) {
      Stream& stream = n % 2 == 0 ? rig.stream() : *other;
      rig.communicator().AllReduce(stream,
                                   {.dtype = DType::kF32,
                                    .op = AllReduceOp::kMax,
                                    .range = {.offset_bytes = n % 2 * kHalf, .bytes = kHalf}});
    }
    other->Synchronize(kRigTimeout);
    rig.Finish();
    for (int64_t i = 0; i < 2 * kElements; ++i) {
      float expected = TestValue(0, i);
      for (int source = 1; source < rig.world(); ++source) {
        expected = std::fmax(expected, TestValue(source, i));
      }
      ASSERT_EQ(rig.slab_as<float>()[i], expected) << i;
    }
  }
}

// A released slab may go before its communicator.
void SlabGoesFirst(const ConformanceRank& rank) {
  constexpr int64_t kBytes = 5000;
  for (const CommunicatorOptions& mode : Modes(rank.kind)) {
    const auto stream = rank.backend.device().CreateStream("rig");
    const auto communicator = MakeCommunicator(rank.kind, rank.bootstrap, rank.backend, mode);
    const TestMemory slab(rank.backend, kBytes);  // destroyed first
    communicator->RegisterSlab({slab.device(), DType::kU8, {kBytes}});
    slab.Upload(*stream);
    communicator->Broadcast(*stream, {.range = {.offset_bytes = 0, .bytes = kBytes}});
    stream->Synchronize(kRigTimeout);
    const auto begin = std::chrono::steady_clock::now();
    communicator->ReleaseSlab();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4)) << "not all left";
  }
}

// What a communicator takes, to the byte, by the formulas written out.
CommunicatorMemory ExpectedMemory(const ConformanceRank& rank, const CommunicatorOptions& mode) {
  const int64_t world = rank.bootstrap.world();
  const int64_t piece = mode.piece_bytes;
  if (world == 1) return {};
  const int64_t board = (128 * world * world + 32 * world) * 4;
  // A half is cut into whole shares of 64 bytes.
  const auto halves = [&](int64_t pieces) {
    return 2 * world * (std::max(pieces, world) * piece / world / 64 * 64);
  };
  if (rank.kind == "nccl" || (rank.kind == "copy_engine" && !mode.stage)) {
    return {.device_bytes = halves(32), .shared_bytes = board};
  }
  if (rank.kind == "copy_engine") {
    return {.device_bytes = halves(4),
            .shared_bytes = board + 6 * world * std::max<int64_t>(4, world) * piece};
  }
  if (mode.stage || rank.backend.device().kind() != DeviceType::kCpu) {
    return {.device_bytes = world * piece, .pinned_bytes = 4 * world * piece};
  }
  return {.pinned_bytes = 2 * world * piece};
}

void TakesWhatIsPlanned(const ConformanceRank& rank) {
  Device& device = rank.backend.device();
  for (const CommunicatorOptions& mode : Modes(rank.kind)) {
    const int64_t device_before = device.allocated_bytes(MemoryKind::kDevice);
    const int64_t pinned_before = device.allocated_bytes(MemoryKind::kPinnedHost);
    const auto communicator = MakeCommunicator(rank.kind, rank.bootstrap, rank.backend, mode);
    const CommunicatorMemory expected = ExpectedMemory(rank, mode);
    EXPECT_EQ(communicator->memory(), expected) << mode.piece_bytes << " " << mode.stage;
    EXPECT_EQ(MemoryOf({.kind = std::string(rank.kind),
                        .world = rank.bootstrap.world(),
                        .stage = mode.stage || device.kind() != DeviceType::kCpu,
                        .through_host = mode.stage,
                        .piece_bytes = mode.piece_bytes}),
              expected);
    EXPECT_EQ(device.allocated_bytes(MemoryKind::kDevice) - device_before, expected.device_bytes);
    EXPECT_EQ(device.allocated_bytes(MemoryKind::kPinnedHost) - pinned_before,
              expected.pinned_bytes);
  }
}

// A message that a transport may cut: looked at where it begins and ends and around whole MiB.
void LargeBroadcast(const ConformanceRank& rank) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  constexpr int64_t kBytes = 66 * kMiB + 12345;
  constexpr int64_t kWindow = 64;
  CommunicatorRig rig(rank, Modes(rank.kind).front(), kBytes);
  const auto for_each_byte = [&](const auto& use) {
    for (int64_t base = 0; base + kWindow < kBytes; base += kMiB) {
      for (int64_t i = std::max<int64_t>(0, base - kWindow); i < base + kWindow; ++i) use(i);
    }
    for (int64_t i = kBytes - kWindow; i < kBytes; ++i) use(i);
  };
  for_each_byte([&](int64_t i) { rig.slab()[i] = TestByte(rig.rank(), i); });
  rig.communicator().Broadcast(rig.stream(), {.range = {.offset_bytes = 1, .bytes = kBytes - 2}});
  rig.Finish();
  for_each_byte([&](int64_t i) {
    const int owner = i == 0 || i == kBytes - 1 ? rig.rank() : 0;
    EXPECT_EQ(rig.slab()[i], TestByte(owner, i)) << "byte " << i;
  });
}

}  // namespace

const std::vector<ConformanceCase>& CommunicatorCases() {
  static const std::vector<ConformanceCase> cases = {
      {"AllGatherUneven", &AllGatherUneven},
      {"BroadcastFromEachRoot", &BroadcastFromEachRoot},
      {"ReduceScatterInRankOrder", &ReduceScatterInRankOrder},
      {"ReduceScatterInPlace", &ReduceScatterInPlace},
      {"AllReduceFloats", &AllReduceFloats},
      {"AllReduceIntegers", &AllReduceIntegers},
      {"SumEverywhereInRankOrder", &SumEverywhereInRankOrder},
      {"ManyInFlight", &ManyInFlight},
      {"TwoStreamsShareOne", &TwoStreamsShareOne},
      {"TakesWhatIsPlanned", &TakesWhatIsPlanned},
      {"SlabGoesFirst", &SlabGoesFirst},
      {"LargeBroadcast", &LargeBroadcast},
  };
  return cases;
}

std::vector<ConformanceCase> ConformanceCases() {
  std::vector<ConformanceCase> all = BootstrapCases();
  for (const auto* cases : {&CommunicatorCases(), &CommunicatorFailureCases()}) {
    all.insert(all.end(), cases->begin(), cases->end());
  }
  return all;
}

}  // namespace hearth::test
