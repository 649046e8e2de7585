#include "runtime/data/prepare_chunks.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace hearth {

namespace {

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

}  // namespace

int64_t FindTextCut(std::string_view text, int64_t from) {
  for (size_t at = static_cast<size_t>(std::max<int64_t>(from, 2)) - 1; at < text.size(); ++at) {
    at = text.find('\n', at);
    if (at == text.npos || at + 1 == text.size()) break;
    if (IsLetter(text[at - 1]) && IsLetter(text[at + 1])) return static_cast<int64_t>(at) + 1;
  }
  return static_cast<int64_t>(text.size());
}

ChunkCutter::ChunkCutter(const PrepareInputs& inputs, const ChunkOptions& options,
                         ChunkCursor start)
    : inputs_(inputs), options_(options), cursor_(start) {}

InputChunk ChunkCutter::NextLines(std::string_view rest) {
  const size_t least = static_cast<size_t>(options_.chunk_bytes) - 1;
  const size_t end = least < rest.size() ? rest.find('\n', least) : rest.npos;
  InputChunk chunk;
  chunk.text = rest.substr(0, end == rest.npos ? end : end + 1);
  chunk.is_jsonl = true;
  chunk.first_line = cursor_.line;
  cursor_.line += std::count(chunk.text.begin(), chunk.text.end(), '\n');
  return chunk;
}

InputChunk ChunkCutter::NextText(std::string_view text) {
  const auto size = static_cast<int64_t>(text.size());
  const auto cut = [&](int64_t at) {
    return options_.cuts == TextCuts::kAnywhere ? std::min(at, size) : FindTextCut(text, at);
  };
  const int64_t begin = cursor_.offset;
  int64_t end = options_.cuts == TextCuts::kNowhere ? size : cut(begin + options_.chunk_bytes);
  InputChunk chunk;
  if (options_.held_out_tail > 0) {
    const int64_t tail =
        cut(size - std::llround(options_.held_out_tail * static_cast<double>(size)));
    chunk.held_out = begin >= tail;
    if (begin < tail) end = std::min(end, tail);
    chunk.begins_document = begin == 0 || begin == tail;
    chunk.ends_document = end == size || end == tail;
  } else {
    chunk.begins_document = begin == 0;
    chunk.ends_document = end == size;
  }
  chunk.text = text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  return chunk;
}

std::optional<InputChunk> ChunkCutter::Next() {
  while (cursor_.file < inputs_.files()) {
    const PrepareInputs::Input& input = inputs_.inputs()[static_cast<size_t>(cursor_.file)];
    if (file_ == nullptr || file_->path() != input.path) {
      file_ = std::make_shared<const MappedFile>(input.path);
    }
    if (cursor_.offset >= file_->size()) {
      cursor_ = {.file = cursor_.file + 1};
      continue;
    }
    const std::string_view text = file_->text();
    InputChunk chunk = input.format == InputFormat::kJsonl
                           ? NextLines(text.substr(static_cast<size_t>(cursor_.offset)))
                           : NextText(text);
    chunk.file = file_;
    chunk.bytes = static_cast<int64_t>(chunk.text.size());
    cursor_.offset += chunk.bytes;
    chunk.after = cursor_;
    return chunk;
  }
  return std::nullopt;
}

}  // namespace hearth
