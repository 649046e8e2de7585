// Cuts text into the words that BPE works on, by the regular expressions of GPT-2, Llama 3 and
// Qwen2.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/text/character_classes.h"

namespace hearth {

enum class SplitPattern : uint8_t { kGpt2, kLlama3, kQwen2 };

// The pattern that a tokenizer.json writes as `expression`.
std::optional<SplitPattern> FindSplitPattern(std::string_view expression);

// PCRE2 is given one byte a character, the character's class where it is not ASCII: what a letter
// is then does not depend on PCRE2's version of Unicode. Immutable.
class WordSplitter {
 public:
  explicit WordSplitter(SplitPattern pattern);
  ~WordSplitter();
  WordSplitter(const WordSplitter&) = delete;
  WordSplitter& operator=(const WordSplitter&) = delete;

 private:
  friend class WordReader;

  struct Code;
  std::unique_ptr<Code> code_;
};

// Walks over the words of one text after another; for one thread. The words cover the text.
class WordReader {
 public:
  // Both must outlive the reader.
  WordReader(const WordSplitter& splitter, const CharacterClasses& classes);
  ~WordReader();
  WordReader(const WordReader&) = delete;
  WordReader& operator=(const WordReader&) = delete;

  // `text` is valid UTF-8 and must outlive the walk.
  void Start(std::string_view text);
  // False at the end.
  bool Next(std::string_view* word);

 private:
  struct Match;

  const WordSplitter* splitter_;
  const CharacterClasses* classes_;
  std::unique_ptr<Match> match_;
  std::string_view text_;
  std::string class_bytes_;
  std::string_view subject_;  // the text itself where it is ASCII, else class_bytes_
  size_t text_at_ = 0;
  size_t subject_at_ = 0;
};

}  // namespace hearth
