// Writes a .hearth shard in one pass.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/data/hashing.h"
#include "runtime/data/hearth_format.h"

namespace hearth {

struct HearthWriterOptions {
  std::string path;
  int64_t bytes_per_token = 2;  // 2 or 4
  int64_t vocab_size = 0;       // 0: the largest id + 1
  std::string tokenizer_name;   // at most kMaxTokenizerName bytes
  Hash128 tokenizer_hash;
  bool has_loss_mask = false;
};

// The file appears under its name only when Finish() has succeeded: it is written beside it under a
// temporary name, synchronised, then renamed over what was there. Host memory: one block, 8 bytes a
// document, 1 bit a token with a loss mask. Throws IoError when the disk refuses.
class HearthWriter {
 public:
  explicit HearthWriter(HearthWriterOptions options);
  // Without Finish() the temporary file is removed.
  ~HearthWriter();
  HearthWriter(const HearthWriter&) = delete;
  HearthWriter& operator=(const HearthWriter&) = delete;

  // Continues the current document. `mask` is empty (all count) or as long as `tokens`.
  void Append(std::span<const int32_t> tokens, std::span<const uint8_t> mask = {});
  // The next token begins a document. Documents without tokens leave no trace.
  void EndDocument() { at_document_start_ = true; }
  // Completes and synchronises the temporary file; Publish() then only renames. Apart so that two
  // shards appear together or not at all.
  void Seal();
  void Publish();
  void Finish() {
    Seal();
    Publish();
  }

  int64_t token_count() const { return token_count_; }
  int64_t document_count() const { return static_cast<int64_t>(document_starts_.size()); }

 private:
  void AppendMask(int64_t count, std::span<const uint8_t> mask);
  void AppendPayload(std::span<const std::byte> bytes);
  int64_t AlignPayload();  // the file offset after padding to 8 bytes
  void FlushBlock();
  void WriteAt(std::span<const std::byte> bytes, int64_t offset);

  HearthWriterOptions options_;
  std::string temporary_path_;
  int file_descriptor_ = -1;
  int64_t token_count_ = 0;
  int64_t largest_token_ = -1;
  int64_t payload_bytes_ = 0;
  bool at_document_start_ = true;
  std::vector<std::byte> block_;
  std::vector<uint64_t> block_table_;
  std::vector<int64_t> document_starts_;
  std::vector<uint8_t> mask_bits_;
};

}  // namespace hearth
