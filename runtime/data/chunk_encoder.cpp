#include "runtime/data/chunk_encoder.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/error.h"
#include "runtime/data/jsonl_reader.h"
#include "runtime/data/mapped_file.h"

namespace hearth {

ChunkEncoder::ChunkEncoder(const EncodingOptions& options)
    : options_(options), encoder_(options.tokenizer) {
  if (options_.chat_shape) {
    chat_encoder_.emplace(options_.tokenizer, options_.chat_format, options_.parse_special);
  }
}

EncodedChunk ChunkEncoder::Encode(const InputChunk& chunk) {
  EncodedChunk out{.is_jsonl = chunk.is_jsonl,
                   .held_out = chunk.held_out,
                   .bytes = chunk.bytes,
                   .after = chunk.after};
  if (!chunk.is_jsonl) {
    EncodeText(chunk, &out);
  } else if (options_.chat_shape) {
    EncodeChats(chunk, &out);
  } else {
    EncodeLines(chunk, &out);
  }
  return out;
}

void ChunkEncoder::EncodeText(const InputChunk& chunk, EncodedChunk* out) {
  const auto append = [&](const std::vector<int32_t>& ids) {
    out->tokens.insert(out->tokens.end(), ids.begin(), ids.end());
  };
  if (chunk.begins_document) append(options_.document_start);
  encoder_.Encode(chunk.text, {.parse_special = options_.parse_special}, &out->tokens);
  if (chunk.ends_document) append(options_.document_end);
  if (options_.has_loss_mask) out->counts.resize(out->tokens.size(), 1);
  if (chunk.ends_document) out->document_ends.push_back(std::ssize(out->tokens));
}

std::optional<std::string> ChunkEncoder::Finish(int64_t begin, EncodedChunk* out) const {
  int64_t end = std::ssize(out->tokens);
  const int64_t length = end - begin;
  if (options_.max_length > 0 && length > options_.max_length) {
    if (options_.too_long == TooLong::kError) {
      return fmt::format(
          "{} tokens, more than --max-length {}; shorten it, or give --too-long truncate or drop",
          length, options_.max_length);
    }
    const bool drops = options_.too_long == TooLong::kDrop;
    end = drops ? begin : begin + options_.max_length;
    ++(drops ? out->dropped : out->truncated);
  }
  const auto nothing_counts = [&] {
    return options_.has_loss_mask &&
           std::find(out->counts.begin() + begin, out->counts.begin() + end, 1) ==
               out->counts.begin() + end;
  };
  // What is left of a long chat may have nothing to learn.
  if (end > begin && length > end - begin && nothing_counts()) {
    --out->truncated;
    ++out->dropped;
    end = begin;
  }
  out->tokens.resize(static_cast<size_t>(end));
  if (options_.has_loss_mask) out->counts.resize(static_cast<size_t>(end));
  out->document_ends.push_back(end);
  return std::nullopt;
}

void ChunkEncoder::EncodeLines(const InputChunk& chunk, EncodedChunk* out) {
  JsonlReader reader(chunk.file->path(), chunk.text, options_.field, chunk.first_line);
  while (const std::optional<std::string> text = reader.Next()) {
    if (text->empty()) continue;
    const int64_t begin = std::ssize(out->tokens);
    out->tokens.insert(out->tokens.end(), options_.document_start.begin(),
                       options_.document_start.end());
    encoder_.Encode(*text, {.parse_special = options_.parse_special}, &out->tokens);
    out->tokens.insert(out->tokens.end(), options_.document_end.begin(),
                       options_.document_end.end());
    if (options_.has_loss_mask) out->counts.resize(out->tokens.size(), 1);
    if (const auto refused = Finish(begin, out)) reader.Refuse(*refused);
  }
}

void ChunkEncoder::EncodeChats(const InputChunk& chunk, EncodedChunk* out) {
  ChatReader reader(chunk.file->path(), chunk.text, *options_.chat_shape, chunk.first_line);
  while (const std::optional<Chat> chat = reader.Next()) {
    if (const auto refused = WhyNotRendered(options_.chat_format, *chat)) reader.Refuse(*refused);
    chat_encoder_->Encode(*chat, false, &chat_);
    if (options_.loss_on_all) {
      std::fill(chat_.counts.begin(), chat_.counts.end(), uint8_t{1});
    } else if (std::find(chat_.counts.begin(), chat_.counts.end(), 1) == chat_.counts.end()) {
      reader.Refuse(
          "no message of the assistant, so nothing to learn; take the line out, or give "
          "--loss all");
    }
    const int64_t begin = std::ssize(out->tokens);
    out->tokens.insert(out->tokens.end(), chat_.tokens.begin(), chat_.tokens.end());
    if (options_.has_loss_mask) {
      out->counts.insert(out->counts.end(), chat_.counts.begin(), chat_.counts.end());
    }
    if (const auto refused = Finish(begin, out)) reader.Refuse(*refused);
  }
}

EncodedChunk ChunkEncoder::Count(const InputChunk& chunk) const {
  EncodedChunk out{.bytes = chunk.bytes, .after = chunk.after};
  if (!chunk.is_jsonl) {
    if (chunk.ends_document) out.document_ends.push_back(0);
  } else if (options_.chat_shape) {
    ChatReader reader(chunk.file->path(), chunk.text, *options_.chat_shape, chunk.first_line);
    while (reader.Next()) out.document_ends.push_back(0);
  } else {
    JsonlReader reader(chunk.file->path(), chunk.text, options_.field, chunk.first_line);
    while (const std::optional<std::string> text = reader.Next()) {
      if (!text->empty()) out.document_ends.push_back(0);
    }
  }
  return out;
}

std::optional<ChatShape> DetectFileShape(const std::string& path, const std::string& field) {
  const MappedFile file(path);
  std::string_view text = file.text();
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const JsonDocument document = JsonDocument::Parse(line, path, ChatLineLimits(number));
    const JsonNode root = document.root();
    if (root.value().kind != JsonValue::Kind::kObject || root.Has(field)) return std::nullopt;
    return DetectChatShape(root);
  }
  return std::nullopt;
}

}  // namespace hearth
