#include "runtime/text/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "kernels/core/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/unit/text/small_tokenizer.h"

namespace hearth {
namespace {

using test::AddedTokenJson;
using test::SmallTokenizer;
using Tokens = std::vector<int32_t>;

// Ids of ASCII bytes in SmallTokenizer.
constexpr int32_t Id(char letter) { return letter - '!'; }
constexpr int32_t kSpaceId = 188 + 32;

TEST(Tokenizer, BytesAreTokensOfTheByteTokenizer) {
  const auto tokenizer = Tokenizer::MakeByteTokenizer();
  EXPECT_TRUE(tokenizer->is_byte_tokenizer());
  EXPECT_EQ(tokenizer->vocab_size(), 256);
  const std::string text("a\0\xff\xc3\xa9", 5);
  const Tokens tokens = tokenizer->Encode(text, {.parse_special = true, .add_special = true});
  EXPECT_EQ(tokens, (Tokens{'a', 0, 0xff, 0xc3, 0xa9}));
  EXPECT_EQ(tokenizer->Decode(tokens), std::string("a\0\xef\xbf\xbd\xc3\xa9", 7));
  EXPECT_EQ(tokenizer->TokenId("\xff"), 255);
  EXPECT_EQ(tokenizer->TokenId("ab"), std::nullopt);
  EXPECT_EQ(tokenizer->TokenBytes(0), std::string_view("\0", 1));
  EXPECT_FALSE(tokenizer->IsSpecial(0));
  // XXH3-128 of "byte: id = byte, 256 ids", which every .hearth of bytes so far has in its header.
  EXPECT_EQ(tokenizer->hash(),
            (TokenizerHash{.low = 0xedbe99729cdbd035, .high = 0xf6e2e55b15c913da}));
}

TEST(Tokenizer, MergesInBothLayouts) {
  SmallTokenizer small;
  const Tokens expected = {257, 258, Id('c'), Id('z'), Id('q'), 256};
  EXPECT_EQ(small.Make()->Encode("abc aczqab"), expected);
  small.merges = R"([["a","b"],["ab","c"],["Ġ","a"]])";
  EXPECT_EQ(small.Make()->Encode("abc aczqab"), expected);
  small.merges = R"(["#version: 0.2","a b","ab c","Ġ a"])";
  EXPECT_EQ(small.Make()->Encode("abc aczqab"), expected);
  small.model = R"("ignore_merges":true)";
  EXPECT_EQ(small.Make()->Encode("zq aczq"), (Tokens{259, 258, Id('c'), Id('z'), Id('q')}));
}

TEST(Tokenizer, IdsAndHash) {
  SmallTokenizer small;
  small.added_tokens = "[" + AddedTokenJson(260, "<|x|>") + "]";
  const auto tokenizer = small.Make();
  EXPECT_EQ(tokenizer->vocab_size(), 261);
  EXPECT_EQ(tokenizer->TokenId("<|x|>"), 260);
  EXPECT_EQ(tokenizer->TokenId("Ġa"), 258);
  EXPECT_EQ(tokenizer->TokenId(" a"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(260));
  EXPECT_FALSE(tokenizer->IsSpecial(258));
  EXPECT_EQ(tokenizer->TokenBytes(258), " a");
  EXPECT_EQ(tokenizer->TokenBytes(261), "");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_EQ(tokenizer->hash(), small.Make()->hash());
  SmallTokenizer other = small;
  other.merges += " ";
  EXPECT_NE(tokenizer->hash(), other.Make()->hash());
}

TEST(Tokenizer, SpecialTokensAreFoundOrAreText) {
  SmallTokenizer small;
  small.added_tokens =
      "[" + AddedTokenJson(260, "<x>") + "," + AddedTokenJson(261, "<y>", {.special = false}) + "]";
  const auto tokenizer = small.Make();
  EXPECT_EQ(tokenizer->Encode("a<x><y>"), (Tokens{Id('a'), 260, 261}));
  EXPECT_EQ(tokenizer->Encode("a<x><y>", {.parse_special = false}),
            (Tokens{Id('a'), Id('<'), Id('x'), Id('>'), 261}));
  EXPECT_EQ(tokenizer->Decode(Tokens{Id('a'), 260, 261}), "a<x><y>");
  EXPECT_EQ(tokenizer->Decode(Tokens{Id('a'), 260, 261}, {.skip_special = true}), "a<y>");
}

TEST(Tokenizer, FlagsOfAddedTokens) {
  SmallTokenizer small;
  small.added_tokens = "[" + AddedTokenJson(260, "<l>", {.lstrip = true}) + "," +
                       AddedTokenJson(261, "<r>", {.rstrip = true}) + "," +
                       AddedTokenJson(262, "zz", {.single_word = true}) + "," +
                       AddedTokenJson(263, "<l>+") + "]";
  const auto tokenizer = small.Make();
  EXPECT_EQ(tokenizer->Encode("a \u3000\n<l> a"), (Tokens{Id('a'), 260, 258}));
  EXPECT_EQ(tokenizer->Encode("a <r> \t\u2003a"), (Tokens{Id('a'), kSpaceId, 261, Id('a')}));
  EXPECT_EQ(tokenizer->Encode("<r>  <l>"), (Tokens{261, 260}));
  EXPECT_EQ(tokenizer->Encode("zz zzz zz-zz\u00e9").front(), 262);
  EXPECT_EQ(tokenizer->Encode("zzz"), (Tokens{Id('z'), Id('z'), Id('z')}));
  EXPECT_EQ(tokenizer->Encode("_zz"), (Tokens{Id('_'), Id('z'), Id('z')}));
  EXPECT_EQ(tokenizer->Encode("-zz"), (Tokens{Id('-'), 262}));
  EXPECT_EQ(tokenizer->Encode("<l>+<l>"), (Tokens{263, 260}));  // the longest
}

TEST(Tokenizer, NormalisedTokensAreFoundInNormalisedText) {
  SmallTokenizer small;
  small.normalizer = R"({"type":"NFC"})";
  small.added_tokens = "[" + AddedTokenJson(260, "e\\u0301", {.normalized = true}) + "," +
                       AddedTokenJson(261, "a\\u030a") + "]";
  const auto tokenizer = small.Make();
  EXPECT_EQ(tokenizer->Encode("e\u0301\u00e9"), (Tokens{260, 260}));
  EXPECT_EQ(tokenizer->Encode("a\u030a"), Tokens{261});
  EXPECT_EQ(tokenizer->Encode("\u00e5").size(), 2u);  // as written it is another
  EXPECT_EQ(tokenizer->Decode(Tokens{260}), "\u00e9");
  EXPECT_EQ(tokenizer->Encode("\u1100\u1161"), tokenizer->Encode("\uac00"));
  small.normalizer = "null";
  EXPECT_NE(small.Make()->Encode("\u1100\u1161"), small.Make()->Encode("\uac00"));
}

TEST(Tokenizer, TheTemplateGoesAround) {
  SmallTokenizer small;
  small.added_tokens = "[" + AddedTokenJson(260, "<s>") + "]";
  small.post_processor =
      R"({"type":"Sequence","processors":[{"type":"ByteLevel","trim_offsets":true},)"
      R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},)"
      R"({"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"end","type_id":0}}],"pair":[],)"
      R"("special_tokens":{"<s>":{"id":"<s>","ids":[260],"tokens":["<s>"]},)"
      R"("end":{"id":"end","ids":[1,2],"tokens":["x","y"]}}}]})";
  const auto tokenizer = small.Make();
  EXPECT_EQ(tokenizer->Encode("a", {.add_special = true}), (Tokens{260, Id('a'), 1, 2}));
  EXPECT_EQ(tokenizer->Encode("", {.add_special = true}), (Tokens{260, 1, 2}));
  EXPECT_EQ(tokenizer->Encode("a"), Tokens{Id('a')});
  EXPECT_EQ(tokenizer->prefix_tokens().size(), 1u);
  EXPECT_EQ(tokenizer->suffix_tokens().size(), 2u);
}

