#include "runtime/data/prepare_state.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string_view>
#include <type_traits>

#include "kernels/core/error.h"

namespace hearth {

namespace {

// The last digit is the version of the layout below.
constexpr std::string_view kMagic = "HEARTHP1";

class ByteWriter {
 public:
  template <typename T>
  void Put(T value) {
    static_assert(std::is_arithmetic_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  template <typename T>
  void Put(const std::vector<T>& values) {
    Put(static_cast<int64_t>(values.size()));
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  std::string& bytes() { return bytes_; }

 private:
  std::string bytes_;
};

// The content has been checked by its hash; only its end is watched.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  void Take(T& value) {
    const std::string_view part = Part(sizeof(T));
    std::memcpy(&value, part.data(), sizeof(T));
  }
  template <typename T>
  void Take(std::vector<T>& values) {
    int64_t count = 0;
    Take(count);
    const std::string_view part = Part(static_cast<size_t>(count) * sizeof(T));
    values.resize(static_cast<size_t>(count));
    if (count > 0) std::memcpy(values.data(), part.data(), part.size());
  }

 private:
  std::string_view Part(size_t size) {
    if (size > bytes_.size()) throw IoError("the state of prepare ends too early");
    const std::string_view part = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return part;
  }

  std::string_view bytes_;
};

// One list of members serves both directions; `visit` puts or takes each.
template <typename State, typename Visit>
void VisitWriter(State& state, const Visit& visit) {
  visit(state.token_count);
  visit(state.largest_token);
  visit(state.payload_bytes);
  visit(state.at_document_start);
  visit(state.block_table);
  visit(state.document_starts);
  visit(state.mask_bits);
}

template <typename State, typename Visit>
void VisitCounts(State& state, const Visit& visit) {
  visit(state.cursor.file);
  visit(state.cursor.offset);
  visit(state.cursor.line);
  visit(state.bytes_done);
  visit(state.documents);
  visit(state.counted);
  visit(state.truncated);
  visit(state.dropped);
}

template <typename State, typename Visit>
void VisitShard(State& state, const Visit& visit) {
  VisitWriter(state.writer, visit);
  visit(state.documents);
  visit(state.tokens);
  visit(state.padding);
}

void PutShard(const ShardState& state, ByteWriter& out) {
  VisitShard(state, [&](const auto& value) { out.Put(value); });
  out.Put(std::ssize(state.samples));
  for (const OpenSample& sample : state.samples) {
    out.Put(sample.filled);
    out.Put(std::ssize(sample.documents));
    for (const PackedDocument& document : sample.documents) {
      out.Put(document.tokens);
      out.Put(document.counts);
    }
  }
}

ShardState TakeShard(ByteReader& in) {
  ShardState state;
  VisitShard(state, [&](auto& value) { in.Take(value); });
  int64_t samples = 0;
  in.Take(samples);
  for (int64_t i = 0; i < samples; ++i) {
    OpenSample& sample = state.samples.emplace_back();
    in.Take(sample.filled);
    int64_t documents = 0;
    in.Take(documents);
    for (int64_t j = 0; j < documents; ++j) {
      PackedDocument& document = sample.documents.emplace_back();
      in.Take(document.tokens);
      in.Take(document.counts);
    }
  }
  return state;
}

[[noreturn]] void Refuse(const std::string& path) {
  throw IoError(fmt::format("{}: error: cannot be written: {}", path, std::strerror(errno)));
}

void WriteFile(const std::string& path, std::string_view bytes) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) Refuse(path);
  bool fine = true;
  while (fine && !bytes.empty()) {
    const ssize_t written = write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    fine = written > 0;
    if (fine) bytes.remove_prefix(static_cast<size_t>(written));
  }
  fine = fine && fdatasync(descriptor) == 0;
  const int reason = errno;
  close(descriptor);
  errno = reason;
  if (!fine) Refuse(path);
}

}  // namespace

void WritePrepareState(const std::string& path, const Hash128& identity,
                       const PrepareState& state) {
  ByteWriter out;
  out.bytes() = kMagic;
  out.Put(identity.low);
  out.Put(identity.high);
  VisitCounts(state, [&](const auto& value) { out.Put(value); });
  PutShard(state.train, out);
  out.Put(state.holdout.has_value());
  if (state.holdout) PutShard(*state.holdout, out);
  const Hash128 hash = Xxh3Hash128(std::string_view(out.bytes()));
  out.Put(hash.low);
  out.Put(hash.high);
  const std::string unfinished = path + ".new";
  WriteFile(unfinished, out.bytes());
  if (rename(unfinished.c_str(), path.c_str()) != 0) Refuse(path);
}

std::optional<PrepareState> ReadPrepareState(const std::string& path, const Hash128& identity) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  constexpr size_t kHashBytes = sizeof(uint64_t) * 2;
  if (bytes.size() < kMagic.size() + 2 * kHashBytes || !bytes.starts_with(kMagic)) {
    return std::nullopt;
  }
  const std::string_view content = std::string_view(bytes).substr(0, bytes.size() - kHashBytes);
  Hash128 hash;
  ByteReader tail(std::string_view(bytes).substr(content.size()));
  tail.Take(hash.low);
  tail.Take(hash.high);
  if (hash != Xxh3Hash128(content)) return std::nullopt;
  ByteReader in(content.substr(kMagic.size()));
  Hash128 owner;
  in.Take(owner.low);
  in.Take(owner.high);
  if (owner != identity) return std::nullopt;
  PrepareState state;
  VisitCounts(state, [&](auto& value) { in.Take(value); });
  state.train = TakeShard(in);
  bool has_holdout = false;
  in.Take(has_holdout);
  if (has_holdout) state.holdout = TakeShard(in);
  return state;
}

}  // namespace hearth
