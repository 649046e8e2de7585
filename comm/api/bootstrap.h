// How the ranks of a job find each other: small messages between hosts, before and beside the
// device collectives. Every call is collective over all ranks and bounded by the job's time-out.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

using Bytes = std::vector<std::byte>;

// Text as a message, and back.
inline Bytes ToBytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}
inline std::string ToText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct BootstrapOptions {
  // Until every rank has started; at the end, until every rank has come to it.
  std::chrono::milliseconds init_timeout{300'000};
  // Of each later call: how long it may go without hearing from a rank it needs.
  std::chrono::milliseconds collective_timeout{100'000};
};

// One thread of a rank uses its bootstrap, Abort aside. A time-out is a CommError that names the
// ranks waited for; after one the job can only be ended.
class Bootstrap {
 public:
  virtual ~Bootstrap() = default;
  virtual int rank() const = 0;
  virtual int world() const = 0;
  // Rank and number of ranks on this host.
  virtual int local_rank() const = 0;
  virtual int local_world() const = 0;
  // What messages call the rank: its number in the job, also in a part of it.
  virtual int job_rank(int rank) const = 0;

  // The ranks that gave the same color as a job of their own, in their order here. Collective over
  // all. This bootstrap must outlive the part; to end the part's job ends all of it.
  virtual std::unique_ptr<Bootstrap> Split(int color) = 0;

  // Everybody's contribution, by rank; sizes may differ.
  virtual std::vector<Bytes> AllGather(const Bytes& mine) = 0;
  // Root's bytes, everywhere.
  virtual Bytes Broadcast(const Bytes& mine, int root) = 0;
  virtual void Barrier() = 0;
  // Ends every rank of the job with the exit code, after one line that says why. Does not return;
  // any thread may call it.
  [[noreturn]] virtual void Abort(int exit_code, std::string_view why) = 0;
};

}  // namespace hearth
