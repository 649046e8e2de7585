#include "comm/copy_engine/flag_board.h"

#include <atomic>

#include "kernels/cuda/cuda_native.h"

namespace hearth {

namespace {

// Beyond whatever the streams may wait for meanwhile, and far from where comparisons turn round.
constexpr uint32_t kBeyond = uint32_t{1} << 30;

}  // namespace

FlagBoard::FlagBoard(Bootstrap& bootstrap)
    : rank_(bootstrap.rank()),
      world_(bootstrap.world()),
      completed_index_(BoardFlagWords(world_)),
      left_index_(completed_index_ + int64_t{world_} * kBoardLineWords),
      segment_(std::make_unique<SharedSegment>(bootstrap, BoardBytes(world_))) {}

FlagBoard::FlagBoard()
    : rank_(0),
      world_(1),
      completed_index_(BoardFlagWords(1)),
      left_index_(completed_index_ + kBoardLineWords),
      segment_(std::make_unique<SharedSegment>(BoardBytes(1))) {}

int64_t FlagBoard::IndexOf(int reader, int source, Flag flag, int column) const {
  return ((int64_t{reader} * world_ + source) * kBoardFlags + static_cast<int>(flag)) * kColumns +
         column;
}

void FlagBoard::Post(Stream& stream, Flag flag, int column, uint32_t round) {
  for (int step = 1; step <= world_; ++step) {
    const int reader = (rank_ + step) % world_;
    EnqueueWordWrite(stream, device_words() + IndexOf(reader, rank_, flag, column), round);
  }
}

void FlagBoard::Await(Stream& stream, Flag flag, int column, uint32_t round, int source) {
  EnqueueWordWait(stream, device_words() + IndexOf(rank_, source, flag, column), round);
}

void FlagBoard::AwaitAll(Stream& stream, Flag flag, int column, uint32_t round) {
  for (int source = 0; source < world_; ++source) Await(stream, flag, column, round, source);
}

void FlagBoard::CatchUp(Stream& stream, uint32_t round) {
  for (int reader = 0; reader < world_; ++reader) {
    for (Flag flag : {Flag::kReady, Flag::kDone}) {
      for (int column = 0; column < kColumns; ++column) {
        EnqueueWordWrite(stream, device_words() + IndexOf(reader, rank_, flag, column), round);
      }
    }
  }
}

void FlagBoard::Complete(Stream& stream, uint32_t number) {
  EnqueueWordWrite(stream, device_words() + completed_index_ + int64_t{rank_} * kBoardLineWords,
                   number);
}

uint32_t FlagBoard::posted(Flag flag, int column, int source) const {
  return std::atomic_ref<uint32_t>(host_words()[IndexOf(rank_, source, flag, column)])
      .load(std::memory_order_acquire);
}

uint32_t FlagBoard::completed() const {
  return std::atomic_ref<uint32_t>(
             host_words()[completed_index_ + int64_t{rank_} * kBoardLineWords])
      .load(std::memory_order_acquire);
}

void FlagBoard::Release(uint32_t round) noexcept {
  const int64_t first = IndexOf(rank_, 0, Flag::kReady, 0);
  const int64_t last = IndexOf(rank_ + 1, 0, Flag::kReady, 0);
  for (int64_t word = first; word < last; ++word) {
    std::atomic_ref<uint32_t>(host_words()[word]).store(round + kBeyond, std::memory_order_release);
  }
}

void FlagBoard::Leave() noexcept {
  std::atomic_ref<uint32_t>(host_words()[left_index_ + int64_t{rank_} * kBoardLineWords])
      .store(1, std::memory_order_release);
}

bool FlagBoard::AllLeft() const {
  for (int rank = 0; rank < world_; ++rank) {
    if (std::atomic_ref<uint32_t>(host_words()[left_index_ + int64_t{rank} * kBoardLineWords])
            .load(std::memory_order_acquire) == 0) {
      return false;
    }
  }
  return true;
}

}  // namespace hearth
