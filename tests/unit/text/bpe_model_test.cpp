#include "runtime/text/bpe_model.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <utility>

#include "runtime/text/word_cache.h"

namespace hearth {
namespace {

// Letters a to d are tokens 0 to 3; each merge makes the next token.
struct RandomModel {
  std::map<std::pair<int32_t, int32_t>, Merge> merges;
  std::vector<std::string> texts = {"a", "b", "c", "d"};

  RandomModel(std::mt19937* random, int count) {
    std::map<std::string, int32_t> ids;
    for (int rank = 0; rank < count; ++rank) {
      const auto left = static_cast<int32_t>((*random)() % texts.size());
      const auto right = static_cast<int32_t>((*random)() % texts.size());
      const std::string text = texts[static_cast<size_t>(left)] + texts[static_cast<size_t>(right)];
      if (text.size() > 12 || merges.contains({left, right})) continue;
      const auto [entry, added] = ids.emplace(text, static_cast<int32_t>(texts.size()));
      if (added) texts.push_back(text);
      merges[{left, right}] = {.rank = rank, .token = entry->second};
    }
  }

  BpeModel Make() const {
    std::array<int32_t, 256> byte_tokens;
    byte_tokens.fill(-1);
    for (int i = 0; i < 4; ++i) byte_tokens[static_cast<size_t>('a' + i)] = i;
    MergeTable table(merges.size());
    for (const auto& [pair, merge] : merges) table.Add(pair.first, pair.second, merge);
    return BpeModel(byte_tokens, std::move(table), {});
  }

  // The definition: again and again the leftmost pair of the lowest rank.
  std::vector<int32_t> Expected(const std::string& word) const {
    std::vector<int32_t> tokens;
    for (const char letter : word) tokens.push_back(letter - 'a');
    for (;;) {
      size_t best = tokens.size();
      Merge merge;
      for (size_t i = 0; i + 1 < tokens.size(); ++i) {
        const auto entry = merges.find({tokens[i], tokens[i + 1]});
        if (entry == merges.end() || (merge.rank >= 0 && entry->second.rank >= merge.rank)) {
          continue;
        }
        best = i;
        merge = entry->second;
      }
      if (best == tokens.size()) return tokens;
      tokens[best] = merge.token;
      tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
  }
};

TEST(BpeModel, EqualsTheDefinitionOnRandomMergesAndWords) {
  std::mt19937 random(5);
  BpeModel::Scratch scratch;
  for (int round = 0; round < 60; ++round) {
    const RandomModel definition(&random, 5 + round * 3);
    const BpeModel model = definition.Make();
    for (int i = 0; i < 60; ++i) {
      std::string word(random() % 40, 'a');
      const unsigned letters = 1 + random() % 4;
      for (char& letter : word) letter = static_cast<char>('a' + random() % letters);
      std::vector<int32_t> tokens = {-7};
      model.EncodeWord(word, &scratch, &tokens);
      std::vector<int32_t> expected = definition.Expected(word);
      expected.insert(expected.begin(), -7);
      ASSERT_EQ(tokens, expected) << word;
    }
  }
}

// A million letters: quadratic time would take minutes.
TEST(BpeModel, LongWords) {
  std::mt19937 random(6);
  const RandomModel definition(&random, 200);
  BpeModel::Scratch scratch;
  std::vector<int32_t> tokens;
  std::string word(1'000'000, 'a');
  for (size_t i = 0; i < word.size(); i += 3) word[i] = static_cast<char>('a' + random() % 4);
  definition.Make().EncodeWord(word, &scratch, &tokens);
  std::string again;
  for (const int32_t token : tokens) again += definition.texts[static_cast<size_t>(token)];
  EXPECT_EQ(again, word);
}

TEST(BpeModel, OfTwoEqualMergesTheLaterCounts) {
  MergeTable table(2);
  table.Add(1, 2, {.rank = 0, .token = 3});
  table.Add(1, 2, {.rank = 5, .token = 4});
  EXPECT_EQ(table.Find(1, 2).rank, 5);
  EXPECT_EQ(table.Find(1, 2).token, 4);
  EXPECT_EQ(table.Find(2, 1).rank, -1);
  EXPECT_EQ(table.Find(0, 0).rank, -1);
}

TEST(WordCache, FindsWhatItHoldsAndNothingElse) {
  WordCache cache;
  int64_t found = 0;
  for (int32_t i = 0; i < 300'000; ++i) {
    const std::string word = "w" + std::to_string(i);
    ASSERT_FALSE(cache.Find(word).has_value()) << word;
    const int32_t tokens[] = {i, i + 1};
    cache.Add(word, std::span(tokens).first(static_cast<size_t>(1 + i % 2)));
    // The newest is always there.
    const auto newest = cache.Find(word);
    ASSERT_TRUE(newest.has_value());
    ASSERT_EQ(newest->size(), static_cast<size_t>(1 + i % 2));
    ASSERT_EQ(newest->front(), i);
    const int32_t earlier = i / 2;
    if (const auto tokens_before = cache.Find("w" + std::to_string(earlier))) {
      ++found;
      ASSERT_EQ(tokens_before->front(), earlier);
    }
  }
  EXPECT_GT(found, 50'000);
  const std::string long_word(WordCache::kMaxWordBytes + 1, 'x');
  cache.Add(long_word, {});
  EXPECT_FALSE(cache.Find(long_word).has_value());
}

}  // namespace
}  // namespace hearth
