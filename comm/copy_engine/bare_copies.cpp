#include "comm/api/bare_copies.h"

#include <algorithm>
#include <memory>

#include "comm/copy_engine/collective_pieces.h"
#include "comm/copy_engine/copy_engine.h"
#include "comm/copy_engine/peer_slabs.h"
#include "comm/copy_engine/shared_segment.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

// So large that what a copy takes to begin does not count.
constexpr int64_t kChunkBytes = int64_t{8} << 20;

class EngineBareCopies final : public BareCopies {
 public:
  EngineBareCopies(Bootstrap& bootstrap, KernelBackend& backend, const TensorView& slab,
                   bool through_host)
      : backend_(backend),
        rank_(bootstrap.rank()),
        world_(bootstrap.world()),
        slab_(slab),
        in_(backend.device().CreateStream("bare copies in")),
        out_(backend.device().CreateStream("bare copies out")),
        begin_(backend.device().CreateEvent()),
        in_done_(backend.device().CreateEvent()),
        out_done_(backend.device().CreateEvent()) {
    if (through_host) {
      chunks_ = std::make_unique<SharedSegment>(bootstrap, world_ * kChunkBytes);
      return;
    }
    peers_ = std::make_unique<PeerSlabs>(bootstrap, slab);
    if (!peers_->why_not().empty()) throw CommError(peers_->why_not());
  }

  void Enqueue(Stream& stream, const std::vector<SlabRange>& ranges) override {
    stream.Record(*begin_);
    in_->Wait(*begin_);
    out_->Wait(*begin_);
    if (chunks_) {
      CopyThroughHost(ranges);
    } else {
      CopyFromPeers(ranges);
    }
    in_->Record(*in_done_);
    out_->Record(*out_done_);
    stream.Wait(*in_done_);
    stream.Wait(*out_done_);
  }

 private:
  TensorView SlabBytes(const SlabRange& range) const {
    return slab_.Rows(range.offset_bytes, range.bytes);
  }

  void CopyFromPeers(const std::vector<SlabRange>& ranges) {
    for (int step = 1; step < world_; ++step) {
      const int peer = (rank_ + step) % world_;
      const SlabRange& range = ranges[static_cast<size_t>(peer)];
      if (range.bytes == 0) continue;
      const TensorView source(peers_->slab(peer) + range.offset_bytes, DType::kU8, {range.bytes});
      backend_.Copy(*in_, {.source = source, .destination = SlabBytes(range)});
    }
  }

  void CopyThroughHost(const std::vector<SlabRange>& ranges) {
    const int64_t rounds = CountPieces(ranges, kChunkBytes);
    for (int64_t index = 0; index < rounds; ++index) {
      for (int step = 0; step < world_; ++step) {
        const int owner = (rank_ + step) % world_;
        const SlabRange range = Piece(ranges[static_cast<size_t>(owner)], index, kChunkBytes);
        if (range.bytes == 0) continue;
        const TensorView chunk(chunks_->device() + owner * kChunkBytes, DType::kU8, {range.bytes});
        if (step == 0) {
          backend_.Copy(*out_, {.source = SlabBytes(range), .destination = chunk});
        } else {
          backend_.Copy(*in_, {.source = chunk, .destination = SlabBytes(range)});
        }
      }
    }
  }

  KernelBackend& backend_;
  const int rank_;
  const int world_;
  const TensorView slab_;
  std::unique_ptr<SharedSegment> chunks_;  // [world][kChunkBytes]; through the host only
  std::unique_ptr<PeerSlabs> peers_;
  std::unique_ptr<Stream> in_;  // destroyed before what its work uses
  std::unique_ptr<Stream> out_;
  std::unique_ptr<Event> begin_;
  std::unique_ptr<Event> in_done_;
  std::unique_ptr<Event> out_done_;
};

}  // namespace

std::unique_ptr<BareCopies> MakeEngineBareCopies(Bootstrap& bootstrap, KernelBackend& backend,
                                                 const TensorView& slab, bool through_host) {
  return std::make_unique<EngineBareCopies>(bootstrap, backend, slab, through_host);
}

}  // namespace hearth