TEST(Tokenizer, APrefixSpaceIsPutBeforeEachStretch) {
  SmallTokenizer small;
  small.pre_tokenizer = R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true})";
  small.added_tokens = "[" + AddedTokenJson(260, "<s>") + "]";
  EXPECT_EQ(small.Make()->Encode("a<s>a a<s> a"), (Tokens{258, 260, 258, 258, 260, 258}));
}

TEST(Tokenizer, BrokenUtf8IsReplaced) {
  const auto tokenizer = SmallTokenizer().Make();
  EXPECT_EQ(tokenizer->Encode("a\xff\xe2\x82z"), tokenizer->Encode("a\ufffd\ufffdz"));
}

TEST(StreamingDecoder, HoldsBackWhatIsNotComplete) {
  const auto bytes = Tokenizer::MakeByteTokenizer();
  StreamingDecoder decoder(bytes);
  EXPECT_EQ(decoder.Add('a'), "a");
  EXPECT_EQ(decoder.Add(0xf0), "");
  EXPECT_EQ(decoder.Add(0x9f), "");
  EXPECT_EQ(decoder.Add(0x98), "");
  EXPECT_EQ(decoder.Add(0x80), "\U0001f600");
  EXPECT_EQ(decoder.Add(0xe2), "");
  EXPECT_EQ(decoder.Add('b'), "\ufffdb");
  EXPECT_EQ(decoder.Add(0x80), "\ufffd");
  EXPECT_EQ(decoder.Add(0xe2), "");
  EXPECT_EQ(decoder.Add(0x82), "");
  EXPECT_EQ(decoder.Add(1000), "");  // no token
  EXPECT_EQ(decoder.Finish(), "\ufffd");
  EXPECT_EQ(decoder.Finish(), "");
}

// More words than an encoder remembers, on several threads.
TEST(TokenEncoder, WhatItRemembersChangesNothing) {
  const auto tokenizer = SmallTokenizer().Make();
  constexpr int kThreads = 4;
  std::vector<Tokens> results(kThreads);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      TokenEncoder encoder(tokenizer);
      Tokens unused;
      for (int i = 0; i < thread * 60'000; ++i) {
        encoder.Encode(" w" + std::to_string(i), {}, &unused);
      }
      for (int i = 0; i < 5000; ++i) {
        encoder.Encode("abc ab" + std::to_string(i % 3000) + " zq", {},
                       &results[static_cast<size_t>(thread)]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Tokens& result : results) EXPECT_EQ(result, results[0]);
  Tokens expected;
  for (int i = 0; i < 5000; ++i) {
    const Tokens part = tokenizer->Encode("abc ab" + std::to_string(i % 3000) + " zq");
    expected.insert(expected.end(), part.begin(), part.end());
  }
  EXPECT_EQ(results[0], expected);
}

TEST(Tokenizer, LoadsAFileOrItsFolder) {
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "tokenizer.json";
  EXPECT_THROW(Tokenizer::Load(folder.path()), IoError);
  std::ofstream(file) << SmallTokenizer().Json();
  EXPECT_EQ(Tokenizer::Load(folder.path())->hash(), SmallTokenizer().Make()->hash());
  EXPECT_EQ(Tokenizer::Load(file)->Encode("ab"), Tokens{256});
}

}  // namespace
}  // namespace hearth
