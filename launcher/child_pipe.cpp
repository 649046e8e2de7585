#include "launcher/child_pipe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "kernels/core/error.h"

namespace hearth {

ChildPipe::ChildPipe(std::string_view purpose) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw IoError(fmt::format("no pipe for {}: {}", purpose, std::strerror(errno)));
  }
  read_end_ = ends[0];
  write_end_ = ends[1];
  fcntl(read_end_, F_SETFL, O_NONBLOCK);
}

ChildPipe::~ChildPipe() {
  CloseWriteEnd();
  close(read_end_);
}

void ChildPipe::CloseWriteEnd() {
  if (write_end_ >= 0) close(write_end_);
  write_end_ = -1;
}

bool ChildPipe::Drain(std::chrono::milliseconds timeout,
                      const std::function<void(std::string_view)>& take) const {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::array<char, 65536> piece{};
  while (true) {
    const ssize_t length = read(read_end_, piece.data(), piece.size());
    if (length > 0) take({piece.data(), static_cast<size_t>(length)});
    if (length == 0) return true;
    if (length > 0 || errno == EINTR) continue;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd wait{.fd = read_end_, .events = POLLIN, .revents = 0};
    poll(&wait, 1, static_cast<int>(left.count()));
  }
}

}  // namespace hearth
