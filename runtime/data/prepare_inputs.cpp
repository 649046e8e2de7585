#include "runtime/data/prepare_inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <unordered_set>

#include "kernels/core/error.h"
#include "runtime/data/glob_files.h"
#include "runtime/data/jsonl_reader.h"
#include "runtime/data/token_formats.h"

namespace hearth {

namespace {

constexpr size_t kBinaryProbeBytes = 64 * 1024;

struct FormatEntry {
  InputFormat format;
  std::string_view name;
  TokenFormat tokens;  // kAuto: not a token format
};
constexpr std::array<FormatEntry, 7> kFormats = {
    {{InputFormat::kAuto, "auto", TokenFormat::kAuto},
     {InputFormat::kText, "text", TokenFormat::kAuto},
     {InputFormat::kJsonl, "jsonl", TokenFormat::kAuto},
     {InputFormat::kLlmc, "llmc", TokenFormat::kLlmc},
     {InputFormat::kNanogpt, "nanogpt", TokenFormat::kNanogpt},
     {InputFormat::kMegatron, "megatron", TokenFormat::kMegatron},
     {InputFormat::kLlmq, "llmq", TokenFormat::kLlmq}}};

TokenFormat TokenFormatOf(InputFormat format) {
  return std::find_if(kFormats.begin(), kFormats.end(),
                      [&](const FormatEntry& entry) { return entry.format == format; })
      ->tokens;
}

InputFormat DetectInputFormat(const MappedFile& file) {
  if (const auto tokens = DetectTokenFormat(file)) {
    for (const FormatEntry& entry : kFormats) {
      if (entry.tokens == *tokens) return entry.format;
    }
    throw ConfigError(
        fmt::format("{}: error: a .hearth file already; train on it as it is", file.path()));
  }
  if (file.path().ends_with(".jsonl") || file.path().ends_with(".ndjson")) {
    return InputFormat::kJsonl;
  }
  if (file.text().substr(0, kBinaryProbeBytes).find('\0') != std::string_view::npos) {
    throw ConfigError(fmt::format(
        "{}: error: neither text nor a token format with a mark; name it with --format (raw uint16 "
        "tokens: nanogpt)",
        file.path()));
  }
  return InputFormat::kText;
}

std::vector<std::string> ExpandInputs(const PrepareOptions& options) {
  const TokenFormat tokens = TokenFormatOf(options.format);
  if (tokens == TokenFormat::kAuto && options.format != InputFormat::kAuto) {
    return ExpandGlobs(options.inputs);
  }
  std::vector<std::string> files;
  std::unordered_set<std::string> seen;
  for (const std::string& pattern : options.inputs) {
    for (std::string& path : ExpandTokenFiles(pattern, tokens)) {
      if (seen.insert(path).second) files.push_back(std::move(path));
    }
  }
  return files;
}

}  // namespace

InputFormat ParseInputFormat(std::string_view name) {
  for (const FormatEntry& entry : kFormats) {
    if (entry.name == name) return entry.format;
  }
  throw ConfigError(fmt::format(
      "'{}' is not an input format; use auto, text, jsonl, llmc, nanogpt, megatron or llmq", name));
}

PrepareInputs::PrepareInputs(const PrepareOptions& options) : field_(options.field) {
  for (const std::string& path : ExpandInputs(options)) {
    const MappedFile file(path);
    const InputFormat format =
        options.format == InputFormat::kAuto ? DetectInputFormat(file) : options.format;
    const TokenFormat tokens = TokenFormatOf(format);
    if (tokens != TokenFormat::kAuto) token_files_.push_back(TokenFile::Open(path, tokens));
    inputs_.push_back({.path = path, .format = format, .bytes = file.size()});
    bytes_ += file.size();
    if (!token_files_.empty() && token_files_.size() != inputs_.size()) {
      throw ConfigError(
          fmt::format("{}: error: text and token files cannot be mixed; prepare them apart", path));
    }
  }
}

bool PrepareInputs::VisitText(const Input& input, int64_t bytes_before,
                              const Visitor& visit) const {
  const MappedFile file(input.path);
  return file.size() == 0 || visit({.text = file.text()}, bytes_before + file.size());
}

bool PrepareInputs::VisitJsonl(const Input& input, int64_t bytes_before,
                               const Visitor& visit) const {
  const MappedFile file(input.path);
  JsonlReader reader(input.path, file.text(), field_);
  while (const std::optional<std::string> text = reader.Next()) {
    if (text->empty()) continue;
    if (!visit({.text = *text}, bytes_before + reader.bytes_read())) return false;
  }
  return true;
}

bool PrepareInputs::VisitTokens(const TokenFile& file, int64_t bytes_before,
                                const Visitor& visit) const {
  const int64_t width = BytesPerToken(file.storage());
  const std::span<const int64_t> starts = file.DocumentStarts();
  const size_t documents = std::max<size_t>(1, starts.size());
  for (size_t i = 0; i < documents; ++i) {
    const int64_t begin = starts.empty() ? 0 : starts[i];
    const int64_t end = i + 1 < starts.size() ? starts[i + 1] : file.token_count();
    if (begin == end) continue;
    const InputDocument document{.text = {}, .tokens = &file, .begin = begin, .end = end};
    if (!visit(document, bytes_before + end * width)) return false;
  }
  return true;
}

void PrepareInputs::ForEachDocument(const Visitor& visit) const {
  int64_t bytes_before = 0;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const Input& input = inputs_[i];
    bool proceed = true;
    if (!token_files_.empty()) {
      proceed = VisitTokens(*token_files_[i], bytes_before, visit);
    } else if (input.format == InputFormat::kJsonl) {
      proceed = VisitJsonl(input, bytes_before, visit);
    } else {
      proceed = VisitText(input, bytes_before, visit);
    }
    if (!proceed) return;
    bytes_before += input.bytes;
  }
}

}  // namespace hearth
