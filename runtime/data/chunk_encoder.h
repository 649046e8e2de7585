// Pieces of `hearth prepare`'s text inputs as token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/prepare.h"
#include "runtime/data/prepare_chunks.h"
#include "runtime/text/chat_encoder.h"
#include "runtime/text/chat_reader.h"
#include "runtime/text/tokenizer.h"

namespace hearth {

struct EncodingOptions {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string field;                    // of JSONL lines that are text
  std::optional<ChatShape> chat_shape;  // of JSONL lines that are chats
  ChatFormat chat_format = ChatFormat::kChatml;
  bool loss_on_all = false;
  bool has_loss_mask = false;
  bool parse_special = false;
  std::vector<int32_t> document_start;  // around each document that is no chat
  std::vector<int32_t> document_end;
  int64_t max_length = 0;  // tokens of a JSONL document; 0: any
  TooLong too_long = TooLong::kTruncate;
};

struct EncodedChunk {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> counts;  // [tokens] with a loss mask, else empty
  // Ends of documents in `tokens`, rising; equal to the one before where a document was dropped.
  // Tokens behind the last end belong to a document that the next chunk goes on with.
  std::vector<int64_t> document_ends;
  bool is_jsonl = false;
  bool held_out = false;  // InputChunk::held_out
  int64_t truncated = 0;
  int64_t dropped = 0;
  int64_t bytes = 0;  // of input
  ChunkCursor after;
};

// For one thread. What it gives depends on the chunk and the options alone; ConfigError with file,
// line and column for a line that is refused.
class ChunkEncoder {
 public:
  explicit ChunkEncoder(const EncodingOptions& options);

  EncodedChunk Encode(const InputChunk& chunk);
  // Only finds the documents and checks the lines: document_ends are all 0.
  EncodedChunk Count(const InputChunk& chunk) const;

 private:
  void EncodeText(const InputChunk& chunk, EncodedChunk* out);
  void EncodeLines(const InputChunk& chunk, EncodedChunk* out);
  void EncodeChats(const InputChunk& chunk, EncodedChunk* out);
  // Ends the document that began at `begin`. Returns why it is refused, if it is.
  std::optional<std::string> Finish(int64_t begin, EncodedChunk* out) const;

  EncodingOptions options_;
  TokenEncoder encoder_;
  std::optional<ChatEncoder> chat_encoder_;
  EncodedChat chat_;
};

// What a line that looks like a chat is, by the first line of a JSONL file that is not blank;
// nullopt where it has the text field, or no key of a chat.
std::optional<ChatShape> DetectFileShape(const std::string& path, const std::string& field);

}  // namespace hearth
