// Tokens that are found in text as they are written, before anything else looks at it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/text/character_classes.h"

namespace hearth {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and behind it
  bool normalized = false;   // looked for in the normalised text, not in the text as it came
  bool special = false;
};

// A stretch of text: one added token, or what lies between them.
struct TextPiece {
  std::string_view text;
  int32_t token = -1;  // -1: not a token
};

// Finds a set of added tokens: from left to right, the longest of those that begin at a place.
class AddedTokenMatcher {
 public:
  // Adds a token that is written as `text`, not empty. Of two with the same text the first is
  // found.
  void Add(std::string_view text, const AddedToken& token);
  bool empty() const { return tokens_.empty(); }

  // Appends the pieces of `text`, valid UTF-8. Without `find_special` special tokens are text, but
  // still hide others that begin inside them, as in the library.
  void Split(std::string_view text, bool find_special, const CharacterClasses& classes,
             std::vector<TextPiece>* pieces) const;

 private:
  struct Node {
    std::vector<std::pair<char, int32_t>> children;  // index of a node by the next byte
    int32_t token = -1;                              // index in tokens_ of what ends here
  };
  struct Found {
    size_t begin = 0;
    size_t end = 0;
    const AddedToken* token = nullptr;
  };

  int32_t Child(int32_t node, char byte) const;
  std::optional<Found> FindFrom(std::string_view text, size_t from) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::vector<bool> begins_ = std::vector<bool>(256, false);  // bytes with which a token begins
};

}  // namespace hearth
