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
  int64_t sample_tokens = 0;  // the sequence_len that samples were packed for; 0: none
  // Where the file is written until it is published; "": under a name of this process beside it.
  std::string temporary_path;
};

// What a writer has to remember for another process to go on with its temporary file.
struct HearthWriterState {
  int64_t token_count = 0;
  int64_t largest_token = -1;
  int64_t payload_bytes = 0;
  bool at_document_start = true;
  std::vector<uint64_t> block_table;
  std::vector<int64_t> document_starts;
  std::vector<uint8_t> mask_bits;

  bool operator==(const HearthWriterState&) const = default;
};

// The file appears under its name only when Finish() has succeeded: it is written beside it under a
// temporary name, synchronised, then renamed over what was there. Host memory: one block, 8 bytes a
// document, 1 bit a token with a loss mask. Throws IoError when the disk refuses.
class HearthWriter {
 public:
  explicit HearthWriter(HearthWriterOptions options);
  // Goes on from a state that a writer with the same options saved; options.temporary_path is that
  // writer's file. IoError when the file is shorter than the state says.
  HearthWriter(HearthWriterOptions options, HearthWriterState state);
  // Without Finish() the temporary file is removed.
  ~HearthWriter();
  HearthWriter(const HearthWriter&) = delete;
  HearthWriter& operator=(const HearthWriter&) = delete;

  // Continues the current document. `mask` is empty (all count) or as long as `tokens`.
  void Append(std::span<const int32_t> tokens, std::span<const uint8_t> mask = {});
  // The next token begins a document. Documents without tokens leave no trace.
  void EndDocument() { state_.at_document_start = true; }
  // Brings everything so far to the disk; the state to go on from after a crash.
  const HearthWriterState& Checkpoint();
  // Completes and synchronises the temporary file; Publish() then only renames. Apart so that two
  // shards appear together or not at all.
  void Seal();
  void Publish();
  void Finish() {
    Seal();
    Publish();
  }

  int64_t token_count() const { return state_.token_count; }
  int64_t document_count() const { return static_cast<int64_t>(state_.document_starts.size()); }

 private:
  struct Place {
    std::string temporary_path;
    int open_flags = 0;
  };
  // Public constructors go through this one, so that what fails in them closes and removes the
  // file.
  HearthWriter(HearthWriterOptions options, Place place);
  static Place FreshPlace(const HearthWriterOptions& options);

  void AppendMask(int64_t count, std::span<const uint8_t> mask);
  void AppendPayload(std::span<const std::byte> bytes);
  int64_t AlignPayload();  // the file offset after padding to 8 bytes
  void FlushBlock();
  void WriteAt(std::span<const std::byte> bytes, int64_t offset);

  HearthWriterOptions options_;
  std::string temporary_path_;
  int file_descriptor_ = -1;
  HearthWriterState state_;
  std::vector<std::byte> block_;  // the last bytes of the payload, which have no hash yet
};

}  // namespace hearth
