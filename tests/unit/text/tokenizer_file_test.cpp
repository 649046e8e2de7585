// What a tokenizer.json may not hold, and how it is said.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "tests/unit/text/small_tokenizer.h"

namespace hearth {
namespace {

using test::AddedTokenJson;
using test::SmallTokenizer;
using testing::HasSubstr;
using testing::StartsWith;

std::string RefusalOf(const std::string& json) {
  try {
    Tokenizer::Parse(json, "tokenizer.json");
  } catch (const ConfigError& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "accepted";
}

struct Refusal {
  std::string SmallTokenizer::*part;
  std::string value;
  std::string place;  // line:column; empty: not compared
  std::string says;
};

void ExpectRefusals(const std::vector<Refusal>& refusals) {
  for (const Refusal& refusal : refusals) {
    SmallTokenizer small;
    small.*refusal.part = refusal.value;
    const std::string message = RefusalOf(small.Json());
    EXPECT_THAT(message, HasSubstr(refusal.says)) << refusal.value;
    EXPECT_THAT(message, StartsWith("tokenizer.json:" + refusal.place)) << refusal.value;
    EXPECT_THAT(message, HasSubstr(refusal.place + (refusal.place.empty() ? "" : ": error: ")));
  }
}

TEST(TokenizerFile, NormalisersThatAreNotBuiltAreNamed) {
  ExpectRefusals({
      {&SmallTokenizer::normalizer, R"({"type":"Lowercase"})", "2:22",
       R"(normalizer.type "Lowercase" is not built)"},
      {&SmallTokenizer::normalizer,
       R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"NFKC"}]})", "2:71",
       R"(normalizer.normalizers[1].type "NFKC" is not built)"},
      {&SmallTokenizer::normalizer, R"({"type":"NFC","x":1})", "2:32", "normalizer.x is not known"},
  });
}

TEST(TokenizerFile, PreTokenizersThatAreNotBuiltAreNamed) {
  ExpectRefusals({
      {&SmallTokenizer::pre_tokenizer, "null", "3:17", "only byte-level BPE is built"},
      {&SmallTokenizer::pre_tokenizer, R"({"type":"Metaspace"})", "3:25",
       R"("Metaspace" is not built)"},
      {&SmallTokenizer::pre_tokenizer, test::SplitBy(R"(\\d+)"), "",
       "pattern.Regex is not a pattern that is built"},
      {&SmallTokenizer::pre_tokenizer,
       R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})", "3:17",
       "does not split text into words"},
      {&SmallTokenizer::pre_tokenizer,
       R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},)" +
           std::string(test::kByteLevel) + "]}",
       "3:61", R"("Digits" is not built)"},
  });
}

TEST(TokenizerFile, DecodersAndPostProcessorsThatAreNotBuiltAreNamed) {
  ExpectRefusals({
      {&SmallTokenizer::decoder, "null", "5:11", "it must be a ByteLevel"},
      {&SmallTokenizer::decoder, R"({"type":"WordPiece"})", "5:19", R"("WordPiece" is not built)"},
      {&SmallTokenizer::post_processor, R"({"type":"RobertaProcessing"})", "4:26", "is not built"},
      {&SmallTokenizer::post_processor,
       R"({"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"z"}}],)"
       R"("pair":[],"special_tokens":{"z":{"ids":[999]}}})",
       "", "is 999, which no token has"},
      {&SmallTokenizer::post_processor,
       R"({"type":"TemplateProcessing","single":[],"pair":[],"special_tokens":{}})", "",
       "lacks the text"},
  });
}

