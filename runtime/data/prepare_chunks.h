// The text inputs of `hearth prepare`, cut into pieces that threads encode on their own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "runtime/data/mapped_file.h"
#include "runtime/data/prepare_inputs.h"

namespace hearth {

// A place between two chunks.
struct ChunkCursor {
  int64_t file = 0;
  int64_t offset = 0;  // bytes
  int64_t line = 1;

  bool operator==(const ChunkCursor&) const = default;
};

// Whole lines of a JSONL file, or a part of a text file, which is one document.
struct InputChunk {
  std::shared_ptr<const MappedFile> file;  // shared: `text` points into it, on any thread
  std::string_view text;
  bool is_jsonl = false;
  int64_t first_line = 1;       // of a JSONL file
  bool begins_document = true;  // of a text file
  bool ends_document = true;
  bool held_out = false;  // behind the cut that ChunkOptions::held_out_tail asks for
  int64_t bytes = 0;
  ChunkCursor after;
};

// Where the text of a document may be cut for threads: between any two bytes; behind a line break
// that has an ASCII letter on both sides, where no split pattern of a tokenizer joins the sides; or
// nowhere, for tokenizers that treat the beginning of a text in their own way.
enum class TextCuts { kAnywhere, kBetweenLines, kNowhere };

struct ChunkOptions {
  int64_t chunk_bytes = 1 << 19;  // about; a line is never cut
  TextCuts cuts = TextCuts::kBetweenLines;
  double held_out_tail = 0;  // fraction of every text file; 0: none
};

// The first place at or behind `from` where text may be cut for a tokenizer; its size when there
// is none.
int64_t FindTextCut(std::string_view text, int64_t from);

// Reads files one after the other; holds one mapping itself.
class ChunkCutter {
 public:
  // `inputs` outlives the cutter and holds text alone.
  ChunkCutter(const PrepareInputs& inputs, const ChunkOptions& options, ChunkCursor start = {});

  // nullopt at the end. Empty text files give no chunk.
  std::optional<InputChunk> Next();

 private:
  InputChunk NextLines(std::string_view rest);
  InputChunk NextText(std::string_view text);

  const PrepareInputs& inputs_;
  ChunkOptions options_;
  ChunkCursor cursor_;
  std::shared_ptr<const MappedFile> file_;
};

}  // namespace hearth
