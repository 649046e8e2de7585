#include "runtime/data/paragraphs.h"

namespace hearth {

namespace {

constexpr std::string_view kWhiteSpace = " \t\r\n\f\v";
constexpr std::string_view kSeparator = "\n\n";

std::string_view TrimEnd(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kWhiteSpace) + 1);
}

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kWhiteSpace);
  return begin == text.npos ? std::string_view() : TrimEnd(text.substr(begin));
}

}  // namespace

void ForEachParagraph(std::string_view text, const std::function<bool(std::string_view)>& visit) {
  size_t paragraph_begin = text.npos;
  size_t line_begin = 0;
  while (line_begin <= text.size()) {
    const size_t newline = text.find('\n', line_begin);
    const size_t line_end = newline == text.npos ? text.size() : newline;
    const bool blank = Trim(text.substr(line_begin, line_end - line_begin)).empty();
    if (blank && paragraph_begin != text.npos) {
      if (!visit(TrimEnd(text.substr(paragraph_begin, line_begin - paragraph_begin)))) return;
      paragraph_begin = text.npos;
    } else if (!blank && paragraph_begin == text.npos) {
      paragraph_begin = line_begin;
    }
    line_begin = line_end + 1;
  }
  if (paragraph_begin != text.npos) visit(TrimEnd(text.substr(paragraph_begin)));
}

ParagraphFilter::Split ParagraphFilter::Add(std::string_view document) {
  Split split;
  const auto append = [](std::string& text, std::string_view paragraph) {
    // The newline that ends the paragraph before is already there.
    if (!text.empty()) text += '\n';
    text += paragraph;
    text += '\n';
  };
  ForEachParagraph(document, [&](std::string_view paragraph) {
    if (full_) return false;
    if (!seen_.insert(Xxh3Hash128(Trim(paragraph))).second) {
      ++dropped_;
      return true;
    }
    const int64_t bytes = static_cast<int64_t>(paragraph.size() + kSeparator.size());
    if (options_.max_bytes > 0 && kept_bytes_ + bytes > options_.max_bytes) {
      full_ = true;
      return false;
    }
    kept_bytes_ += bytes;
    ++kept_;
    const bool hold_out = options_.holdout_every > 0 && kept_ % options_.holdout_every == 0;
    append(hold_out ? split.holdout : split.train, paragraph);
    return true;
  });
  return split;
}

}  // namespace hearth
