// Text to token ids and back, as the Hugging Face `tokenizers` library does it for byte-level BPE
// (the GPT-2, Llama-3 and Qwen2/Qwen3 kinds of tokenizer.json), or one token a byte.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hearth {

struct EncodeOptions {
  // Whether special tokens written out in the text ("<|im_end|>") become those tokens. Off for text
  // that others wrote, which then cannot forge the end of a turn. Added tokens that are not special
  // are recognised either way, as by the library's `encode_special_tokens`.
  bool parse_special = true;
  // Whether the tokens of the file's post-processor (a beginning-of-text token) are put around.
  bool add_special = false;
};

struct DecodeOptions {
  bool skip_special = false;  // leave special tokens out
};

// XXH3-128 of what defines a tokenizer: the bytes of tokenizer.json, or, for bytes, the text that
// `hearth prepare` has always hashed for them. Equal to the tokenizer_hash of .hearth headers.
struct TokenizerHash {
  uint64_t low = 0;
  uint64_t high = 0;

  bool operator==(const TokenizerHash&) const = default;
};

struct TokenizerTables;

// Immutable, and so safe to use from several threads at once. Text that is not valid UTF-8 is read
// like Python's bytes.decode(errors="replace"): each broken sequence as U+FFFD (utf8.h). The byte
// tokenizer alone takes every byte as it is.
class Tokenizer {
 public:
  // `path`: a tokenizer.json, or a folder that has one. IoError when it cannot be read; ConfigError
  // naming file, line, column and key for anything in it that is wrong or not built here.
  // Shared, because data sets, encoders and decoders on many threads keep it alive.
  static std::shared_ptr<const Tokenizer> Load(const std::filesystem::path& path);
  // The same from text in memory; `file` names it in errors.
  static std::shared_ptr<const Tokenizer> Parse(std::string_view json, const std::string& file);
  // Ids 0 to 255 are the bytes; there are no special tokens.
  static std::shared_ptr<const Tokenizer> MakeByteTokenizer();

  explicit Tokenizer(std::unique_ptr<const TokenizerTables> tables);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Convenient for a line; whatever encodes much text keeps a TokenEncoder, which is many times
  // faster because it remembers words.
  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options = {}) const;

  // Valid UTF-8, with U+FFFD where the tokens' bytes are none. Ids without a token (padding rows of
  // a vocabulary) give nothing. To write text as it is generated: StreamingDecoder.
  std::string Decode(std::span<const int32_t> tokens, const DecodeOptions& options = {}) const;
  // What one token stands for, in bytes that may be part of a character; empty for unknown ids.
  // Valid as long as the tokenizer.
  std::string_view TokenBytes(int32_t id) const;

  // Largest id + 1. A model may have more rows, for padding.
  int64_t vocab_size() const;
  // By the text in the file: "<|im_end|>", or a word in its byte-level spelling ("Ġthe"). Of a byte
  // tokenizer: a string of that one byte.
  std::optional<int32_t> TokenId(std::string_view text) const;
  bool IsSpecial(int32_t id) const;
  // What EncodeOptions::add_special puts before and behind a text.
  std::span<const int32_t> prefix_tokens() const;
  std::span<const int32_t> suffix_tokens() const;
  const TokenizerHash& hash() const;
  bool is_byte_tokenizer() const;

 private:
  friend class TokenEncoder;

  std::unique_ptr<const TokenizerTables> tables_;
};

// Encodes with one tokenizer and remembers the words it has seen (a few MiB). For one thread; what
// it remembers changes no result.
class TokenEncoder {
 public:
  explicit TokenEncoder(std::shared_ptr<const Tokenizer> tokenizer);
  ~TokenEncoder();
  TokenEncoder(TokenEncoder&&) noexcept;
  TokenEncoder& operator=(TokenEncoder&&) noexcept;

  // Appends to `tokens`.
  void Encode(std::string_view text, const EncodeOptions& options, std::vector<int32_t>* tokens);
  const Tokenizer& tokenizer() const { return *tokenizer_; }

 private:
  struct State;

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<State> state_;
};

// Tokens to text one by one: the pieces, put together, are Decode() of all tokens.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(std::shared_ptr<const Tokenizer> tokenizer, DecodeOptions options = {});

  // The text that is complete now; the bytes of a character still under way are held back.
  std::string Add(int32_t token);
  // The rest at the end of the text: U+FFFD for a character that was never finished.
  std::string Finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  DecodeOptions options_;
  std::string pending_;  // the beginning of a character, at most three bytes
};

}  // namespace hearth
