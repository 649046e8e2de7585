// The inputs of `hearth prepare` as one sequence of documents.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/prepare.h"
#include "runtime/data/token_file.h"

namespace hearth {

// Either text, or tokens [begin, end) of a file; valid during the visit.
struct InputDocument {
  std::string_view text;
  const TokenFile* tokens = nullptr;
  int64_t begin = 0;
  int64_t end = 0;

  // Bytes of text or tokens.
  int64_t length() const {
    return tokens == nullptr ? static_cast<int64_t>(text.size()) : end - begin;
  }
};

class PrepareInputs {
 public:
  struct Input {
    std::string path;
    InputFormat format = InputFormat::kAuto;
    int64_t bytes = 0;
  };

  // Returns false to stop. `bytes_done` counts input bytes up to the end of the document.
  using Visitor = std::function<bool(const InputDocument& document, int64_t bytes_done)>;

  // Expands the globs, finds each file's format and opens the token files. Throws ConfigError for a
  // format that cannot be told, and for text mixed with tokens.
  explicit PrepareInputs(const PrepareOptions& options);

  // Every document that is not empty, in order.
  void ForEachDocument(const Visitor& visit) const;

  bool is_text() const { return token_files_.empty(); }
  const std::vector<Input>& inputs() const { return inputs_; }
  int64_t files() const { return static_cast<int64_t>(inputs_.size()); }
  int64_t bytes() const { return bytes_; }
  const std::vector<std::unique_ptr<TokenFile>>& token_files() const { return token_files_; }

 private:
  bool VisitText(const Input& input, int64_t bytes_before, const Visitor& visit) const;
  bool VisitJsonl(const Input& input, int64_t bytes_before, const Visitor& visit) const;
  bool VisitTokens(const TokenFile& file, int64_t bytes_before, const Visitor& visit) const;

  std::string field_;
  std::vector<Input> inputs_;
  std::vector<std::unique_ptr<TokenFile>> token_files_;  // [inputs] or none
  int64_t bytes_ = 0;
};

}  // namespace hearth
