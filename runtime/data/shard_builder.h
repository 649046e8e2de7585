// One output of `hearth prepare`: documents one behind the other, or packed into whole samples.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/data/hearth_writer.h"
#include "runtime/data/sample_packer.h"

namespace hearth {

// What a builder has to remember for another process to go on.
struct ShardState {
  HearthWriterState writer;
  std::vector<OpenSample> samples;
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t padding = 0;

  bool operator==(const ShardState&) const = default;
};

class ShardBuilder {
 public:
  struct Options {
    HearthWriterOptions writer;
    // Tokens of a sample; 0: documents are not packed. A packed sample is filled up with padding,
    // a document of its own whose tokens do not count, and one token behind the last sample gives
    // it its target; needs a loss mask.
    int64_t pack = 0;
    int32_t padding_token = 0;
  };

  explicit ShardBuilder(Options options);
  ShardBuilder(Options options, ShardState state);
  // The packer's sink points here.
  ShardBuilder(const ShardBuilder&) = delete;
  ShardBuilder& operator=(const ShardBuilder&) = delete;

  // Continues the current document; `counts` is empty or as long as `tokens`.
  void Append(std::span<const int32_t> tokens, std::span<const uint8_t> counts);
  // A document without tokens leaves no trace.
  void EndDocument();
  // Everything so far on the disk; between two documents, or inside one that is not packed.
  ShardState Checkpoint();
  // See HearthWriter.
  void Seal();
  void Publish() { writer_.Publish(); }

  const std::string& path() const { return options_.writer.path; }
  // Without padding.
  int64_t documents() const { return documents_; }
  int64_t tokens() const { return tokens_; }
  int64_t padding() const { return padding_; }

 private:
  void WriteSample(const OpenSample& sample);
  void WritePadding(int64_t count);

  Options options_;
  HearthWriter writer_;
  SamplePacker packer_;
  PackedDocument document_;  // the current one, when it is to be packed
  int64_t length_ = 0;       // of the current document
  int64_t documents_ = 0;
  int64_t tokens_ = 0;
  int64_t padding_ = 0;
};

}  // namespace hearth
