#include "runtime/data/sample_packer.h"

#include <algorithm>
#include <utility>

#include "kernels/core/check.h"

namespace hearth {

namespace {

// More leave fewer gaps and hold more tokens back: 64 samples of 4,096 are one MiB.
constexpr size_t kSamplesUnderWay = 64;

}  // namespace

void SamplePacker::Add(PackedDocument document) {
  const int64_t size = std::ssize(document.tokens);
  CHECK(size <= length_, "a document of {} tokens for samples of {}", size, length_);
  if (size == 0) return;
  OpenSample* best = nullptr;
  for (OpenSample& sample : samples_) {
    if (sample.filled + size > length_) continue;
    if (best == nullptr || sample.filled > best->filled) best = &sample;
  }
  if (best == nullptr) best = &samples_.emplace_back();
  best->filled += size;
  best->documents.push_back(std::move(document));
  const auto fullest = std::ranges::max_element(samples_, {}, &OpenSample::filled);
  if (fullest->filled < length_ && samples_.size() <= kSamplesUnderWay) return;
  sink_(*fullest);
  samples_.erase(fullest);
}

void SamplePacker::Finish() {
  for (const OpenSample& sample : samples_) sink_(sample);
  samples_.clear();
}

}  // namespace hearth
