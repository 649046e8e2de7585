// Who may use a stored range, and which version of it. A lease is checked when the work is
// enqueued; the order in which the work then runs is the schedule's, which has been proved.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hearth {

// The step whose update a weight contains; kNothing before anything was made.
constexpr int64_t kNothing = -1;

class LeaseTable;

// Several readers or one writer of an entry; given back by the destructor.
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  ~Lease();

 private:
  friend class LeaseTable;
  Lease(LeaseTable* table, int index, bool write) : table_(table), index_(index), write_(write) {}

  LeaseTable* table_ = nullptr;
  int index_ = 0;
  bool write_ = false;
};

// One entry per unit (or tensor slot): its version and its present users. Must outlive its leases.
class LeaseTable {
 public:
  LeaseTable(std::string what, int entries);

  // CheckError when the entry does not hold `version`, or somebody writes it.
  Lease Read(int entry, int64_t version);
  // CheckError when anybody uses the entry. Its content is then `version`.
  Lease Write(int entry, int64_t version);
  int64_t version(int entry) const { return entries_[static_cast<size_t>(entry)].version; }

 private:
  friend class Lease;
  struct Entry {
    int64_t version = kNothing;
    int readers = 0;
    bool written = false;
  };
  void Release(int entry, bool write) noexcept;

  const std::string what_;
  std::vector<Entry> entries_;
};

}  // namespace hearth
