#include "runtime/text/tokenizer.h"

#include <xxhash.h>

#include <utility>

#include "runtime/model/json_reader.h"
#include "runtime/text/tokenizer_file.h"
#include "runtime/text/tokenizer_tables.h"
#include "runtime/text/utf8.h"
#include "runtime/text/word_cache.h"

namespace hearth {

namespace {

TokenizerHash HashOf(std::string_view text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return {.low = hash.low64, .high = hash.high64};
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const TokenizerTables> tables) : tables_(std::move(tables)) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::Load(const std::filesystem::path& path) {
  std::error_code ignored;
  const std::filesystem::path file =
      std::filesystem::is_directory(path, ignored) ? path / "tokenizer.json" : path;
  return Parse(ReadTextFile(file, kMaxTokenizerFileBytes), file.string());
}

std::shared_ptr<const Tokenizer> Tokenizer::Parse(std::string_view json, const std::string& file) {
  std::unique_ptr<TokenizerTables> tables = ReadTokenizerFile(json, file);
  tables->hash = HashOf(json);
  return std::make_shared<const Tokenizer>(std::move(tables));
}

std::shared_ptr<const Tokenizer> Tokenizer::MakeByteTokenizer() {
  auto tables = std::make_unique<TokenizerTables>();
  for (int32_t byte = 0; byte < 256; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    tables->ids.emplace(text, byte);
    tables->bytes.emplace(byte, text);
  }
  tables->vocab_size = 256;
  tables->hash = HashOf("byte: id = byte, 256 ids");
  return std::make_shared<const Tokenizer>(std::move(tables));
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  // Borrowed, not owned: the encoder does not outlive this call.
  TokenEncoder encoder(std::shared_ptr<const Tokenizer>(std::shared_ptr<const Tokenizer>(), this));
  std::vector<int32_t> tokens;
  encoder.Encode(text, options, &tokens);
  return tokens;
}

std::string Tokenizer::Decode(std::span<const int32_t> tokens, const DecodeOptions& options) const {
  std::string bytes;
  for (const int32_t token : tokens) {
    if (!options.skip_special || !IsSpecial(token)) bytes += TokenBytes(token);
  }
  std::string text;
  AppendWithReplacement(bytes, &text);
  return text;
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  const auto entry = tables_->bytes.find(id);
  return entry == tables_->bytes.end() ? std::string_view() : entry->second;
}

int64_t Tokenizer::vocab_size() const { return tables_->vocab_size; }

std::optional<int32_t> Tokenizer::TokenId(std::string_view text) const {
  const auto entry = tables_->ids.find(text);
  if (entry == tables_->ids.end()) return std::nullopt;
  return entry->second;
}

bool Tokenizer::IsSpecial(int32_t id) const { return tables_->special.contains(id); }
std::span<const int32_t> Tokenizer::prefix_tokens() const { return tables_->prefix; }
std::span<const int32_t> Tokenizer::suffix_tokens() const { return tables_->suffix; }
const TokenizerHash& Tokenizer::hash() const { return tables_->hash; }
bool Tokenizer::is_byte_tokenizer() const { return tables_->bpe == nullptr; }

// Of a BPE tokenizer; none of it carries over from one text to the next but the words' tokens.
struct TokenEncoder::State {
  explicit State(const BpePipeline& bpe_pipeline)
      : pipeline(bpe_pipeline), reader(*bpe_pipeline.splitter, bpe_pipeline.classes) {}

  void Encode(std::string_view text, bool parse_special, std::vector<int32_t>* tokens);
  void EncodeNormalized(std::string_view text, bool parse_special, std::vector<int32_t>* tokens);
  void EncodePlain(std::string_view text, std::vector<int32_t>* tokens);

