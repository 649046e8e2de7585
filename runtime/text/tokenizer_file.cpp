#include "runtime/text/tokenizer_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/text/byte_alphabet.h"
#include "runtime/text/tokenizer_parts.h"
#include "runtime/text/utf8.h"

namespace hearth {

namespace {

constexpr JsonLimits kLimits = {
    .max_bytes = kMaxTokenizerFileBytes, .max_depth = 32, .max_values = 10'000'000};

// The bytes that valid UTF-8 is made of.
bool OccursInUtf8(int byte) { return byte != 0xc0 && byte != 0xc1 && byte <= 0xf4; }

void ReadVocabulary(const JsonNode& vocab, TokenizerTables* tables) {
  vocab.RequireObject();
  const ByteAlphabet alphabet;
  tables->ids.reserve(vocab.value().members.size());
  tables->bytes.reserve(vocab.value().members.size());
  for (const auto& [text, value] : vocab.value().members) {
    constexpr int64_t kLargest = std::numeric_limits<int32_t>::max() - 1;
    const auto refuse = [&, &token = text](std::string_view what) { vocab.Get(token).Fail(what); };
    if (value.kind != JsonValue::Kind::kInteger || value.integer < 0 || value.integer > kLargest) {
      refuse(fmt::format("is no id; it must be an integer between 0 and {}", kLargest));
    }
    const auto id = static_cast<int32_t>(value.integer);
    tables->ids.emplace(text, id);
    if (!tables->bytes.emplace(id, alphabet.BytesOf(text).value_or(text)).second) {
      refuse(fmt::format("is {}, the id of another token too; give each its own", id));
    }
    tables->vocab_size = std::max<int64_t>(tables->vocab_size, int64_t{id} + 1);
  }
}

std::array<int32_t, 256> ByteTokens(const JsonNode& vocab, const TokenizerTables& tables) {
  const ByteAlphabet alphabet;
  std::array<int32_t, 256> tokens;
  tokens.fill(-1);
  for (int byte = 0; byte < 256; ++byte) {
    std::string text;
    AppendUtf8(alphabet.CharacterOf(static_cast<uint8_t>(byte)), &text);
    const auto entry = tables.ids.find(text);
    if (entry != tables.ids.end()) {
      tokens[static_cast<size_t>(byte)] = entry->second;
    } else if (OccursInUtf8(byte)) {
      vocab.Fail(fmt::format(
          "lacks \"{}\", which is the byte {:#04x} of byte-level BPE, so that text would be lost; "
          "only vocabularies with all bytes are built",
          text, byte));
    }
  }
  return tokens;
}

// The two parts of merges[index], written as "a b" or as ["a", "b"].
std::pair<std::string_view, std::string_view> MergeParts(const JsonNode& merges, size_t index) {
  const JsonValue& merge = merges.value().items[index];
  if (merge.kind == JsonValue::Kind::kArray && merge.items.size() == 2 &&
      merge.items[0].kind == JsonValue::Kind::kString &&
      merge.items[1].kind == JsonValue::Kind::kString) {
    return {merge.items[0].string, merge.items[1].string};
  }
  const std::string_view text = merge.string;
  const size_t space = text.find(' ');
  if (merge.kind != JsonValue::Kind::kString || space == std::string_view::npos ||
      text.find(' ', space + 1) != std::string_view::npos) {
    merges.AsArray()[index].Fail(R"(must be "LEFT RIGHT" or ["LEFT", "RIGHT"])");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

MergeTable ReadMerges(const JsonNode& merges, const StringIds& ids) {
  if (merges.value().kind != JsonValue::Kind::kArray) merges.AsArray();  // refuses
  const std::vector<JsonValue>& items = merges.value().items;
  MergeTable table(items.size());
  int32_t rank = 0;
  std::string joined;
  for (size_t i = 0; i < items.size(); ++i) {
    // The first line of merges.txt, which converters have copied into the list.
    if (items[i].string.starts_with("#version")) continue;
    const auto [left, right] = MergeParts(merges, i);
    joined.assign(left).append(right);
    const auto id_of = [&](std::string_view token) {
      const auto entry = ids.find(token);
      if (entry == ids.end()) {
        merges.AsArray()[i].Fail(fmt::format("names \"{}\", which is not in model.vocab", token));
      }
      return entry->second;
    };
    table.Add(id_of(left), id_of(right), {.rank = rank++, .token = id_of(joined)});
  }
  return table;
}

std::unique_ptr<const BpeModel> ReadModel(const JsonNode& model, TokenizerTables* tables) {
  RequireType(model, {"BPE"}, TypeKey::kOptional);
  RequireKeys(model,
              {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
               "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (HasValue(model, "dropout") && model.Get("dropout").AsReal() != 0) {
    model.Get("dropout").Fail("other than 0 is not built; make it null");
  }
  // Every byte is a token, so that the token for what is unknown cannot occur.
  if (HasValue(model, "unk_token")) model.Get("unk_token").AsString();
  OptionalBool(model, "fuse_unk", false);
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (HasValue(model, key) && !model.Get(key).AsString().empty()) {
      model.Get(key).Fail("is not built; only byte-level BPE without it is");
    }
  }
  if (OptionalBool(model, "byte_fallback", false)) {
    model.Get("byte_fallback").Fail("is not built; only byte-level BPE without it is");
  }
  const JsonNode vocab = model.Get("vocab");
  ReadVocabulary(vocab, tables);
  const std::array<int32_t, 256> byte_tokens = ByteTokens(vocab, *tables);
  StringIds whole_words;
  if (OptionalBool(model, "ignore_merges", false)) {
    const ByteAlphabet alphabet;
    for (const auto& [text, id] : tables->ids) {
      if (auto bytes = alphabet.BytesOf(text)) whole_words.emplace(*std::move(bytes), id);
    }
  }
  return std::make_unique<const BpeModel>(byte_tokens, ReadMerges(model.Get("merges"), tables->ids),
                                          std::move(whole_words));
}

AddedToken ReadAddedToken(const JsonNode& node) {
  RequireKeys(node, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token = {
      .id = static_cast<int32_t>(
          node.Get("id").AsInteger(0, std::numeric_limits<int32_t>::max() - 1)),
      .content = node.Get("content").AsString(),
      .single_word = node.Get("single_word").AsBool(),
      .lstrip = node.Get("lstrip").AsBool(),
      .rstrip = node.Get("rstrip").AsBool(),
      .normalized = node.Get("normalized").AsBool(),
      .special = node.Get("special").AsBool(),
  };
  if (token.content.empty()) node.Get("content").Fail("is empty; remove this token");
  return token;
}

// The library numbers added tokens itself, whatever the file says: those of the vocabulary keep
// their id, the others follow each other behind it.
std::vector<AddedToken> ReadAddedTokens(const JsonNode& list, TokenizerTables* tables) {
  const auto model_tokens = static_cast<int64_t>(tables->ids.size());
  int64_t largest_added = -1;
  std::vector<AddedToken> tokens;
  StringIds seen;
  for (const JsonNode& node : list.AsArray()) {
    AddedToken token = ReadAddedToken(node);
    if (!seen.emplace(token.content, token.id).second) {
      node.Get("content").Fail("is there twice; remove one");
    }
    const auto known = tables->ids.find(token.content);
    const int64_t expected =
        known != tables->ids.end() ? known->second : std::max(model_tokens, largest_added + 1);
    if (token.id != expected) {
      node.Get("id").Fail(fmt::format(
          "is {}, but the tokenizers library gives this token {}; number added tokens without gaps",
          token.id, expected));
    }
    largest_added = std::max(largest_added, expected);
    if (known == tables->ids.end() && tables->bytes.contains(token.id)) {
      node.Get("id").Fail(fmt::format("is {}, which model.vocab gives another token", token.id));
    }
    tables->ids.emplace(token.content, token.id);
    // As it is written: what is not of the vocabulary does not spell bytes.
    tables->bytes.emplace(token.id, token.content);
    if (token.special) tables->special.insert(token.id);
    tables->vocab_size = std::max<int64_t>(tables->vocab_size, int64_t{token.id} + 1);
    tokens.push_back(std::move(token));
  }
  // Of two that are written alike once normalised, the library finds the special one.
  std::stable_partition(tokens.begin(), tokens.end(),
                        [](const AddedToken& token) { return token.special; });
  return tokens;
}

void AddToMatchers(const std::vector<AddedToken>& tokens, BpePipeline* pipeline,
                   TokenizerTables* tables) {
  for (const AddedToken& token : tokens) {
    if (!token.normalized) {
      pipeline->as_written.Add(token.content, token);
      continue;
    }
    std::string text = token.content;
    if (pipeline->nfc != nullptr) {
      text.clear();
      pipeline->nfc->Append(token.content, pipeline->classes, &text);
      std::string& bytes = tables->bytes.at(token.id);
      if (bytes == token.content) bytes = text;  // as it was found in normalised text
    }
    pipeline->normalized.Add(text, token);
  }
}

}  // namespace

std::unique_ptr<TokenizerTables> ReadTokenizerFile(std::string_view json, const std::string& file) {
  return ReadTokenizerFile(JsonDocument::Parse(json, file, kLimits));
}

std::unique_ptr<TokenizerTables> ReadTokenizerFile(const JsonDocument& document) {
  const JsonNode root = document.root();
  root.RequireObject();
  RequireKeys(root, {"version", "truncation", "padding", "added_tokens", "normalizer",
                     "pre_tokenizer", "post_processor", "decoder", "model"});
  if (HasValue(root, "version") && root.Get("version").AsString() != "1.0") {
    root.Get("version").Fail("other than \"1.0\" is not known");
  }
  for (const std::string_view key : {"truncation", "padding"}) {
    if (HasValue(root, key)) {
      root.Get(key).Fail("would change what is encoded, and is not built; make it null");
    }
  }
  auto tables = std::make_unique<TokenizerTables>();
  std::unique_ptr<const BpeModel> model = ReadModel(root.Get("model"), tables.get());
  const bool nfc = HasValue(root, "normalizer") && ReadsAsNfc(root.Get("normalizer"));
  const SplitterSettings splitter = ReadPreTokenizer(root.Get("pre_tokenizer"));
  CheckDecoder(root.Get("decoder"));
  auto pipeline = std::make_unique<BpePipeline>();
  pipeline->model = std::move(model);
  if (nfc) pipeline->nfc = std::make_unique<const NfcNormalizer>();
  pipeline->add_prefix_space = splitter.add_prefix_space;
  pipeline->splitter = std::make_unique<const WordSplitter>(splitter.pattern);
  if (HasValue(root, "added_tokens")) {
    AddToMatchers(ReadAddedTokens(root.Get("added_tokens"), tables.get()), pipeline.get(),
                  tables.get());
  }
  if (HasValue(root, "post_processor")) {
    SurroundingTokens around = ReadPostProcessor(root.Get("post_processor"), *tables);
    tables->prefix = std::move(around.prefix);
    tables->suffix = std::move(around.suffix);
  }
  tables->bpe = std::move(pipeline);
  return tables;
}

}  // namespace hearth
