#include "tests/support/communicator_rig.h"

#include <array>
#include <bit>
#include <string>

namespace hearth::test {

namespace {

uint64_t Mix(int rank, int64_t index) {
  uint64_t x = static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15u +
               (static_cast<uint64_t>(rank) + 1) * 0xd1b54a32d192ed03u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

std::vector<CommunicatorOptions> Modes(std::string_view kind) {
  // Ranks of a test are on one host.
  const std::string interface = kind == "tcp" ? "lo" : "";
  const CommunicatorOptions whole{.collective_timeout = kRigTimeout, .interface = interface};
  CommunicatorOptions pieces = whole;
  pieces.piece_bytes = 64;
  if (kind == "nccl") return {whole, pieces};  // which copies nothing through the host
  CommunicatorOptions staged = whole;
  CommunicatorOptions staged_pieces = pieces;
  staged.stage = staged_pieces.stage = true;
  return {whole, staged, pieces, staged_pieces};
}

TestMemory::TestMemory(KernelBackend& backend, int64_t bytes)
    : backend_(backend), device_(backend.device().Allocate(bytes, MemoryKind::kDevice)) {
  if (backend.device().kind() == DeviceType::kCpu) return;
  mirror_ = backend.device().Allocate(bytes, MemoryKind::kPinnedHost);
}

void TestMemory::Upload(Stream& stream) const {
  if (mirror_.bytes() == 0) return;
  backend_.Copy(stream, {.source = mirror_.View(0, DType::kU8, {bytes()}),
                         .destination = device_.View(0, DType::kU8, {bytes()})});
}

void TestMemory::Download(Stream& stream) const {
  if (mirror_.bytes() == 0) return;
  backend_.Copy(stream, {.source = device_.View(0, DType::kU8, {bytes()}),
                         .destination = mirror_.View(0, DType::kU8, {bytes()})});
}

CommunicatorRig::CommunicatorRig(const ConformanceRank& rank, const CommunicatorOptions& options,
                                 int64_t slab_bytes)
    : slab_(rank.backend, slab_bytes),
      stream_(rank.backend.device().CreateStream("rig")),
      communicator_(MakeCommunicator(rank.kind, rank.bootstrap, rank.backend, options)) {
  communicator_->RegisterSlab({slab_.device(), DType::kU8, {slab_bytes}});
  Refill();
}

void CommunicatorRig::Refill() {
  uploaded_ = false;
  if (slab_.bytes() > kFilledBytes) return;
  for (int64_t i = 0; i < slab_.bytes(); ++i) slab()[i] = TestByte(rank(), i);
}

Communicator& CommunicatorRig::communicator() {
  if (!uploaded_) {
    slab_.Upload(*stream_);
    stream_->Synchronize(kRigTimeout);
    uploaded_ = true;
  }
  return *communicator_;
}

void CommunicatorRig::Finish() {
  slab_.Download(*stream_);
  stream_->Synchronize(kRigTimeout);
}

float TestValue(int rank, int64_t index) {
  const uint64_t bits = Mix(rank, index);
  const auto sign = static_cast<uint32_t>(bits & 1u) << 31;
  const auto exponent = static_cast<uint32_t>(127 - 6 + (bits >> 1) % 13) << 23;
  return std::bit_cast<float>(sign | exponent | static_cast<uint32_t>(bits >> 41));
}

int64_t TestInteger(int rank, int64_t index) { return static_cast<int64_t>(Mix(rank, index)); }

std::byte TestByte(int rank, int64_t index) { return static_cast<std::byte>(Mix(rank, index)); }

std::vector<SlabRange> UnevenRanges(int parts, int64_t unit, int variant) {
  constexpr std::array<int64_t, 6> kUnits = {131, 0, 1, 257, 17, 64};
  std::vector<SlabRange> ranges;
  int64_t offset = unit;
  for (int part = 0; part < parts; ++part) {
    const int64_t bytes = kUnits[static_cast<size_t>(part + variant) % kUnits.size()] * unit;
    ranges.push_back({.offset_bytes = offset, .bytes = bytes});
    offset += bytes + unit;
  }
  return ranges;
}

int64_t SlabBytesFor(const std::vector<SlabRange>& ranges, int64_t unit) {
  return ranges.back().offset_bytes + ranges.back().bytes + unit;
}

}  // namespace hearth::test
