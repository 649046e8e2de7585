#include "runtime/data/hearth_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "kernels/core/check.h"
#include "kernels/core/error.h"

namespace hearth {

namespace {

constexpr size_t kConversionChunk = 4096;

[[noreturn]] void Refuse(const std::string& path, const char* what) {
  throw IoError(fmt::format("{}: error: {}: {}", path, what, std::strerror(errno)));
}

// So that the new name survives a power cut. A file system that cannot synchronise a directory
// refuses with EINVAL, and then there is nothing to do.
void SynchronizeDirectory(const std::filesystem::path& path) {
  const std::string directory = path.has_parent_path() ? path.parent_path().string() : ".";
  const int descriptor = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) Refuse(directory, "cannot be opened");
  const int result = fsync(descriptor);
  const int reason = errno;
  close(descriptor);
  errno = reason;
  if (result != 0 && reason != EINVAL) Refuse(directory, "cannot be synchronised");
}

}  // namespace

HearthWriter::Place HearthWriter::FreshPlace(const HearthWriterOptions& options) {
  if (!options.temporary_path.empty()) {
    return {.temporary_path = options.temporary_path, .open_flags = O_CREAT | O_TRUNC | O_NOFOLLOW};
  }
  std::string path = fmt::format("{}.tmp-{}", options.path, getpid());
  unlink(path.c_str());  // of a dead process that had our number
  return {.temporary_path = std::move(path), .open_flags = O_CREAT | O_EXCL};
}

HearthWriter::HearthWriter(HearthWriterOptions options, Place place)
    : options_(std::move(options)), temporary_path_(std::move(place.temporary_path)) {
  CHECK(options_.bytes_per_token == 2 || options_.bytes_per_token == 4, "{} bytes per token",
        options_.bytes_per_token);
  CHECK(options_.vocab_size >= 0 && options_.vocab_size <= int64_t{1} << 31, "vocabulary {}",
        options_.vocab_size);
  CHECK(static_cast<int64_t>(options_.tokenizer_name.size()) <= kMaxTokenizerName,
        "the tokenizer's name has {} bytes", options_.tokenizer_name.size());
  file_descriptor_ = open(temporary_path_.c_str(), place.open_flags | O_RDWR | O_CLOEXEC, 0666);
  if (file_descriptor_ < 0) Refuse(temporary_path_, "cannot be opened for writing");
  block_.reserve(kHearthBlockBytes);
}

HearthWriter::HearthWriter(HearthWriterOptions options)
    : HearthWriter(options, FreshPlace(options)) {}

HearthWriter::HearthWriter(HearthWriterOptions options, HearthWriterState state)
    : HearthWriter(options,
                   Place{.temporary_path = options.temporary_path, .open_flags = O_NOFOLLOW}) {
  state_ = std::move(state);
  const int64_t hashed = static_cast<int64_t>(state_.block_table.size()) * kHearthBlockBytes;
  // The header comes last, so the file of an empty payload is empty.
  const int64_t end =
      state_.payload_bytes == 0 ? 0 : int64_t{sizeof(HearthHeader)} + state_.payload_bytes;
  struct stat status {};
  if (fstat(file_descriptor_, &status) != 0) Refuse(temporary_path_, "cannot be examined");
  if (hashed > state_.payload_bytes || status.st_size < end) {
    throw IoError(fmt::format("{}: error: {} bytes, and {} were written; remove it and start anew",
                              temporary_path_, status.st_size, end));
  }
  block_.resize(static_cast<size_t>(state_.payload_bytes - hashed));
  const ssize_t read =
      pread(file_descriptor_, block_.data(), block_.size(), int64_t{sizeof(HearthHeader)} + hashed);
  if (read != std::ssize(block_)) Refuse(temporary_path_, "cannot be read");
  if (ftruncate(file_descriptor_, end) != 0) Refuse(temporary_path_, "cannot be shortened");
}

const HearthWriterState& HearthWriter::Checkpoint() {
  const auto pending = static_cast<int64_t>(block_.size());
  WriteAt(block_, int64_t{sizeof(HearthHeader)} + state_.payload_bytes - pending);
  if (fdatasync(file_descriptor_) != 0) Refuse(temporary_path_, "cannot be synchronised");
  return state_;
}

HearthWriter::~HearthWriter() {
  if (file_descriptor_ >= 0) close(file_descriptor_);
  if (!temporary_path_.empty()) unlink(temporary_path_.c_str());
}

void HearthWriter::WriteAt(std::span<const std::byte> bytes, int64_t offset) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(file_descriptor_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) Refuse(temporary_path_, "cannot be written");
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += written;
  }
}

void HearthWriter::FlushBlock() {
  if (block_.empty()) return;
  state_.block_table.push_back(Xxh3Hash64(block_));
  const int64_t length = static_cast<int64_t>(block_.size());
  WriteAt(block_, int64_t{sizeof(HearthHeader)} + state_.payload_bytes - length);
  block_.clear();
}

void HearthWriter::AppendPayload(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t room = static_cast<size_t>(kHearthBlockBytes) - block_.size();
    const auto piece = bytes.first(std::min(room, bytes.size()));
    block_.insert(block_.end(), piece.begin(), piece.end());
    state_.payload_bytes += static_cast<int64_t>(piece.size());
    bytes = bytes.subspan(piece.size());
    if (static_cast<int64_t>(block_.size()) == kHearthBlockBytes) FlushBlock();
  }
}

