// Whole documents laid into samples of one length, so that none is cut by a sample's end.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace hearth {

// A document and which of its tokens count; the mask is empty where all do.
struct PackedDocument {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> counts;

  bool operator==(const PackedDocument&) const = default;
};

// A sample under way.
struct OpenSample {
  int64_t filled = 0;  // tokens
  std::vector<PackedDocument> documents;

  bool operator==(const OpenSample&) const = default;
};

// Best fit: a document goes into the fullest sample that has room for it, among at most 64 samples
// under way; when there are more, the fullest is given out. The result depends on the documents and
// their order alone.
class SamplePacker {
 public:
  // Receives a sample: documents of `length` tokens or less together.
  using Sink = std::function<void(const OpenSample&)>;

  SamplePacker(int64_t length, Sink sink) : length_(length), sink_(std::move(sink)) {}

  // At most `length` tokens.
  void Add(PackedDocument document);
  // Gives out all that is under way, the oldest first.
  void Finish();

  // What is under way, oldest first: to save and to go on with.
  const std::vector<OpenSample>& samples() const { return samples_; }
  void Restore(std::vector<OpenSample> samples) { samples_ = std::move(samples); }

 private:
  int64_t length_;
  Sink sink_;
  std::vector<OpenSample> samples_;
};

}  // namespace hearth
