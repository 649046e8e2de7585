#include "comm/copy_engine/copy_engine_communicator.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "comm/copy_engine/collective_pieces.h"
#include "comm/copy_engine/flag_board.h"
#include "kernels/api/combine.h"
#include "kernels/core/check.h"
#include "kernels/core/log.h"
#include "kernels/cuda/cuda_native.h"

namespace hearth {

namespace {

// An allocation of the driver's own, not a part of one that others have mapped.
constexpr int64_t kTrialBytes = int64_t{2} << 20;

}  // namespace

std::unique_ptr<Communicator> MakeCopyEngineCommunicator(Bootstrap& bootstrap,
                                                         KernelBackend& backend,
                                                         const CopyEngineOptions& options) {
  return std::make_unique<CopyEngineCommunicator>(bootstrap, backend, options);
}

CopyEngineCommunicator::CopyEngineCommunicator(Bootstrap& bootstrap, KernelBackend& backend,
                                               const CopyEngineOptions& options)
    : bootstrap_(bootstrap),
      backend_(backend),
      options_(options),
      rank_(bootstrap.rank()),
      world_(bootstrap.world()) {
  CHECK(options.piece_bytes > 0 && options.piece_bytes % kExchangeAlignment == 0,
        "pieces of {} bytes", options.piece_bytes);
  CHECK(backend.device().kind() == DeviceType::kCuda && world_ > 1,
        "the copy engines of a {} for {} ranks", backend.device().name(), world_);
  if (bootstrap.local_world() != world_) {
    throw ConfigError(
        Format("comm.backend: copy_engine reaches the GPUs of one host only, and {} "
               "of {} ranks are on this one; use nccl, mpi or auto",
               bootstrap.local_world(), world_));
  }
  for (int step = 1; step < world_; ++step) peers_.push_back((rank_ + step) % world_);
  Device& device = backend.device();
  begin_ = device.CreateEvent();
  for (auto& posted : posted_) posted = device.CreateEvent();
  for (Lane& lane : lanes_) {
    lane.pulls = device.CreateStream("pulls");
    lane.puts = device.CreateStream("puts");
    for (auto* event : {&lane.landed, &lane.freed, &lane.pulled}) *event = device.CreateEvent();
  }
  sequence_ = std::make_unique<CollectiveSequence>(
      bootstrap, device, CollectiveSequenceArgs{.timeout = options.collective_timeout});
  ChoosePath();
}

CopyEngineCommunicator::~CopyEngineCommunicator() {
  if (!sequence_->Stop()) {
    if (slots_) slots_->Abandon();
    // Their destructors would wait, perhaps for ever.
    for (Lane& lane : lanes_) {
      lane.pulls.release();
      lane.puts.release();
    }
    peer_slabs_.release();
    new Buffer(std::move(landing_));
    return;
  }
  // Wait for the work on them.
  for (Lane& lane : lanes_) {
    lane.pulls.reset();
    lane.puts.reset();
  }
  peer_slabs_.reset();
  sequence_->Leave();
}

// ---- The path ----

void CopyEngineCommunicator::ChoosePath() {
  if (options_.through_host) return TakePath(false);
  const Buffer trial = backend_.device().Allocate(kTrialBytes, MemoryKind::kDevice);
  const std::string why_not =
      PeerSlabs(bootstrap_, trial.View(0, DType::kU8, {kTrialBytes})).why_not();
  bootstrap_.Barrier();  // nobody frees what another still maps
  if (!why_not.empty()) GiveUpPeers(why_not);
  TakePath(why_not.empty());
}

void CopyEngineCommunicator::GiveUpPeers(const std::string& why_not) const {
  if (options_.peers_only) throw CommError(why_not);
  if (rank_ == 0) LogWarning(Format("{}: the copy engines go through host memory", why_not));
}

void CopyEngineCommunicator::TakePath(bool from_peers) {
  slot_bytes_ = ExchangeSlotBytes(!from_peers, world_, options_.piece_bytes);
  whole_bytes_ = from_peers ? kWholeRange : slot_bytes_;
  share_bytes_ = ExchangeShareBytes(slot_bytes_, world_);
  if (!from_peers) {
    slots_ = std::make_unique<SharedSegment>(bootstrap_, world_ * kExchangeSlots * slot_bytes_);
  }
  landing_ =
      backend_.device().Allocate(kLandingHalves * world_ * share_bytes_, MemoryKind::kDevice);
}

CommunicatorMemory CopyEngineCommunicator::memory() const {
  return {.device_bytes = landing_.bytes(),
          .shared_bytes = sequence_->board().bytes() + (slots_ ? slots_->bytes() : 0)};
}

void CopyEngineCommunicator::DoRegisterSlab() {
  if (through_host()) return;
  peer_slabs_ = std::make_unique<PeerSlabs>(bootstrap_, slab());
  if (peer_slabs_->why_not().empty()) return;
  // A little could be mapped, and the slab cannot: some GPUs show only a part of their memory.
  const std::string why_not = peer_slabs_->why_not();
  peer_slabs_.reset();
  GiveUpPeers(why_not);
  TakePath(false);
}

void CopyEngineCommunicator::DoReleaseSlab() noexcept {
  if (!peer_slabs_ || !sequence_->Stop()) return;  // what did not end still uses them
  peer_slabs_.reset();
  sequence_->Leave();
}

int64_t CopyEngineCommunicator::completed() const { return sequence_->completed(); }

// ---- Collectives ----

void CopyEngineCommunicator::DoAllGather(Stream& stream, const AllGatherArgs& args) {
  const Call call{.operation = "all-gather",
                  .rounds = CountPieces(args.ranges, whole_bytes_),
                  .column = ColumnOf(CollectiveKind::kAllGather, {}, args.ranges)};
  Run(stream, call, [&](int64_t index) {
    Round round;
    const auto piece = [&](int owner) {
      return Piece(args.ranges[static_cast<size_t>(owner)], index, whole_bytes_);
    };
    round.puts.push_back({.range = piece(rank_)});
    for (int peer : peers_) {
      round.pulls.push_back(
          {.source = peer, .range = piece(peer), .destination = SlabBytes(piece(peer))});
    }
    return round;
  });
}

void CopyEngineCommunicator::DoReduceScatter(Stream& stream, const ReduceScatterArgs& args) {
  const SlabRange& whole = args.ranges[static_cast<size_t>(rank_)];
  const int64_t unit = SizeOf(args.dtype);
  // What a round sums, given its terms.
  const auto sum = [this, &args, &whole, unit](Stream& on, const SlabRange& mine,
                                               std::vector<TensorView> terms) {
    backend_.OrderedSum(on, {.inputs = std::move(terms),
                             .out = args.out.Flat((mine.offset_bytes - whole.offset_bytes) / unit,
                                                  mine.bytes / unit),
                             .scale = args.scale,
                             .accumulate = args.accumulate});
  };
  const auto as_term = [&](const TensorView& bytes) {
    return TensorView(bytes.data(), args.dtype, {bytes.bytes() / unit});
  };
  const Call call{.operation = "reduce-scatter",
                  .rounds = CountPieces(args.ranges, share_bytes_),
                  .column = ColumnOf(CollectiveKind::kReduceScatter,
                                     {static_cast<int64_t>(args.dtype)}, args.ranges)};
  Run(stream, call, [&](int64_t index) {
    Round round;
    for (int peer : peers_) {
      round.puts.push_back(
          {.range = Piece(args.ranges[static_cast<size_t>(peer)], index, share_bytes_),
           .slot_offset = peer * share_bytes_});
    }
    const SlabRange mine = Piece(whole, index, share_bytes_);
    if (mine.bytes == 0) return round;
    std::vector<TensorView> terms;
    for (int source = 0; source < world_; ++source) {
      terms.push_back(
          as_term(source == rank_ ? SlabBytes(mine) : Landing(index, source, mine.bytes)));
    }
    for (int peer : peers_) {
      round.pulls.push_back({.source = peer,
                             .range = mine,
                             .slot_offset = rank_ * share_bytes_,
                             .destination = Landing(index, peer, mine.bytes)});
    }
    round.reduce = [&sum, mine, terms](Stream& on) { sum(on, mine, terms); };
    return round;
  });
}

void CopyEngineCommunicator::DoAllReduce(Stream& stream, const AllReduceArgs& args) {
  const Call call{
      .operation = "all-reduce",
      .rounds = CountPieces({args.range}, share_bytes_),
      .column =
          ColumnOf(CollectiveKind::kAllReduce,
                   {static_cast<int64_t>(args.dtype), static_cast<int64_t>(args.op)}, {args.range}),
      .in_place = true};
  Run(stream, call, [&](int64_t index) {
    Round round;
    const SlabRange range = Piece(args.range, index, share_bytes_);
    if (range.bytes == 0) return round;
    round.puts.push_back({.range = range});
    const auto as_term = [&](const TensorView& bytes) {
      return TensorView(bytes.data(), args.dtype, {bytes.bytes() / SizeOf(args.dtype)});
    };
    CombineArgs combine{.out = as_term(SlabBytes(range)),
                        .op = args.op == AllReduceOp::kSum ? CombineOp::kSum : CombineOp::kMax};
    for (int source = 0; source < world_; ++source) {
      combine.inputs.push_back(source == rank_ ? combine.out
                                               : as_term(Landing(index, source, range.bytes)));
    }
    for (int peer : peers_) {
      round.pulls.push_back(
          {.source = peer, .range = range, .destination = Landing(index, peer, range.bytes)});
    }
    round.reduce = [combine](Stream& on) { Combine(on, combine); };
    return round;
  });
}

void CopyEngineCommunicator::DoBroadcast(Stream& stream, const BroadcastArgs& args) {
  const Call call{.operation = "broadcast",
                  .rounds = CountPieces({args.range}, whole_bytes_),
                  .column = ColumnOf(CollectiveKind::kBroadcast, {args.root}, {args.range})};
  Run(stream, call, [&](int64_t index) {
    Round round;
    const SlabRange range = Piece(args.range, index, whole_bytes_);
    if (rank_ == args.root) {
      round.puts.push_back({.range = range});
    } else {
      round.pulls.push_back({.source = args.root, .range = range, .destination = SlabBytes(range)});
    }
    return round;
  });
}

void CopyEngineCommunicator::DoSumEverywhere(Stream& /*stream*/, const SumEverywhereArgs& args) {
  CHECK(world_ == 1, "{} bytes outside of the slab, by copy engines", args.data.bytes());
}

// ---- Rounds ----

void CopyEngineCommunicator::Run(Stream& stream, Call call, const MakeRound& make) {
  const std::optional<uint32_t> first = sequence_->Begin(stream, {.operation = call.operation,
                                                                  .number = enqueued(),
                                                                  .rounds = call.rounds,
                                                                  .column = call.column});
  if (!first) return;
  call.first = *first;
  if (through_host()) {
    RunThroughHost(stream, call, make);
  } else {
    RunFromPeers(stream, call, make);
  }
  sequence_->End(stream);
}

void CopyEngineCommunicator::RunFromPeers(Stream& stream, const Call& call, const MakeRound& make) {
  FlagBoard& board = sequence_->board();
  // All of the slab is ready from the start, so one flag says so for all rounds.
  board.Post(stream, Flag::kReady, call.column, call.first);
  BeginLanes(stream, call);
  for (int64_t index = 0; index < call.rounds; ++index) {
    const Round round = make(index);
    Stream& pulls = *LaneOf(index).pulls;
    AwaitHalf(index, round);
    for (const Pull& pull : round.pulls) {
      if (index < kLandingHalves) {
        board.Await(pulls, Flag::kReady, call.column, call.first, pull.source);
      }
      if (pull.range.bytes == 0) continue;
      const TensorView source(peer_slabs_->slab(pull.source) + pull.range.offset_bytes, DType::kU8,
                              {pull.range.bytes});
      backend_.Copy(pulls, {.source = source, .destination = pull.destination});
    }
    if (call.in_place) {
      PostInOrder(pulls, Flag::kDone, call, index);
      board.AwaitAll(stream, Flag::kDone, call.column, call.number(index));
    }
    Reduce(stream, index, round);
  }
  EndLanes(stream, call);
  if (call.in_place) return;
  board.Post(stream, Flag::kDone, call.column, call.last());
  board.AwaitAll(stream, Flag::kDone, call.column, call.last());
}

void CopyEngineCommunicator::RunThroughHost(Stream& stream, const Call& call,
                                            const MakeRound& make) {
  FlagBoard& board = sequence_->board();
  BeginLanes(stream, call);
  for (int64_t index = 0; index < call.rounds; ++index) {
    const Round round = make(index);
    const uint32_t number = call.number(index);
    Stream& puts = *LaneOf(index).puts;
    Stream& pulls = *LaneOf(index).pulls;
    if (index >= kExchangeSlots) {
      board.AwaitAll(puts, Flag::kDone, call.column, number - kExchangeSlots);
    }
    for (const Put& put : round.puts) {
      if (put.range.bytes == 0) continue;
      backend_.Copy(puts, {.source = SlabBytes(put.range),
                           .destination = Slot(rank_, number, put.slot_offset, put.range.bytes)});
    }
    PostInOrder(puts, Flag::kReady, call, index);
    AwaitHalf(index, round);
    // This rank's too: the reduction may write what was put.
    board.AwaitAll(pulls, Flag::kReady, call.column, number);
    for (const Pull& pull : round.pulls) {
      if (pull.range.bytes == 0) continue;
      backend_.Copy(pulls, {.source = Slot(pull.source, number, pull.slot_offset, pull.range.bytes),
                            .destination = pull.destination});
    }
    PostInOrder(pulls, Flag::kDone, call, index);
    Reduce(stream, index, round);
  }
  EndLanes(stream, call);
  board.AwaitAll(stream, Flag::kDone, call.column, call.last());
}

void CopyEngineCommunicator::BeginLanes(Stream& stream, const Call& call) {
  stream.Record(*begin_);
  for (int64_t index = 0; index < std::min<int64_t>(call.rounds, kLandingHalves); ++index) {
    LaneOf(index).puts->Wait(*begin_);
    LaneOf(index).pulls->Wait(*begin_);
  }
}

void CopyEngineCommunicator::EndLanes(Stream& stream, const Call& call) {
  for (int64_t index = 0; index < std::min<int64_t>(call.rounds, kLandingHalves); ++index) {
    Lane& lane = LaneOf(index);
    lane.pulls->Record(*lane.pulled);
    stream.Wait(*lane.pulled);
  }
}

void CopyEngineCommunicator::PostInOrder(Stream& stream, Flag flag, const Call& call,
                                         int64_t index) {
  Event& posted = *posted_[static_cast<size_t>(flag)];
  if (index > 0) stream.Wait(posted);
  sequence_->board().Post(stream, flag, call.column, call.number(index));
  if (index + 1 < call.rounds) stream.Record(posted);
}

void CopyEngineCommunicator::AwaitHalf(int64_t index, const Round& round) {
  // What an earlier collective left there was reduced before this one began.
  if (!round.reduce || index < kLandingHalves) return;
  const Lane& lane = LaneOf(index);
  lane.pulls->Wait(*lane.freed);
}

void CopyEngineCommunicator::Reduce(Stream& stream, int64_t index, const Round& round) {
  if (!round.reduce) return;
  Lane& lane = LaneOf(index);
  lane.pulls->Record(*lane.landed);
  stream.Wait(*lane.landed);
  round.reduce(stream);
  stream.Record(*lane.freed);
}

TensorView CopyEngineCommunicator::Landing(int64_t index, int source, int64_t bytes) const {
  return landing_.View((index % kLandingHalves * world_ + source) * share_bytes_, DType::kU8,
                       {bytes});
}

TensorView CopyEngineCommunicator::Slot(int owner, uint32_t round, int64_t offset,
                                        int64_t bytes) const {
  const int64_t slot = int64_t{owner} * kExchangeSlots + round % kExchangeSlots;
  return {slots_->device() + slot * slot_bytes_ + offset, DType::kU8, {bytes}};
}

}  // namespace hearth
