#include "runtime/text/added_tokens.h"

#include <algorithm>

#include "kernels/core/check.h"
#include "runtime/text/utf8.h"

namespace hearth {

namespace {

bool IsContinuation(char byte) { return (static_cast<uint8_t>(byte) & 0xc0) == 0x80; }

// The start of the character that ends at `end` > 0.
size_t CharacterBefore(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && IsContinuation(text[at])) --at;
  return at;
}

bool HasClass(std::string_view text, size_t at, CharacterClass bit,
              const CharacterClasses& classes) {
  return (classes.Of(ReadUtf8(text, at).code_point) & bit) != 0;
}

size_t SkipSpacesBack(std::string_view text, size_t at, size_t lowest,
                      const CharacterClasses& classes) {
  while (at > lowest) {
    const size_t before = CharacterBefore(text, at);
    if (!HasClass(text, before, kSpace, classes)) break;
    at = before;
  }
  return at;
}

size_t SkipSpaces(std::string_view text, size_t at, const CharacterClasses& classes) {
  while (at < text.size() && HasClass(text, at, kSpace, classes)) {
    at += static_cast<size_t>(ReadUtf8(text, at).length);
  }
  return at;
}

}  // namespace

void AddedTokenMatcher::Add(std::string_view text, const AddedToken& token) {
  CHECK(!text.empty(), "an added token without text");
  begins_[static_cast<uint8_t>(text[0])] = true;
  int32_t node = 0;
  for (const char byte : text) {
    int32_t child = Child(node, byte);
    if (child < 0) {
      child = Narrow<int32_t>(nodes_.size());
      nodes_[static_cast<size_t>(node)].children.emplace_back(byte, child);
      nodes_.emplace_back();
    }
    node = child;
  }
  int32_t& ends_here = nodes_[static_cast<size_t>(node)].token;
  if (ends_here >= 0) return;
  ends_here = Narrow<int32_t>(tokens_.size());
  tokens_.push_back(token);
}

int32_t AddedTokenMatcher::Child(int32_t node, char byte) const {
  for (const auto& [next, child] : nodes_[static_cast<size_t>(node)].children) {
    if (next == byte) return child;
  }
  return -1;
}

std::optional<AddedTokenMatcher::Found> AddedTokenMatcher::FindFrom(std::string_view text,
                                                                    size_t from) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[static_cast<uint8_t>(text[begin])]) continue;
    Found found;
    int32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      node = Child(node, text[at]);
      if (node < 0) break;
      const int32_t token = nodes_[static_cast<size_t>(node)].token;
      if (token >= 0) found = {begin, at + 1, &tokens_[static_cast<size_t>(token)]};
    }
    if (found.token != nullptr) return found;
  }
  return std::nullopt;
}

void AddedTokenMatcher::Split(std::string_view text, bool find_special,
                              const CharacterClasses& classes,
                              std::vector<TextPiece>* pieces) const {
  size_t done = 0;  // what lies before is in pieces
  size_t from = 0;
  while (const std::optional<Found> found = tokens_.empty() ? std::nullopt : FindFrom(text, from)) {
    const AddedToken& token = *found->token;
    from = found->end;
    if (token.special && !find_special) continue;
    if (token.single_word &&
        ((found->begin > 0 &&
          HasClass(text, CharacterBefore(text, found->begin), kWord, classes)) ||
         (found->end < text.size() && HasClass(text, found->end, kWord, classes)))) {
      continue;
    }
    // White space that the token before took stays with it.
    const size_t begin =
        token.lstrip ? SkipSpacesBack(text, found->begin, done, classes) : found->begin;
    const size_t end = token.rstrip ? SkipSpaces(text, found->end, classes) : found->end;
    if (done < begin) pieces->push_back({.text = text.substr(done, begin - done)});
    pieces->push_back({.text = text.substr(begin, end - begin), .token = token.id});
    done = end;
  }
  if (done < text.size()) pieces->push_back({.text = text.substr(done)});
}

}  // namespace hearth
