#include "kernels/host/host_adamw.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "kernels/api/checks.h"
#include "kernels/host/simd_kernels.h"

namespace hearth {

namespace {

// Elements of a task: some tens of microseconds, and of all arrays together less than a
// second-level cache.
constexpr int64_t kPieceElements = 32768;
// Pieces start at multiples of this in their parameter, so that only a segment's ends leave the
// vector loop.
constexpr int64_t kPieceAlignment = 64;

struct Piece {
  size_t segment = 0;
  int64_t begin = 0;  // relative to the segment
  int64_t end = 0;
};

std::vector<Piece> CutIntoPieces(const std::vector<AdamwSegment>& segments) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < segments.size(); ++i) {
    const int64_t count = segments[i].count;
    int64_t end = kPieceElements - segments[i].first_element % kPieceAlignment;
    for (int64_t begin = 0; begin < count; begin = end, end += kPieceElements) {
      pieces.push_back({i, begin, std::min(end, count)});
    }
  }
  return pieces;
}

StoredFloats At(const TensorView& view, int64_t element) {
  if (!view) return {};
  return {static_cast<std::byte*>(view.data()) + element * SizeOf(view.dtype()),
          view.dtype() == DType::kBF16};
}

float MaxAmax(float a, uint32_t bits) {
  const uint32_t magnitude = std::bit_cast<uint32_t>(a) & 0x7fffffffu;
  return std::bit_cast<float>(std::max(magnitude, bits));
}

}  // namespace

std::string HostAdamw::simd_target() { return SimdTargetName(); }

void HostAdamw::Update(const AdamwArgs& args, std::span<float> amax) {
  Validate(args);
  UpdateControl control;
  std::memcpy(&control, args.control.data(), sizeof control);
  if (control.skip != 0) {
    if (args.weight) RoundMaster(args, amax);
    return;
  }
  ForEachSegmentPiece(args, amax, [&](const AdamwSegment& segment, int64_t begin, int64_t end) {
    const int64_t at = segment.begin + begin;
    return UpdateElements({.gradient = At(args.gradient, at),
                           .m = At(args.m, at),
                           .v = At(args.v, at),
                           .master = At(args.master, at),
                           .weight = At(args.weight, at),
                           .count = end - begin,
                           .first_element = static_cast<uint64_t>(segment.first_element + begin),
                           .tensor_id = segment.tensor_id,
                           .clip_factor = control.clip_factor,
                           .decay = segment.decay ? args.hyper.weight_decay : 0.0f,
                           .hyper = &args.hyper});
  });
}

void HostAdamw::RoundMaster(const AdamwArgs& args, std::span<float> amax) {
  ValidateRoundMaster(args);
  ForEachSegmentPiece(args, amax, [&](const AdamwSegment& segment, int64_t begin, int64_t end) {
    const int64_t at = segment.begin + begin;
    return RoundElements(At(args.master, at), At(args.weight, at), end - begin);
  });
}

void HostAdamw::ForEachSegmentPiece(const AdamwArgs& args, std::span<float> amax,
                                    const PieceWork& work) {
  CHECK(amax.empty() || amax.size() == args.segments.size(), "{} amax words for {} segments",
        amax.size(), args.segments.size());
  CHECK(amax.empty() || args.weight, "{} amax words, but no weight is written", amax.size());
  const std::vector<Piece> pieces = CutIntoPieces(args.segments);
  std::vector<uint32_t> largest(pieces.size());
  pool_.ForEach(static_cast<int64_t>(pieces.size()), [&](int64_t index) {
    const Piece& piece = pieces[static_cast<size_t>(index)];
    largest[static_cast<size_t>(index)] =
        work(args.segments[piece.segment], piece.begin, piece.end);
  });
  if (amax.empty()) return;
  for (size_t i = 0; i < pieces.size(); ++i) {
    float& word = amax[pieces[i].segment];
    word = MaxAmax(word, largest[i]);
  }
}

void HostAdamw::Quantize(const TensorView& weight, float scale, const TensorView& out) {
  const NamedView named_weight{"quantize.weight", weight};
  const NamedView named_out{"quantize.out", out};
  CheckRank(named_weight, 1);
  CheckStorage(named_weight);
  CheckShape(named_out, weight.shape());
  CheckFloat8(named_out);
  CheckDisjoint(named_out, {named_weight});
  const int64_t count = weight.elements();
  pool_.ForEach(DivUp(count, kPieceElements), [&](int64_t index) {
    const int64_t begin = index * kPieceElements;
    QuantizeElements(At(weight, begin), std::min(kPieceElements, count - begin), scale, out.dtype(),
                     static_cast<uint8_t*>(out.data()) + begin);
  });
}

}  // namespace hearth