int64_t HearthWriter::AlignPayload() {
  static_assert(sizeof(HearthHeader) % 8 == 0);
  constexpr std::array<std::byte, 8> kZeros{};
  AppendPayload(std::span(kZeros).first(
      static_cast<size_t>(RoundUp(state_.payload_bytes, 8) - state_.payload_bytes)));
  return int64_t{sizeof(HearthHeader)} + state_.payload_bytes;
}

void HearthWriter::AppendMask(int64_t count, std::span<const uint8_t> mask) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t bit = state_.token_count + i;
    if (bit % 8 == 0) state_.mask_bits.push_back(0);
    if (!mask.empty() && mask[static_cast<size_t>(i)] == 0) continue;
    state_.mask_bits.back() = static_cast<uint8_t>(state_.mask_bits.back() | 1u << (bit % 8));
  }
}

void HearthWriter::Append(std::span<const int32_t> tokens, std::span<const uint8_t> mask) {
  CHECK(mask.empty() || (options_.has_loss_mask && mask.size() == tokens.size()),
        "a mask of {} for {} tokens", mask.size(), tokens.size());
  if (tokens.empty()) return;
  if (state_.at_document_start) state_.document_starts.push_back(state_.token_count);
  state_.at_document_start = false;
  if (options_.has_loss_mask) AppendMask(static_cast<int64_t>(tokens.size()), mask);
  const int64_t storage_limit = options_.bytes_per_token == 2 ? 65536 : int64_t{1} << 31;
  const int64_t limit =
      options_.vocab_size > 0 ? std::min(storage_limit, options_.vocab_size) : storage_limit;
  state_.token_count += static_cast<int64_t>(tokens.size());
  std::array<uint16_t, kConversionChunk> narrow;
  while (!tokens.empty()) {
    const auto piece = tokens.first(std::min(kConversionChunk, tokens.size()));
    for (size_t i = 0; i < piece.size(); ++i) {
      if (piece[i] < 0 || piece[i] >= limit) {
        throw IoError(fmt::format("{}: error: the id {} is outside the vocabulary of {}",
                                  options_.path, piece[i], limit));
      }
      state_.largest_token = std::max<int64_t>(state_.largest_token, piece[i]);
      narrow[i] = static_cast<uint16_t>(piece[i]);
    }
    AppendPayload(options_.bytes_per_token == 2
                      ? std::as_bytes(std::span(narrow).first(piece.size()))
                      : std::as_bytes(piece));
    tokens = tokens.subspan(piece.size());
  }
}

void HearthWriter::Seal() {
  HearthHeader header{};
  header.magic = kHearthMagic;
  header.version = kHearthVersion;
  header.header_bytes = sizeof(HearthHeader);
  header.bytes_per_token = static_cast<uint32_t>(options_.bytes_per_token);
  header.flags = options_.has_loss_mask ? kHearthFlagLossMask : 0;
  header.token_count = static_cast<uint64_t>(state_.token_count);
  header.vocab_size = static_cast<uint64_t>(options_.vocab_size > 0
                                                ? options_.vocab_size
                                                : std::max<int64_t>(1, state_.largest_token + 1));
  header.document_count = state_.document_starts.size();
  header.block_bytes = kHearthBlockBytes;
  header.tokenizer_hash = options_.tokenizer_hash;
  header.sample_tokens = static_cast<uint64_t>(options_.sample_tokens);
  options_.tokenizer_name.copy(header.tokenizer_name.data(), options_.tokenizer_name.size());

  header.documents_offset = static_cast<uint64_t>(AlignPayload());
  AppendPayload(std::as_bytes(std::span(state_.document_starts)));
  header.mask_offset = static_cast<uint64_t>(AlignPayload());
  AppendPayload(std::as_bytes(std::span(state_.mask_bits)));
  header.block_table_offset = static_cast<uint64_t>(AlignPayload());
  FlushBlock();
  const auto block_table = std::as_bytes(std::span(state_.block_table));
  WriteAt(block_table, static_cast<int64_t>(header.block_table_offset));
  header.file_bytes = header.block_table_offset + block_table.size();
  CHECK(ComputeHearthExtents(header).file_bytes == static_cast<int64_t>(header.file_bytes),
        "{} bytes written", header.file_bytes);
  header.content_hash = HearthContentHash(header, block_table);
  WriteAt(std::as_bytes(std::span(&header, 1)), 0);

  if (fsync(file_descriptor_) != 0) Refuse(temporary_path_, "cannot be synchronised");
  const int descriptor = file_descriptor_;
  file_descriptor_ = -1;
  if (close(descriptor) != 0) Refuse(temporary_path_, "cannot be closed");
}

void HearthWriter::Publish() {
  CHECK(file_descriptor_ < 0 && !temporary_path_.empty(), "{} is published before it is sealed",
        options_.path);
  if (rename(temporary_path_.c_str(), options_.path.c_str()) != 0) {
    Refuse(options_.path, "cannot be renamed from its temporary name");
  }
  temporary_path_.clear();
  SynchronizeDirectory(options_.path);
}

}  // namespace hearth