  const BpePipeline& pipeline;
  WordReader reader;
  WordCache cache;
  BpeModel::Scratch scratch;
  std::string repaired;
  std::string normalized;
  std::string with_space;
  std::vector<TextPiece> pieces;
  std::vector<TextPiece> normalized_pieces;
};

void TokenEncoder::State::Encode(std::string_view text, bool parse_special,
                                 std::vector<int32_t>* tokens) {
  if (ValidUtf8Prefix(text) != text.size()) {
    repaired.clear();
    AppendWithReplacement(text, &repaired);
    text = repaired;
  }
  pieces.clear();
  pipeline.as_written.Split(text, parse_special, pipeline.classes, &pieces);
  for (const TextPiece& piece : pieces) {
    if (piece.token >= 0) {
      tokens->push_back(piece.token);
    } else {
      EncodeNormalized(piece.text, parse_special, tokens);
    }
  }
}

void TokenEncoder::State::EncodeNormalized(std::string_view text, bool parse_special,
                                           std::vector<int32_t>* tokens) {
  if (pipeline.nfc != nullptr && !NfcNormalizer::IsCertain(text, pipeline.classes)) {
    normalized.clear();
    pipeline.nfc->Append(text, pipeline.classes, &normalized);
    text = normalized;
  }
  normalized_pieces.clear();
  pipeline.normalized.Split(text, parse_special, pipeline.classes, &normalized_pieces);
  for (const TextPiece& piece : normalized_pieces) {
    if (piece.token >= 0) {
      tokens->push_back(piece.token);
    } else {
      EncodePlain(piece.text, tokens);
    }
  }
}

void TokenEncoder::State::EncodePlain(std::string_view text, std::vector<int32_t>* tokens) {
  if (pipeline.add_prefix_space && !text.starts_with(' ')) {
    with_space.assign(1, ' ');
    with_space += text;
    text = with_space;
  }
  reader.Start(text);
  for (std::string_view word; reader.Next(&word);) {
    if (const auto known = cache.Find(word)) {
      tokens->insert(tokens->end(), known->begin(), known->end());
      continue;
    }
    const size_t before = tokens->size();
    pipeline.model->EncodeWord(word, &scratch, tokens);
    cache.Add(word, std::span(*tokens).subspan(before));
  }
}

TokenEncoder::TokenEncoder(std::shared_ptr<const Tokenizer> tokenizer)
    : tokenizer_(std::move(tokenizer)) {
  if (!tokenizer_->is_byte_tokenizer()) {
    state_ = std::make_unique<State>(*tokenizer_->tables_->bpe);
  }
}
TokenEncoder::~TokenEncoder() = default;
TokenEncoder::TokenEncoder(TokenEncoder&&) noexcept = default;
TokenEncoder& TokenEncoder::operator=(TokenEncoder&&) noexcept = default;

void TokenEncoder::Encode(std::string_view text, const EncodeOptions& options,
                          std::vector<int32_t>* tokens) {
  const TokenizerTables& tables = *tokenizer_->tables_;
  if (options.add_special) {
    tokens->insert(tokens->end(), tables.prefix.begin(), tables.prefix.end());
  }
  if (state_ != nullptr) {
    state_->Encode(text, options.parse_special, tokens);
  } else {
    for (const char byte : text) tokens->push_back(static_cast<uint8_t>(byte));
  }
  if (options.add_special) {
    tokens->insert(tokens->end(), tables.suffix.begin(), tables.suffix.end());
  }
}

StreamingDecoder::StreamingDecoder(std::shared_ptr<const Tokenizer> tokenizer,
                                   DecodeOptions options)
    : tokenizer_(std::move(tokenizer)), options_(options) {}

std::string StreamingDecoder::Add(int32_t token) {
  if (options_.skip_special && tokenizer_->IsSpecial(token)) return "";
  pending_ += tokenizer_->TokenBytes(token);
  size_t complete = 0;
  while (complete < pending_.size()) {
    const Utf8Character character = ReadUtf8(pending_, complete);
    if (!character.complete) break;
    complete += static_cast<size_t>(character.length);
  }
  std::string text;
  AppendWithReplacement(std::string_view(pending_).substr(0, complete), &text);
  pending_.erase(0, complete);
  return text;
}

std::string StreamingDecoder::Finish() {
  std::string text;
  AppendWithReplacement(pending_, &text);
  pending_.clear();
  return text;
}

}  // namespace hearth
