#include "comm/inproc/inproc_transport.h"

#include <algorithm>
#include <cstring>

#include "kernels/core/check.h"

namespace hearth {

using State = InprocMessage::State;

InprocTransport::InprocTransport(InprocBootstrap& bootstrap, std::chrono::milliseconds timeout)
    : rank_(bootstrap.rank()), timeout_(timeout), world_(bootstrap.shared_world()) {
  std::lock_guard lock(world_->mutex);
  auto& channel = world_->channels[bootstrap.NextChannel()];
  if (!channel) channel = std::make_shared<InprocChannel>();
  channel_ = channel;
}

void InprocTransport::Cancel() noexcept {
  {
    std::lock_guard lock(world_->mutex);
    cancelled_ = true;
  }
  world_->changed.notify_all();
}

void InprocTransport::Exchange(const ExchangeArgs& args) {
  std::unique_lock lock(world_->mutex);
  std::vector<Outgoing> sends;
  for (const Message& send : args.sends) {
    sends.push_back(
        {send.peer, std::make_shared<InprocMessage>(InprocMessage{
                        .sequence = args.sequence, .data = send.data, .bytes = send.bytes})});
    channel_->mailboxes[{rank_, send.peer}].push_back(sends.back().message);
  }
  world_->changed.notify_all();

  std::vector<Message> receives = args.receives;
  auto deadline = std::chrono::steady_clock::now() + timeout_;
  try {
    while (true) {
      if (Progress(lock, args.sequence, receives, sends)) {
        deadline = std::chrono::steady_clock::now() + timeout_;
        continue;
      }
      if (receives.empty() && sends.empty()) return;
      if (!world_->abort_reason.empty()) throw CommError(world_->abort_reason);
      if (cancelled_) throw CommError("the communicator ended while it was in flight");
      if (world_->changed.wait_until(lock, deadline) == std::cv_status::timeout) {
        if (Progress(lock, args.sequence, receives, sends)) continue;
        std::set<int> waited_for;
        for (const Message& receive : receives)
          waited_for.insert(world_->job_ranks[static_cast<size_t>(receive.peer)]);
        for (const Outgoing& send : sends)
          waited_for.insert(world_->job_ranks[static_cast<size_t>(send.peer)]);
        throw NoAnswer(waited_for, timeout_);
      }
    }
  } catch (...) {
    Retract(lock, sends);
    throw;
  }
}

bool InprocTransport::Progress(std::unique_lock<std::mutex>& lock, int64_t sequence,
                               std::vector<Message>& receives, std::vector<Outgoing>& sends) {
  bool moved = std::erase_if(sends, [](const Outgoing& send) {
                 return send.message->state == State::kTaken;
               }) > 0;
  for (size_t i = 0; i < receives.size();) {
    const Message receive = receives[i];
    auto& mailbox = channel_->mailboxes[{receive.peer, rank_}];
    if (mailbox.empty() || mailbox.front()->sequence != sequence) {
      ++i;
      continue;
    }
    const std::shared_ptr<InprocMessage> message = mailbox.front();
    if (message->bytes != receive.bytes) {
      throw CommError(Format("rank {} sent {} bytes instead of {}",
                             world_->job_ranks[static_cast<size_t>(receive.peer)], message->bytes,
                             receive.bytes));
    }
    mailbox.pop_front();
    message->state = State::kCopying;
    lock.unlock();
    std::memcpy(receive.data, message->data, static_cast<size_t>(receive.bytes));
    lock.lock();
    message->state = State::kTaken;
    world_->changed.notify_all();
    receives.erase(receives.begin() + static_cast<std::ptrdiff_t>(i));
    moved = true;
    i = 0;  // what has come meanwhile may be for an earlier one
  }
  return moved;
}

void InprocTransport::Retract(std::unique_lock<std::mutex>& lock, std::vector<Outgoing>& sends) {
  for (const Outgoing& send : sends) {
    auto& mailbox = channel_->mailboxes[{rank_, send.peer}];
    std::erase(mailbox, send.message);
    // A copy under way ends by itself.
    world_->changed.wait(lock, [&] { return send.message->state != State::kCopying; });
  }
}

}  // namespace hearth
