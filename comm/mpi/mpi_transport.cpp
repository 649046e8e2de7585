#include "comm/mpi/mpi_transport.h"

#include <algorithm>
#include <array>
#include <exception>
#include <set>
#include <utility>

#include "comm/mpi/patience.h"
#include "kernels/core/check.h"

namespace hearth {

namespace {

// MPI counts in int; smaller parts also show that a long message still moves.
constexpr int64_t kPartBytes = int64_t{64} << 20;
// Every MPI allows tags up to this number.
constexpr int64_t kTags = 32767;

std::string ErrorText(int result) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(result, text.data(), &length);
  return {text.data(), static_cast<size_t>(length)};
}

// The messages cut into parts that MPI can count.
std::vector<Message> Parts(const std::vector<Message>& messages) {
  std::vector<Message> parts;
  for (const Message& message : messages) {
    for (int64_t begin = 0; begin < message.bytes; begin += kPartBytes) {
      parts.push_back({.peer = message.peer,
                       .data = message.data + begin,
                       .bytes = std::min(kPartBytes, message.bytes - begin)});
    }
  }
  return parts;
}

}  // namespace

void CheckMpi(int result, std::string_view call) {
  if (result != MPI_SUCCESS) throw CommError(Format("{}: {}", call, ErrorText(result)));
}

MpiTransport::MpiTransport(MPI_Comm parent, std::chrono::milliseconds timeout,
                           std::vector<int> job_ranks)
    : timeout_(timeout),
      job_ranks_(std::move(job_ranks)),
      exceptions_at_start_(std::uncaught_exceptions()) {
  CheckMpi(MPI_Comm_set_errhandler(parent, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  CheckMpi(MPI_Comm_rank(parent, &rank_), "MPI_Comm_rank");
  CheckMpi(MPI_Comm_size(parent, &world_), "MPI_Comm_size");
  CHECK(world_ == std::ssize(job_ranks_), "{} ranks with {} names", world_, job_ranks_.size());
  MPI_Request request = MPI_REQUEST_NULL;
  CheckMpi(MPI_Comm_idup(parent, &communicator_, &request), "MPI_Comm_idup");
  Backoff backoff;
  int done = 0;
  while (true) {
    CheckMpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done) break;
    if (backoff.waited() > timeout) {
      throw CommError(Format("not all ranks made the communicator within {} ms", timeout.count()));
    }
    backoff.Pause();
  }
  CheckMpi(MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

MpiTransport::~MpiTransport() {
  if (failed_ || std::uncaught_exceptions() > exceptions_at_start_) return;
  MPI_Comm_free(&communicator_);
}

void MpiTransport::Exchange(const ExchangeArgs& args) {
  Pending pending;
  try {
    Post(args, pending);
    PollUntilDone(pending);
  } catch (...) {
    failed_ = true;
    for (size_t i = 0; i < pending.requests.size(); ++i) {
      if (pending.requests[i] == MPI_REQUEST_NULL) continue;
      if (i < pending.receives) MPI_Cancel(&pending.requests[i]);
      MPI_Request_free(&pending.requests[i]);
    }
    throw;
  }
}

void MpiTransport::Post(const ExchangeArgs& args, Pending& pending) {
  const int tag = static_cast<int>(args.sequence % kTags);
  const std::vector<Message> receives = Parts(args.receives);
  const std::vector<Message> sends = Parts(args.sends);
  pending.receives = receives.size();
  // Receives first, so that what arrives finds its place.
  for (const Message& part : receives) {
    MPI_Request request = MPI_REQUEST_NULL;
    CheckMpi(MPI_Irecv(part.data, static_cast<int>(part.bytes), MPI_BYTE, part.peer, tag,
                       communicator_, &request),
             "MPI_Irecv");
    pending.requests.push_back(request);
    pending.messages.push_back(part);
  }
  for (const Message& part : sends) {
    MPI_Request request = MPI_REQUEST_NULL;
    CheckMpi(MPI_Isend(part.data, static_cast<int>(part.bytes), MPI_BYTE, part.peer, tag,
                       communicator_, &request),
             "MPI_Isend");
    pending.requests.push_back(request);
    pending.messages.push_back(part);
  }
}

void MpiTransport::PollUntilDone(Pending& pending) {
  size_t open = pending.requests.size();
  Backoff backoff;
  while (open > 0) {
    const int moved = Test(pending);
    if (moved > 0) {
      open -= static_cast<size_t>(moved);
      backoff.Reset();
      continue;
    }
    if (cancelled_) throw CommError("the communicator ended while it was in flight");
    if (backoff.waited() > timeout_) {
      std::set<int> waited_for;
      for (size_t i = 0; i < pending.requests.size(); ++i) {
        if (pending.requests[i] != MPI_REQUEST_NULL)
          waited_for.insert(NameOf(pending.messages[i].peer));
      }
      throw NoAnswer(waited_for, timeout_);
    }
    backoff.Pause();
  }
}

int MpiTransport::Test(Pending& pending) {
  const int count = static_cast<int>(pending.requests.size());
  int moved = 0;
  std::vector<int> indices(pending.requests.size());
  std::vector<MPI_Status> statuses(pending.requests.size());
  const int result =
      MPI_Testsome(count, pending.requests.data(), &moved, indices.data(), statuses.data());
  if (result != MPI_ERR_IN_STATUS) CheckMpi(result, "MPI_Testsome");
  for (int i = 0; i < moved; ++i) {
    const auto index = static_cast<size_t>(indices[static_cast<size_t>(i)]);
    const MPI_Status& status = statuses[static_cast<size_t>(i)];
    if (result == MPI_ERR_IN_STATUS && status.MPI_ERROR != MPI_SUCCESS) {
      throw CommError(Format("{} rank {}: {}",
                             index < pending.receives ? "receiving from" : "sending to",
                             NameOf(pending.messages[index].peer), ErrorText(status.MPI_ERROR)));
    }
    CheckStatus(pending, index, status);
  }
  return moved;
}

void MpiTransport::CheckStatus(const Pending& pending, size_t index,
                               const MPI_Status& status) const {
  if (index >= pending.receives) return;
  int bytes = 0;
  CheckMpi(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
  if (bytes != pending.messages[index].bytes) {
    throw CommError(Format("rank {} sent {} bytes instead of {}",
                           NameOf(pending.messages[index].peer), bytes,
                           pending.messages[index].bytes));
  }
}

}  // namespace hearth
