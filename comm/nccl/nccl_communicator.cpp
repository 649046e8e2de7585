#include "comm/nccl/nccl_communicator.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "comm/copy_engine/collective_pieces.h"
#include "comm/copy_engine/flag_board.h"
#include "kernels/api/combine.h"
#include "kernels/core/check.h"
#include "kernels/cuda/cuda_native.h"

namespace hearth {

namespace {

constexpr std::chrono::seconds kWarmUpTimeout{60};
constexpr std::string_view kWarmUp = "warm-up";

ncclDataType_t NcclType(DType dtype) { return dtype == DType::kF32 ? ncclFloat32 : ncclBfloat16; }

size_t Size(const TensorView& view) { return static_cast<size_t>(view.bytes()); }

// Equal ranges in the order of the ranks, without gaps.
bool AreUniform(const std::vector<SlabRange>& ranges) {
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].bytes != ranges[0].bytes ||
        ranges[i].offset_bytes != ranges[i - 1].offset_bytes + ranges[0].bytes) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::unique_ptr<Communicator> MakeNcclCommunicator(Bootstrap& bootstrap, KernelBackend& backend,
                                                   const NcclOptions& options) {
  return std::make_unique<NcclCommunicator>(bootstrap, backend, options);
}

NcclCommunicator::NcclCommunicator(Bootstrap& bootstrap, KernelBackend& backend,
                                   const NcclOptions& options)
    : backend_(backend),
      options_(options),
      rank_(bootstrap.rank()),
      world_(bootstrap.world()),
      has_own_board_(bootstrap.local_world() != bootstrap.world()) {
  CHECK(options.piece_bytes > 0 && options.piece_bytes % kExchangeAlignment == 0,
        "pieces of {} bytes", options.piece_bytes);
  CHECK(backend.device().kind() == DeviceType::kCuda && world_ > 1, "NCCL for {} ranks on a {}",
        world_, backend.device().name());
  for (int step = 1; step < world_; ++step) peers_.push_back((rank_ + step) % world_);
  Device& device = backend.device();
  nccl_ = LoadNccl();
  share_bytes_ = ExchangeShareBytes(ExchangeSlotBytes(false, world_, options.piece_bytes), world_);
  landing_ = device.Allocate(kLandingHalves * world_ * share_bytes_, MemoryKind::kDevice);
  for (auto* event : {&begin_, &moved_, &landed_[0], &landed_[1], &freed_[0], &freed_[1]}) {
    *event = device.CreateEvent();
  }
  channel_ = std::make_unique<NcclChannel>(nccl_, bootstrap, device, options.collective_timeout);
  sequence_ = std::make_unique<CollectiveSequence>(
      bootstrap, device,
      CollectiveSequenceArgs{.timeout = options.collective_timeout,
                             .check = [this] { channel_->CheckAsync(); },
                             .abort = [this] { channel_->Abort(); }});
  WarmUp();
}

NcclCommunicator::~NcclCommunicator() {
  if (!sequence_->Stop()) {
    // Its destructor would wait, perhaps for ever.
    channel_.release();
    new Buffer(std::move(landing_));
    return;
  }
  sequence_->Leave();
}

CommunicatorMemory NcclCommunicator::memory() const {
  CommunicatorMemory memory{.device_bytes = landing_.bytes()};
  (has_own_board_ ? memory.pinned_bytes : memory.shared_bytes) = sequence_->board().bytes();
  return memory;
}

int64_t NcclCommunicator::completed() const { return sequence_->completed(); }

void NcclCommunicator::WarmUp() {
  // Small and large messages go different ways.
  for (int64_t bytes : {kExchangeAlignment, share_bytes_}) {
    channel_->Enqueue(kWarmUp, [&](ncclComm_t comm) {
      channel_->Check(nccl_.all_gather(landing_.data() + rank_ * bytes, landing_.data(),
                                       static_cast<size_t>(bytes), ncclInt8, comm,
                                       NativeStream(channel_->stream())),
                      "ncclAllGather");
    });
    channel_->Enqueue(kWarmUp, [&](ncclComm_t comm) {
      channel_->Check(nccl_.broadcast(landing_.data(), landing_.data(), static_cast<size_t>(bytes),
                                      ncclInt8, 0, comm, NativeStream(channel_->stream())),
                      "ncclBroadcast");
    });
    channel_->Enqueue(kWarmUp, [&](ncclComm_t comm) {
      for (int peer : peers_) {
        Send(comm, Landing(0, rank_, bytes), peer);
        Receive(comm, Landing(0, peer, bytes), peer);
      }
    });
  }
  channel_->stream().Synchronize(kWarmUpTimeout);
}

// ---- Collectives ----

void NcclCommunicator::DoAllGather(Stream& stream, const AllGatherArgs& args) {
  if (!Begin(stream, "all-gather", ColumnOf(CollectiveKind::kAllGather, {}, args.ranges))) return;
  const auto bytes_of = [&](int owner) {
    return SlabBytes(args.ranges[static_cast<size_t>(owner)]);
  };
  channel_->Enqueue("all-gather", [&](ncclComm_t comm) {
    if (AreUniform(args.ranges)) {
      const TensorView mine = bytes_of(rank_);
      if (mine.bytes() == 0) return;
      channel_->Check(nccl_.all_gather(mine.data(), bytes_of(0).data(), Size(mine), ncclInt8, comm,
                                       NativeStream(channel_->stream())),
                      "ncclAllGather");
      return;
    }
    for (int peer : peers_) {
      Send(comm, bytes_of(rank_), peer);
      Receive(comm, bytes_of(peer), peer);
    }
  });
  End(stream);
}

void NcclCommunicator::DoReduceScatter(Stream& stream, const ReduceScatterArgs& args) {
  if (!Begin(stream, "reduce-scatter",
             ColumnOf(CollectiveKind::kReduceScatter, {static_cast<int64_t>(args.dtype)},
                      args.ranges))) {
    return;
  }
  const int64_t unit = SizeOf(args.dtype);
  const SlabRange& whole = args.ranges[static_cast<size_t>(rank_)];
  if (CanReduceNatively(args)) {
    channel_->Enqueue("reduce-scatter", [&](ncclComm_t comm) {
      channel_->Check(
          nccl_.reduce_scatter(SlabBytes(args.ranges[0]).data(), args.out.data(),
                               static_cast<size_t>(args.out.elements()), NcclType(args.dtype),
                               ncclSum, comm, NativeStream(channel_->stream())),
          "ncclReduceScatter");
    });
    return End(stream);
  }
  const int64_t rounds = CountPieces(args.ranges, share_bytes_);
  for (int64_t index = 0; index < rounds; ++index) {
    const SlabRange mine = Piece(whole, index, share_bytes_);
    OrderedSumArgs sum{.scale = args.scale, .accumulate = args.accumulate};
    for (int source = 0; source < world_ && mine.bytes > 0; ++source) {
      const TensorView bytes =
          source == rank_ ? SlabBytes(mine) : Landing(index, source, mine.bytes);
      sum.inputs.emplace_back(bytes.data(), args.dtype, Shape{mine.bytes / unit});
    }
    if (mine.bytes > 0) {
      sum.out = args.out.Flat((mine.offset_bytes - whole.offset_bytes) / unit, mine.bytes / unit);
    }
    ExchangeAndReduce(
        stream, index, "reduce-scatter",
        [&](ncclComm_t comm) {
          for (int peer : peers_) {
            Send(comm,
                 SlabBytes(Piece(args.ranges[static_cast<size_t>(peer)], index, share_bytes_)),
                 peer);
            Receive(comm, Landing(index, peer, mine.bytes), peer);
          }
        },
        [&] {
          if (!sum.inputs.empty()) backend_.OrderedSum(stream, sum);
        });
  }
  End(stream);
}

void NcclCommunicator::DoAllReduce(Stream& stream, const AllReduceArgs& args) {
  if (!Begin(stream, "all-reduce",
             ColumnOf(CollectiveKind::kAllReduce,
                      {static_cast<int64_t>(args.dtype), static_cast<int64_t>(args.op)},
                      {args.range}))) {
    return;
  }
  const auto as_term = [&](const TensorView& bytes) {
    return TensorView(bytes.data(), args.dtype, {bytes.bytes() / SizeOf(args.dtype)});
  };
  const int64_t rounds = CountPieces({args.range}, share_bytes_);
  for (int64_t index = 0; index < rounds; ++index) {
    const SlabRange range = Piece(args.range, index, share_bytes_);
    if (range.bytes == 0) break;
    CombineArgs combine{.out = as_term(SlabBytes(range)),
                        .op = args.op == AllReduceOp::kSum ? CombineOp::kSum : CombineOp::kMax};
    for (int source = 0; source < world_; ++source) {
      combine.inputs.push_back(source == rank_ ? combine.out
                                               : as_term(Landing(index, source, range.bytes)));
    }
    ExchangeAndReduce(
        stream, index, "all-reduce",
        [&](ncclComm_t comm) {
          for (int peer : peers_) {
            Send(comm, SlabBytes(range), peer);
            Receive(comm, Landing(index, peer, range.bytes), peer);
          }
        },
        [&] { Combine(stream, combine); });
  }
  End(stream);
}

void NcclCommunicator::DoBroadcast(Stream& stream, const BroadcastArgs& args) {
  if (!Begin(stream, "broadcast",
             ColumnOf(CollectiveKind::kBroadcast, {args.root}, {args.range}))) {
    return;
  }
  channel_->Enqueue("broadcast", [&](ncclComm_t comm) {
    const TensorView bytes = SlabBytes(args.range);
    if (bytes.bytes() == 0) return;
    channel_->Check(nccl_.broadcast(bytes.data(), bytes.data(), Size(bytes), ncclInt8, args.root,
                                    comm, NativeStream(channel_->stream())),
                    "ncclBroadcast");
  });
  End(stream);
}

// ---- Their parts ----

bool NcclCommunicator::Begin(Stream& stream, std::string_view operation, int column) {
  const std::optional<uint32_t> round = sequence_->Begin(
      stream, {.operation = operation, .number = enqueued(), .rounds = 1, .column = column});
  if (!round) return false;
  round_ = *round;
  column_ = column;
  FlagBoard& board = sequence_->board();
  board.Post(stream, Flag::kReady, column_, round_);
  board.AwaitAll(stream, Flag::kReady, column_, round_);
  stream.Record(*begin_);
  channel_->stream().Wait(*begin_);
  return true;
}

void NcclCommunicator::End(Stream& stream) {
  channel_->stream().Record(*moved_);
  stream.Wait(*moved_);
  sequence_->board().Post(stream, Flag::kDone, column_, round_);
  sequence_->End(stream);
}

bool NcclCommunicator::CanReduceNatively(const ReduceScatterArgs& args) const {
  return !options_.deterministic && !args.accumulate && args.scale == 1.0f &&
         args.out.dtype() == args.dtype && AreUniform(args.ranges) && args.ranges[0].bytes > 0;
}

void NcclCommunicator::ExchangeAndReduce(Stream& stream, int64_t index, std::string_view operation,
                                         const std::function<void(ncclComm_t)>& calls,
                                         const std::function<void()>& reduce) {
  const auto half = static_cast<size_t>(index % kLandingHalves);
  if (index >= kLandingHalves) channel_->stream().Wait(*freed_[half]);
  channel_->Enqueue(operation, calls);
  channel_->stream().Record(*landed_[half]);
  stream.Wait(*landed_[half]);
  reduce();
  stream.Record(*freed_[half]);
}

TensorView NcclCommunicator::Landing(int64_t index, int source, int64_t bytes) const {
  return landing_.View((index % kLandingHalves * world_ + source) * share_bytes_, DType::kU8,
                       {bytes});
}

void NcclCommunicator::Send(ncclComm_t comm, const TensorView& bytes, int peer) {
  if (bytes.bytes() == 0) return;
  channel_->Check(
      nccl_.send(bytes.data(), Size(bytes), ncclInt8, peer, comm, NativeStream(channel_->stream())),
      "ncclSend");
}

void NcclCommunicator::Receive(ncclComm_t comm, const TensorView& bytes, int peer) {
  if (bytes.bytes() == 0) return;
  channel_->Check(nccl_.receive(bytes.data(), Size(bytes), ncclInt8, peer, comm,
                                NativeStream(channel_->stream())),
                  "ncclRecv");
}

}  // namespace hearth