TEST(TokenizerFile, ModelsThatAreNotBuiltAreNamed) {
  ExpectRefusals({
      {&SmallTokenizer::model, R"("type":"Unigram")", "6:17",
       R"(model.type "Unigram" is not built)"},
      {&SmallTokenizer::model, R"("dropout":0.1)", "6:20", "model.dropout other than 0"},
      {&SmallTokenizer::model, R"("byte_fallback":true)", "6:26",
       "model.byte_fallback is not built"},
      {&SmallTokenizer::model, R"("end_of_word_suffix":"</w>")", "6:31", "is not built"},
      {&SmallTokenizer::model, R"("continuing_subword_prefix":"##")", "6:38", "is not built"},
      {&SmallTokenizer::model, R"("cache":1)", "6:18", "model.cache is not known"},
  });
}

TEST(TokenizerFile, VocabulariesAndMergesThatAreNotBuiltAreNamed) {
  ExpectRefusals({
      {&SmallTokenizer::more_vocab, R"(,"new":256)", "", "the id of another token"},
      {&SmallTokenizer::more_vocab, R"(,"new":-1)", "", "model.vocab.new is no id"},
      {&SmallTokenizer::more_vocab, R"(,"new":2147483648)", "", "model.vocab.new is no id"},
      {&SmallTokenizer::more_vocab, R"(,"ab":300)", "", "is there twice"},
      {&SmallTokenizer::merges, R"(["a b","a  b"])", "8:17", "model.merges[1] must be"},
      {&SmallTokenizer::merges, R"([["a","b","c"]])", "8:11", "model.merges[0] must be"},
      {&SmallTokenizer::merges, R"([["a",1]])", "8:11", "model.merges[0] must be"},
      {&SmallTokenizer::merges, R"(["b a"])", "8:11", R"(names "ba", which is not in model.vocab)"},
      {&SmallTokenizer::merges, "{}", "8:10", "it must be a list"},
  });
}

TEST(TokenizerFile, OtherPartsThatAreNotBuiltAreNamed) {
  ExpectRefusals({
      {&SmallTokenizer::more, R"(,"truncation":{"max_length":5})", "8:46",
       "truncation would change"},
      {&SmallTokenizer::more, R"(,"padding":{})", "8:43", "padding would change"},
      {&SmallTokenizer::more, R"(,"version":"2.0")", "8:43", "version other than"},
      {&SmallTokenizer::more, R"(,"extra":null)", "8:41", "extra is not known"},
      {&SmallTokenizer::added_tokens, "[" + AddedTokenJson(261, "<x>") + "]", "1:24",
       "gives this token 260"},
      {&SmallTokenizer::added_tokens, "[" + AddedTokenJson(260, "ab") + "]", "1:24",
       "gives this token 256"},
      {&SmallTokenizer::added_tokens, "[" + AddedTokenJson(260, "") + "]", "1:38", "is empty"},
      {&SmallTokenizer::added_tokens,
       "[" + AddedTokenJson(260, "<x>") + "," + AddedTokenJson(261, "<x>") + "]", "",
       "is there twice"},
      {&SmallTokenizer::added_tokens, R"([{"id":260,"content":"<x>"}])", "1:18", "lacks"},
  });
}

TEST(TokenizerFile, AVocabularyWithoutAllBytesIsRefused) {
  std::string json = SmallTokenizer().Json();
  const std::string byte = "\"!\":0,";
  json.erase(json.find(byte), byte.size());
  EXPECT_THAT(RefusalOf(json), HasSubstr("model.vocab lacks \"!\", which is the byte 0x21"));
}

// 0xc0 occurs in no UTF-8, so that no text is lost without it.
TEST(TokenizerFile, BytesThatNoTextHasMayBeMissing) {
  std::string json = SmallTokenizer().Json();
  const size_t at = json.find("\"\u00c0\":");
  json.erase(at, json.find(',', at) + 1 - at);
  const auto tokenizer = Tokenizer::Parse(json, "tokenizer.json");
  EXPECT_EQ(tokenizer->Encode("\xc0"), tokenizer->Encode("\ufffd"));
}

TEST(TokenizerFile, JsonIsReadStrictly) {
  const std::string json = SmallTokenizer().Json();
  EXPECT_THAT(RefusalOf(json.substr(0, json.size() / 2)), StartsWith("tokenizer.json:7:"));
  EXPECT_THAT(RefusalOf("[]"), HasSubstr("it must be an object"));
  EXPECT_THAT(RefusalOf("{}"), HasSubstr("lacks \"model\""));
  EXPECT_THAT(RefusalOf(json + "x"), HasSubstr("expected end of input"));
}

// What older files say or leave out.
TEST(TokenizerFile, OlderLayoutsAreRead) {
  SmallTokenizer small;
  small.model =
      R"("dropout":0.0,"unk_token":"<unk>","continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":true)";
  small.pre_tokenizer = R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true})";
  small.post_processor = R"({"type":"ByteLevel","trim_offsets":true})";
  small.more = R"(,"version":"1.0","truncation":null,"padding":null)";
  EXPECT_EQ(RefusalOf(small.Json()), "accepted");
  small.pre_tokenizer = test::SplitBy(test::kLlama3Regex);
  EXPECT_EQ(RefusalOf(small.Json()), "accepted");
  small.pre_tokenizer = test::SplitBy(test::kGpt2Regex);
  EXPECT_EQ(RefusalOf(small.Json()), "accepted");
}

}  // namespace
}  // namespace hearth
