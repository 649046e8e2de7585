// tokenizer.json and text: the file up to the first zero byte, which JSON cannot hold, then the
// text. A model without a vocabulary is given one: most of a file would be that, of which one entry
// is read like the other.
#include <algorithm>
#include <utility>

#include "runtime/model/json_reader.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/tokenizer_file.h"
#include "runtime/text/utf8.h"
#include "tests/fuzz/targets.h"

namespace hearth::test {

namespace {

std::string Vocabulary() {
  const ByteAlphabet alphabet;
  std::string json;
  for (int byte = 0; byte < 256; ++byte) {
    std::string spelled;
    AppendUtf8(alphabet.CharacterOf(static_cast<uint8_t>(byte)), &spelled);
    if (spelled == "\"" || spelled == "\\") spelled.insert(0, "\\");
    json += "\"" + spelled + "\":" + std::to_string(byte) + ",";
  }
  return "{" + json + R"("ab":256,"abc":257,"Ġa":258,"é":259,"zq":260})";
}

// With the vocabulary written out, and without.
void AddSeeds(const std::string& parts, const std::string& model, const std::string& text,
              std::vector<std::string>* seeds) {
  const std::string begin = "{\"version\":\"1.0\"," + parts + ",\"model\":{" + model;
  const std::string end = "}}" + std::string(1, '\0') + text;
  seeds->push_back(begin + ",\"vocab\":" + Vocabulary() + end);
  seeds->push_back(begin + end);
}

JsonValue& RootOf(JsonDocument& document) {
  return const_cast<JsonValue&>(document.root().value());  // which is no constant
}

// A vocabulary that lies in a file, and is taken back in the end: copying it takes long.
class LentVocabulary {
 public:
  explicit LentVocabulary(JsonValue* place) : place_(place) { std::swap(*place_, TheVocabulary()); }
  ~LentVocabulary() { std::swap(*place_, TheVocabulary()); }
  LentVocabulary(const LentVocabulary&) = delete;
  LentVocabulary& operator=(const LentVocabulary&) = delete;

 private:
  static JsonValue& TheVocabulary() {
    static JsonDocument vocabulary = JsonDocument::Parse(Vocabulary(), "vocabulary");
    return RootOf(vocabulary);
  }

  JsonValue* place_;
};

std::shared_ptr<const Tokenizer> Read(std::string_view json) {
  JsonDocument file = JsonDocument::Parse(json, "tokenizer.json");
  auto& members = RootOf(file).members;
  const auto model = members.find("model");
  const bool lacks_vocabulary = model != members.end() &&
                                model->second.kind == JsonValue::Kind::kObject &&
                                !model->second.members.contains("vocab");
  if (!lacks_vocabulary) return Tokenizer::Parse(json, "tokenizer.json");
  const LentVocabulary lent(&model->second.members["vocab"]);
  return std::make_shared<const Tokenizer>(ReadTokenizerFile(file));
}

constexpr char kQwen2[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";

void Check(const std::shared_ptr<const Tokenizer>& tokenizer, std::string_view text) {
  TokenEncoder encoder(tokenizer);
  for (const bool on : {true, false}) {
    const EncodeOptions options = {.parse_special = on, .add_special = on};
    std::vector<int32_t> tokens;
    encoder.Encode(text, options, &tokens);
    for (const int32_t token : tokens) {
      Require(token >= 0 && token < tokenizer->vocab_size(), "a token outside the vocabulary");
      Require(!tokenizer->TokenBytes(token).empty(), "a token that stands for nothing");
    }
    std::vector<int32_t> again;
    encoder.Encode(text, options, &again);
    Require(again == tokens, "words that were seen before are encoded otherwise");
    const std::string decoded = tokenizer->Decode(tokens);
    Require(ValidUtf8Prefix(decoded) == decoded.size(), "decoded text that is not UTF-8");
    StreamingDecoder decoder(tokenizer);
    std::string streamed;
    for (const int32_t token : tokens) streamed += decoder.Add(token);
    Require(streamed + decoder.Finish() == decoded, "streamed text differs");
  }
}

}  // namespace

int FuzzTokenizer(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const std::string_view input = AsText(data, size);
    const size_t end = std::min(input.find('\0'), input.size());
    const std::shared_ptr<const Tokenizer> tokenizer = Read(input.substr(0, end));
    const std::string_view text = input.substr(std::min(end + 1, input.size()));
    RunAccepted("encoding", [&] { Check(tokenizer, text); });
  });
}

std::vector<std::string> TokenizerSeeds() {
  const std::string byte_level =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":)";
  std::vector<std::string> seeds;
  AddSeeds(
      R"("normalizer":null,"pre_tokenizer":)" + byte_level +
          R"(true},"decoder":{"type":"ByteLevel"})",
      R"("dropout":null,"unk_token":"ab","continuing_subword_prefix":"","merges":["a b","ab c","Ġ a"])",
      "abc ab'll a\xc3\xa9\xff\xe2\x82  \n\n 12", &seeds);
  AddSeeds(
      R"("truncation":null,"padding":null,"added_tokens":[)"
      R"({"id":261,"content":"<|x|>","single_word":false,"lstrip":false,"rstrip":true,"normalized":false,"special":true},)"
      R"({"id":262,"content":"e\u0301","single_word":true,"lstrip":true,"rstrip":false,"normalized":true,"special":false}],)"
      R"("normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"}]},)"
      R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":")" +
          std::string(kQwen2) + R"("},"behavior":"Isolated","invert":false},)" + byte_level +
          R"(false}]},"post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel","trim_offsets":false},)"
          R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|x|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],)"
          R"("pair":[],"special_tokens":{"<|x|>":{"id":"<|x|>","ids":[261],"tokens":["<|x|>"]}}}]},)"
          R"("decoder":)" +
          byte_level + "true}",
      R"("type":"BPE","fuse_unk":false,"byte_fallback":false,"ignore_merges":true,)"
      R"("merges":[["a","b"],["ab","c"],["Ã","©"]])",
      "zq<|x|>  abc e\xcc\x81 \xcc\x81\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8\xef\xbc\x91", &seeds);
  return seeds;
}

std::vector<std::string> TokenizerWords() {
  std::vector<std::string> words = StructureWords();
  for (const char* word : {"\"merges\":",
                           "\"vocab\":",
                           "[\"a\",\"b\"]",
                           "\"a b\"",
                           "true",
                           "false",
                           "<|x|>",
                           "abab",
                           "\"ByteLevel\"",
                           "\"Split\"",
                           "\"NFC\"",
                           "\"Sequence\"",
                           "\"id\":261",
                           "\"special\":true",
                           "\"lstrip\":true",
                           "\"normalized\":true",
                           "\xcc\x81",
                           "\xe1\x85\xa1",
                           "\xc5\xbf",
                           "  \r\n"}) {
    words.emplace_back(word);
  }
  words.emplace_back(1, '\0');
  return words;
}

}  // namespace hearth::test
