#include "runtime/text/word_splitter.h"

#include <pcre2.h>

#include <limits>
#include <utility>

#include "kernels/core/check.h"
#include "runtime/text/utf8.h"

namespace hearth {

namespace {

// What stands for a character that is not ASCII.
constexpr char kLetterByte = '\x80';
constexpr char kNumberByte = '\x81';
constexpr char kSpaceByte = '\x82';
constexpr char kOtherByte = '\x83';
constexpr char kLongSByte = '\x84';  // U+017F, a letter that is an s to (?i:...)
constexpr char32_t kLongS = 0x17f;

struct KnownPattern {
  SplitPattern pattern;
  std::string_view expression;  // as in tokenizer.json
};

constexpr KnownPattern kKnownPatterns[] = {
    {SplitPattern::kGpt2,
     R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {SplitPattern::kGpt2,
     R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {SplitPattern::kLlama3,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {SplitPattern::kQwen2,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
};

// The same over class bytes. Inside brackets: letters, numbers, spaces.
std::string ClassExpression(SplitPattern pattern) {
  const std::string l = R"(a-zA-Z\x80\x84)";
  const std::string n = R"(0-9\x81)";
  const std::string s = R"(\x09-\x0d\x20\x82)";
  const std::string spaces = "[" + s + "]+(?![^" + s + "])|[" + s + "]+";
  if (pattern == SplitPattern::kGpt2) {
    return "'s|'t|'re|'ve|'m|'ll|'d| ?[" + l + "]+| ?[" + n + "]+| ?[^" + s + l + n + "]+|" +
           spaces;
  }
  const std::string digits = pattern == SplitPattern::kLlama3 ? "{1,3}" : "";
  return R"('(?:[sS\x84tTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\r\n)" + l + n + "]?[" + l + "]+|[" +
         n + "]" + digits + "| ?[^" + s + l + n + R"(]+[\r\n]*|[)" + s + R"(]*[\r\n]+|)" + spaces;
}

}  // namespace

std::optional<SplitPattern> FindSplitPattern(std::string_view expression) {
  for (const KnownPattern& known : kKnownPatterns) {
    if (known.expression == expression) return known.pattern;
  }
  return std::nullopt;
}

struct WordSplitter::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

WordSplitter::WordSplitter(SplitPattern pattern) : code_(std::make_unique<Code>()) {
  const std::string expression = ClassExpression(pattern);
  int error = 0;
  PCRE2_SIZE place = 0;
  // Anchored here, since matches that ask for it are interpreted.
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                              PCRE2_ANCHORED, &error, &place, nullptr);
  CHECK(code_->code != nullptr, "PCRE2 refuses {} at {}: error {}", expression, place, error);
  // Where a system forbids code made at run time, PCRE2 interprets: slower, but the same.
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);
}

WordSplitter::~WordSplitter() = default;

struct WordReader::Match {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  ~Match() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
};

WordReader::WordReader(const WordSplitter& splitter, const CharacterClasses& classes)
    : splitter_(&splitter), classes_(&classes), match_(std::make_unique<Match>()) {
  match_->data = pcre2_match_data_create(1, nullptr);
  match_->context = pcre2_match_context_create(nullptr);
  CHECK(match_->data != nullptr && match_->context != nullptr, "no memory for a match of PCRE2");
  // The default is less than the steps back over a run of ten million spaces. No expression here
  // takes more than linear time.
  pcre2_set_match_limit(match_->context, std::numeric_limits<uint32_t>::max());
}

WordReader::~WordReader() = default;

void WordReader::Start(std::string_view text) {
  text_ = text;
  text_at_ = subject_at_ = 0;
  size_t at = AsciiPrefix(text);
  subject_ = text;
  if (at == text.size()) return;
  class_bytes_.assign(text.substr(0, at));
  while (at < text.size()) {
    const Utf8Character character = ReadUtf8(text, at);
    at += static_cast<size_t>(character.length);
    if (character.length == 1) {
      class_bytes_.push_back(static_cast<char>(character.code_point));
      continue;
    }
    const uint8_t bits = classes_->Of(character.code_point);
    class_bytes_.push_back(character.code_point == kLongS ? kLongSByte
                           : (bits & kLetter) != 0        ? kLetterByte
                           : (bits & kNumber) != 0        ? kNumberByte
                           : (bits & kSpace) != 0         ? kSpaceByte
                                                          : kOtherByte);
  }
  subject_ = class_bytes_;
}

bool WordReader::Next(std::string_view* word) {
  if (subject_at_ == subject_.size()) return false;
  const int result =
      pcre2_match(splitter_->code_->code, reinterpret_cast<PCRE2_SPTR>(subject_.data()),
                  subject_.size(), subject_at_, 0, match_->data, match_->context);
  CHECK(result == 1, "a pattern that matches everywhere gave {} at {}", result, subject_at_);
  const size_t end = pcre2_get_ovector_pointer(match_->data)[1];
  CHECK(end > subject_at_, "an empty word at {}", subject_at_);
  size_t text_end = text_at_;
  if (subject_.data() == text_.data()) {
    text_end = end;
  } else {
    for (size_t i = subject_at_; i < end; ++i) {
      const auto lead = static_cast<uint8_t>(text_[text_end]);
      text_end += lead < 0x80 ? 1u : lead < 0xe0 ? 2u : lead < 0xf0 ? 3u : 4u;
    }
  }
  *word = text_.substr(text_at_, text_end - text_at_);
  text_at_ = text_end;
  subject_at_ = end;
  return true;
}

}  // namespace hearth
