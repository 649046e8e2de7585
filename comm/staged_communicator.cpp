#include "comm/staged_communicator.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <utility>

#include "comm/host_reduce.h"
#include "kernels/core/check.h"

namespace hearth {

namespace {

// No collective needs pieces unless its bytes wait in memory of the communicator's own.
constexpr int64_t kWhole = std::numeric_limits<int64_t>::max();

// How often the helper looks whether the communicator ends while a stream has not come to the
// collective yet. Only an abnormal end waits for it.
constexpr std::chrono::milliseconds kStopCheck{100};

Message MessageOf(int peer, const TensorView& bytes) {
  return {.peer = peer, .data = static_cast<std::byte*>(bytes.data()), .bytes = bytes.bytes()};
}

}  // namespace

StagedCommunicator::StagedCommunicator(std::unique_ptr<Transport> transport, KernelBackend& backend,
                                       const CommunicatorOptions& options)
    : transport_(std::move(transport)),
      backend_(backend),
      piece_bytes_(options.piece_bytes),
      stage_(options.stage || backend.device().kind() != DeviceType::kCpu) {
  CHECK(piece_bytes_ > 0 && piece_bytes_ % 64 == 0, "pieces of {} bytes", piece_bytes_);
  if (world() == 1) return;
  for (int step = 1; step < world(); ++step) peers_.push_back((rank() + step) % world());
  Device& device = backend.device();
  const CommunicatorMemory memory =
      MemoryOf({.world = world(), .stage = stage_, .piece_bytes = piece_bytes_});
  staging_ = device.Allocate(memory.pinned_bytes, MemoryKind::kPinnedHost);
  if (stage_) landing_ = device.Allocate(memory.device_bytes, MemoryKind::kDevice);
  ready_ = device.CreateHostSignal();
  done_ = device.CreateHostSignal();
  previous_ = device.CreateEvent();
  helper_ = std::thread([this] { RunHelper(); });
}

StagedCommunicator::~StagedCommunicator() {
  if (!helper_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  transport_->Cancel();
  helper_.join();
}

// ---- Collectives ----

void StagedCommunicator::DoAllGather(Stream& stream, const AllGatherArgs& args) {
  const int64_t piece_bytes = stage_ ? piece_bytes_ : kWhole;
  Pipeline(stream, "all-gather", CountRounds(args.ranges, piece_bytes), [&](int64_t index) {
    Round round;
    const SlabRange mine = Piece(args.ranges[static_cast<size_t>(rank())], index, piece_bytes);
    AddSend(round, index, rank(), SlabBytes(mine), peers_);
    for (int peer : peers_) {
      const SlabRange theirs = Piece(args.ranges[static_cast<size_t>(peer)], index, piece_bytes);
      AddReceive(round, index, peer, SlabBytes(theirs));
    }
    return round;
  });
}

void StagedCommunicator::DoReduceScatter(Stream& stream, const ReduceScatterArgs& args) {
  if (world() == 1) return ReduceScatterAlone(stream, args);
  const SlabRange& whole = args.ranges[static_cast<size_t>(rank())];
  const int64_t element_bytes = SizeOf(args.dtype);
  Pipeline(stream, "reduce-scatter", CountRounds(args.ranges, piece_bytes_), [&](int64_t index) {
    Round round;
    const SlabRange mine = Piece(whole, index, piece_bytes_);
    for (int peer : peers_) {
      const SlabRange theirs = Piece(args.ranges[static_cast<size_t>(peer)], index, piece_bytes_);
      AddSend(round, index, peer, SlabBytes(theirs), {peer});
    }
    if (mine.bytes == 0) return round;
    AddSum(round, index,
           {.mine = SlabBytes(mine),
            .dtype = args.dtype,
            .out = args.out.Flat((mine.offset_bytes - whole.offset_bytes) / element_bytes,
                                 mine.bytes / element_bytes),
            .scale = args.scale,
            .accumulate = args.accumulate});
    return round;
  });
}

// As a reduce-scatter and an all-gather, of pieces: a sum goes out two rounds behind its terms,
// beside the terms of a later one, so that the network does not wait for the additions.
void StagedCommunicator::DoSumEverywhere(Stream& stream, const SumEverywhereArgs& args) {
  const int64_t piece_bytes = piece_bytes_ / 2;  // a slot has room for both
  const DType dtype = args.data.dtype();
  const TensorView bytes(args.data.data(), DType::kU8, {args.data.bytes()});
  const int64_t pieces = CountRounds(args.parts, piece_bytes);
  const auto piece_of = [&](int owner, int64_t index) {
    const SlabRange piece = Piece(args.parts[static_cast<size_t>(owner)], index, piece_bytes);
    return bytes.Rows(piece.offset_bytes, piece.bytes);
  };
  Pipeline(stream, "sum over ranks", pieces + kStagedTurns, [&](int64_t index) {
    Round round;
    const int64_t summed = index - kStagedTurns;
    if (index < pieces) {
      const TensorView mine = piece_of(rank(), index);
      for (int peer : peers_) AddSend(round, index, peer, piece_of(peer, index), {peer});
      const TensorView out(mine.data(), dtype, {mine.bytes() / SizeOf(dtype)});
      if (mine.bytes() > 0) AddSum(round, index, {.mine = mine, .dtype = dtype, .out = out});
    }
    if (summed >= 0) {
      AddSend(round, index, rank(), piece_of(rank(), summed), peers_);
      for (int peer : peers_) {
        AddReceive(round, index, peer, piece_of(peer, summed), piece_bytes);
      }
    }
    return round;
  });
}

void StagedCommunicator::ReduceScatterAlone(Stream& stream, const ReduceScatterArgs& args) {
  const TensorView mine = SlabBytes(args.ranges[0]);
  const Shape shape{mine.bytes() / SizeOf(args.dtype)};
  if (shape.elements() > 0) {
    backend_.OrderedSum(stream, {.inputs = {{mine.data(), args.dtype, shape}},
                                 .out = args.out.Reshape(shape),
                                 .scale = args.scale,
                                 .accumulate = args.accumulate});
  }
  completed_ = enqueued();
}

void StagedCommunicator::DoAllReduce(Stream& stream, const AllReduceArgs& args) {
  Pipeline(stream, "all-reduce", CountRounds({args.range}, piece_bytes_), [&](int64_t index) {
    Round round;
    const SlabRange range = Piece(args.range, index, piece_bytes_);
    if (range.bytes == 0) return round;
    const TensorView slab = SlabBytes(range);
    const TensorView mine = stage_ ? SendSlot(index, rank(), range.bytes) : slab;
    if (stage_) {
      round.before.push_back({.source = slab, .destination = mine});
      round.after.push_back({.source = mine, .destination = slab});
    }
    std::vector<TensorView> terms;
    for (int source = 0; source < world(); ++source) {
      if (source == rank()) {
        terms.push_back(mine);
        continue;
      }
      terms.push_back(ReceiveSlot(index, source, range.bytes));
      round.sends.push_back(MessageOf(source, mine));
      round.receives.push_back(MessageOf(source, terms.back()));
    }
    round.finish = [terms, mine, dtype = args.dtype, op = args.op] {
      ReduceInRankOrder(terms, mine, dtype, op);
    };
    return round;
  });
}

void StagedCommunicator::DoBroadcast(Stream& stream, const BroadcastArgs& args) {
  const int64_t piece_bytes = stage_ ? piece_bytes_ : kWhole;
  Pipeline(stream, "broadcast", CountRounds({args.range}, piece_bytes), [&](int64_t index) {
    Round round;
    const SlabRange range = Piece(args.range, index, piece_bytes);
    if (rank() != args.root) {
      AddReceive(round, index, args.root, SlabBytes(range));
      return round;
    }
    AddSend(round, index, rank(), SlabBytes(range), peers_);
    return round;
  });
}

// ---- Rounds ----

SlabRange StagedCommunicator::Piece(const SlabRange& range, int64_t index,
                                    int64_t piece_bytes) const {
  const int64_t begin = index == 0 ? 0 : std::min(range.bytes, index * piece_bytes);
  return {.offset_bytes = range.offset_bytes + begin,
          .bytes = std::min(piece_bytes, range.bytes - begin)};
}

int64_t StagedCommunicator::CountRounds(const std::vector<SlabRange>& ranges,
                                        int64_t piece_bytes) const {
  int64_t rounds = 1;
  for (const SlabRange& range : ranges) {
    rounds = std::max(rounds, range.bytes / piece_bytes + (range.bytes % piece_bytes != 0));
  }
  return rounds;
}

void StagedCommunicator::AddSend(Round& round, int64_t index, int slot, const TensorView& source,
                                 const std::vector<int>& receivers) const {
  if (source.bytes() == 0) return;
  TensorView sent = source;
  if (stage_) {
    sent = SendSlot(index, slot, source.bytes());
    round.before.push_back({.source = source, .destination = sent});
  }
  for (int peer : receivers) round.sends.push_back(MessageOf(peer, sent));
}

void StagedCommunicator::AddReceive(Round& round, int64_t index, int peer,
                                    const TensorView& destination, int64_t slot_offset) const {
  if (destination.bytes() == 0) return;
  TensorView received = destination;
  if (stage_) {
    received = ReceiveSlot(index, peer, destination.bytes(), slot_offset);
    round.after.push_back({.source = received, .destination = destination});
  }
  round.receives.push_back(MessageOf(peer, received));
}

void StagedCommunicator::AddSum(Round& round, int64_t index, const SumPiece& piece) const {
  const int64_t bytes = piece.mine.bytes();
  for (int source = 0; source < world(); ++source) {
    TensorView term = piece.mine;
    if (source != rank()) {
      term = ReceiveSlot(index, source, bytes);
      round.receives.push_back(MessageOf(source, term));
      if (stage_) {
        const TensorView landed = landing_.View(source * piece_bytes_, DType::kU8, {bytes});
        round.after.push_back({.source = term, .destination = landed});
        term = landed;
      }
    }
    round.sum.inputs.emplace_back(term.data(), piece.dtype, Shape{bytes / SizeOf(piece.dtype)});
  }
  round.sum.out = piece.out;
  round.sum.scale = piece.scale;
  round.sum.accumulate = piece.accumulate;
}

TensorView StagedCommunicator::ReceiveSlot(int64_t index, int slot, int64_t bytes,
                                           int64_t offset) const {
  return staging_.View((index % kStagedTurns * world() + slot) * piece_bytes_ + offset, DType::kU8,
                       {bytes});
}

TensorView StagedCommunicator::SendSlot(int64_t index, int slot, int64_t bytes) const {
  return staging_.View(((kStagedTurns + index % kStagedTurns) * world() + slot) * piece_bytes_,
                       DType::kU8, {bytes});
}

void StagedCommunicator::Pipeline(Stream& stream, std::string_view operation, int64_t rounds,
                                  const MakeRound& make) {
  if (world() == 1) {
    completed_ = enqueued();
    return;
  }
  // The staging memory may still be in use by a collective on another stream.
  stream.Wait(*previous_);
  Round open;
  for (int64_t index = 0; index < rounds; ++index) {
    Round round = make(index);
    for (const CopyArgs& copy : round.before) backend_.Copy(stream, copy);
    const uint32_t number = ++number_;
    {
      std::lock_guard lock(mutex_);
      queue_.push_back({.operation = operation,
                        .collective = enqueued(),
                        .last = index + 1 == rounds,
                        .number = number,
                        .args = {.sequence = enqueued(),
                                 .sends = std::move(round.sends),
                                 .receives = std::move(round.receives)},
                        .finish = std::move(round.finish)});
    }
    changed_.notify_all();
    stream.Signal(*ready_, number);
    if (index > 0) Finish(stream, number - 1, open);
    open = std::move(round);
  }
  Finish(stream, number_, open);
  stream.Record(*previous_);
}

void StagedCommunicator::Finish(Stream& stream, uint32_t number, const Round& round) {
  stream.Wait(*done_, number);
  for (const CopyArgs& copy : round.after) backend_.Copy(stream, copy);
  if (!round.sum.inputs.empty()) backend_.OrderedSum(stream, round.sum);
}

// ---- The helper thread ----

bool StagedCommunicator::stopping() const {
  std::lock_guard lock(mutex_);
  return stopping_;
}

bool StagedCommunicator::NextExchange(Exchange& exchange) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return false;
    exchange = std::move(queue_.front());
    queue_.pop_front();
  }
  while (!ready_->WaitFor(exchange.number, kStopCheck)) {
    if (stopping()) throw CommError("the communicator ended before its inputs were ready");
  }
  return true;
}

void StagedCommunicator::RunHelper() noexcept {
  Exchange exchange;
  try {
    while (NextExchange(exchange)) {
      transport_->Exchange(exchange.args);
      if (exchange.finish) exchange.finish();
      if (exchange.last) completed_ = exchange.collective;
      done_->Set(exchange.number);
    }
  } catch (const std::exception& error) {
    // Streams that wait now or later get the error instead of hanging.
    done_->Fail(std::make_exception_ptr(
        CommError(Format("{} #{}: {}", exchange.operation, exchange.collective, error.what()))));
  }
}

}  // namespace hearth
