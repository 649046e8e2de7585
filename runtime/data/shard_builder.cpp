#include "runtime/data/shard_builder.h"

#include <utility>

#include "kernels/core/check.h"

namespace hearth {

ShardBuilder::ShardBuilder(Options options)
    : options_(std::move(options)),
      writer_(options_.writer),
      packer_(options_.pack, [this](const OpenSample& sample) { WriteSample(sample); }) {
  CHECK(options_.pack == 0 || options_.writer.has_loss_mask, "padding without a mask");
}

ShardBuilder::ShardBuilder(Options options, ShardState state)
    : options_(std::move(options)),
      writer_(options_.writer, std::move(state.writer)),
      packer_(options_.pack, [this](const OpenSample& sample) { WriteSample(sample); }),
      documents_(state.documents),
      tokens_(state.tokens),
      padding_(state.padding) {
  packer_.Restore(std::move(state.samples));
}

void ShardBuilder::Append(std::span<const int32_t> tokens, std::span<const uint8_t> counts) {
  length_ += std::ssize(tokens);
  tokens_ += std::ssize(tokens);
  if (options_.pack == 0) {
    writer_.Append(tokens, counts);
    return;
  }
  document_.tokens.insert(document_.tokens.end(), tokens.begin(), tokens.end());
  document_.counts.insert(document_.counts.end(), counts.begin(), counts.end());
}

void ShardBuilder::EndDocument() {
  if (length_ > 0) ++documents_;
  length_ = 0;
  if (options_.pack == 0) {
    writer_.EndDocument();
  } else {
    packer_.Add(std::exchange(document_, {}));
  }
}

void ShardBuilder::WriteSample(const OpenSample& sample) {
  for (const PackedDocument& document : sample.documents) {
    writer_.Append(document.tokens, document.counts);
    writer_.EndDocument();
  }
  WritePadding(options_.pack - sample.filled);
}

void ShardBuilder::WritePadding(int64_t count) {
  padding_ += count;
  const std::vector<int32_t> tokens(static_cast<size_t>(count), options_.padding_token);
  writer_.Append(tokens, std::vector<uint8_t>(tokens.size(), 0));
  writer_.EndDocument();
}

ShardState ShardBuilder::Checkpoint() {
  CHECK(document_.tokens.empty(), "a document of {} tokens is not complete",
        document_.tokens.size());
  return {.writer = writer_.Checkpoint(),
          .samples = packer_.samples(),
          .documents = documents_,
          .tokens = tokens_,
          .padding = padding_};
}

void ShardBuilder::Seal() {
  packer_.Finish();
  if (options_.pack > 0) WritePadding(1);
  writer_.Seal();
}

}  // namespace hearth
