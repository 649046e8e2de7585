// A pipe by which a child's output comes here.
#pragma once

#include <chrono>
#include <functional>
#include <string_view>

namespace hearth {

class ChildPipe {
 public:
  // IoError, which names `purpose`, when there is none.
  explicit ChildPipe(std::string_view purpose);
  ~ChildPipe();
  ChildPipe(const ChildPipe&) = delete;
  ChildPipe& operator=(const ChildPipe&) = delete;

  // For the child; to be closed here once that has it.
  int write_end() const { return write_end_; }
  void CloseWriteEnd();

  // Gives `take` what is there and what comes within `timeout`, in pieces as they come. True when
  // the end was reached: nobody can write any more.
  bool Drain(std::chrono::milliseconds timeout,
             const std::function<void(std::string_view)>& take) const;

 private:
  int read_end_ = -1;
  int write_end_ = -1;
};

}  // namespace hearth
