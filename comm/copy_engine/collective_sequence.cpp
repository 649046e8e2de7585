#include "comm/copy_engine/collective_sequence.h"

#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/core/log.h"

namespace hearth {

namespace {

// Words that lag by more rounds than this are brought up; well before 2^31.
constexpr uint32_t kCatchUpRounds = uint32_t{1} << 28;
// What the ranks that end in good order are waited for.
constexpr std::chrono::seconds kLeaveTimeout{5};

}  // namespace

CollectiveSequence::CollectiveSequence(Bootstrap& bootstrap, Device& device,
                                       CollectiveSequenceArgs args)
    : exceptions_at_start_(std::uncaught_exceptions()),
      status_(device.CreateHostSignal()),
      previous_(device.CreateEvent()) {
  const bool one_host = bootstrap.local_world() == bootstrap.world();
  board_ = one_host ? std::make_unique<FlagBoard>(bootstrap) : std::make_unique<FlagBoard>();
  std::vector<int> job_ranks;
  for (int rank = 0; rank < bootstrap.world(); ++rank) {
    if (one_host || rank == bootstrap.rank()) job_ranks.push_back(bootstrap.job_rank(rank));
  }
  watch_ = std::make_unique<CollectiveWatch>(
      *board_, CollectiveWatchArgs{.rank = one_host ? bootstrap.rank() : 0,
                                   .world = one_host ? bootstrap.world() : 1,
                                   .job_ranks = std::move(job_ranks),
                                   .timeout = args.timeout,
                                   .status = status_.get(),
                                   .check = std::move(args.check),
                                   .abort = std::move(args.abort)});
}

CollectiveSequence::~CollectiveSequence() { Stop(); }

std::optional<uint32_t> CollectiveSequence::Begin(Stream& stream, const CollectiveStart& start) {
  // Gives the stream the error when there is one, now or before it is waited for.
  stream.Wait(*status_, 0);
  if (watch_->failed()) return std::nullopt;
  const uint32_t first = next_round_;
  next_round_ += static_cast<uint32_t>(start.rounds);
  number_ = start.number;
  watch_->Begin({.operation = start.operation,
                 .number = start.number,
                 .column = start.column,
                 .first_round = first,
                 .last_round = next_round_ - 1});
  stream.Wait(*previous_);
  if (next_round_ - caught_up_ > kCatchUpRounds) {
    board_->CatchUp(stream, first - 1);
    caught_up_ = first - 1;
  }
  return first;
}

void CollectiveSequence::End(Stream& stream) {
  board_->Complete(stream, static_cast<uint32_t>(number_));
  stream.Record(*previous_);
}

bool CollectiveSequence::Stop() noexcept {
  if (watch_->Stop()) return true;
  LogWarning("collectives did not end; the memory they use is kept");
  board_->Abandon();
  return false;
}

void CollectiveSequence::Leave() noexcept {
  board_->Leave();
  if (watch_->failed() || std::uncaught_exceptions() > exceptions_at_start_) return;
  const auto deadline = std::chrono::steady_clock::now() + kLeaveTimeout;
  while (!board_->AllLeft() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace hearth
