#include "runtime/state/lease.h"

#include <utility>

#include "kernels/core/check.h"

namespace hearth {

Lease::Lease(Lease&& other) noexcept
    : table_(std::exchange(other.table_, nullptr)), index_(other.index_), write_(other.write_) {}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  if (table_ != nullptr) table_->Release(index_, write_);
  table_ = std::exchange(other.table_, nullptr);
  index_ = other.index_;
  write_ = other.write_;
  return *this;
}

Lease::~Lease() {
  if (table_ != nullptr) table_->Release(index_, write_);
}

LeaseTable::LeaseTable(std::string what, int entries)
    : what_(std::move(what)), entries_(static_cast<size_t>(entries)) {}

Lease LeaseTable::Read(int entry, int64_t version) {
  Entry& state = entries_.at(static_cast<size_t>(entry));
  CHECK(!state.written, "{} {} is read while it is written", what_, entry);
  CHECK(state.version == version, "{} {} holds version {}, not {}", what_, entry, state.version,
        version);
  ++state.readers;
  return {this, entry, false};
}

Lease LeaseTable::Write(int entry, int64_t version) {
  Entry& state = entries_.at(static_cast<size_t>(entry));
  CHECK(!state.written && state.readers == 0, "{} {} is written while it is in use", what_, entry);
  state.written = true;
  state.version = version;
  return {this, entry, true};
}

void LeaseTable::Release(int entry, bool write) noexcept {
  Entry& state = entries_[static_cast<size_t>(entry)];
  if (write) {
    state.written = false;
  } else {
    --state.readers;
  }
}

}  // namespace hearth
