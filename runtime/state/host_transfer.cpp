#include "runtime/state/host_transfer.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "kernels/core/check.h"

namespace hearth {

namespace {

// Copies know no types.
TensorView BytesOf(const TensorView& view, int64_t begin, int64_t count) {
  return {static_cast<std::byte*>(view.data()) + begin, DType::kU8, {count}};
}

}  // namespace

bool HostTransfer::IsPinned(const void* data, int64_t bytes) const {
  const TensorView slab = memory_.host.Bytes();
  const auto* begin = static_cast<const std::byte*>(slab.data());
  const auto* at = static_cast<const std::byte*>(data);
  // Pointers of different allocations have a total order through std::less only.
  const std::less<> before;
  return !before(at, begin) && !before(begin + slab.bytes(), at + bytes);
}

TensorView HostTransfer::Piece(int64_t index, int64_t bytes) const {
  const MemoryLayout& layout = memory_.layout;
  return memory_.host.View(layout.transfer[static_cast<size_t>(index % 2)], DType::kU8, {bytes});
}

void HostTransfer::Download(const TensorView& source, void* destination) const {
  const int64_t total = source.bytes();
  if (total == 0) return;
  if (IsPinned(source.data(), total)) {
    std::memcpy(destination, source.data(), static_cast<size_t>(total));
    return;
  }
  if (IsPinned(destination, total)) {
    backend_.Copy(*streams_[0], {.source = BytesOf(source, 0, total),
                                 .destination = {destination, DType::kU8, {total}}});
    streams_[0]->Synchronize(timeout_);
    return;
  }
  auto* out = static_cast<std::byte*>(destination);
  const int64_t piece_bytes = memory_.layout.transfer_piece_bytes;
  const int64_t pieces = DivUp(total, piece_bytes);
  const auto size_of = [&](int64_t piece) {
    return std::min(piece_bytes, total - piece * piece_bytes);
  };
  // Each turn starts one copy and empties the piece of the copy before it.
  for (int64_t piece = 0; piece <= pieces; ++piece) {
    if (piece < pieces) {
      backend_.Copy(*streams_[static_cast<size_t>(piece % 2)],
                    {.source = BytesOf(source, piece * piece_bytes, size_of(piece)),
                     .destination = Piece(piece, size_of(piece))});
    }
    if (piece == 0) continue;
    const int64_t done = piece - 1;
    streams_[static_cast<size_t>(done % 2)]->Synchronize(timeout_);
    std::memcpy(out + done * piece_bytes, Piece(done, size_of(done)).data(),
                static_cast<size_t>(size_of(done)));
  }
}

void HostTransfer::Upload(const void* source, const TensorView& destination) const {
  const auto* in = static_cast<const std::byte*>(source);
  Fill(destination, [in](int64_t begin, std::span<std::byte> out) {
    std::memcpy(out.data(), in + begin, out.size());
  });
}

void HostTransfer::Fill(const TensorView& destination, const Filler& fill) const {
  const int64_t total = destination.bytes();
  if (total == 0) return;
  if (IsPinned(destination.data(), total)) {
    fill(0, {static_cast<std::byte*>(destination.data()), static_cast<size_t>(total)});
    return;
  }
  const int64_t piece_bytes = memory_.layout.transfer_piece_bytes;
  for (int64_t begin = 0, piece = 0; begin < total; begin += piece_bytes, ++piece) {
    const int64_t count = std::min(piece_bytes, total - begin);
    Stream& stream = *streams_[static_cast<size_t>(piece % 2)];
    stream.Synchronize(timeout_);  // the copy out of this piece two turns ago
    const TensorView staged = Piece(piece, count);
    fill(begin, {static_cast<std::byte*>(staged.data()), static_cast<size_t>(count)});
    backend_.Copy(stream, {.source = staged, .destination = BytesOf(destination, begin, count)});
  }
  for (Stream* stream : streams_) stream->Synchronize(timeout_);
}

}  // namespace hearth
