#include "runtime/data/token_formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <unordered_set>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/data/glob_files.h"
#include "runtime/data/hearth_format.h"
#include "runtime/data/little_endian.h"

namespace hearth {

namespace {

constexpr int64_t kInt32HeaderBytes = 1024;  // llm.c and LLMQ: 256 int32
constexpr int32_t kLlmcMagic16 = 20240520;
constexpr int32_t kLlmcMagic32 = 20240801;
constexpr std::string_view kLlmqMagic = "BIN.TOK\n";
constexpr std::string_view kMegatronMagic{"MMIDIDX\0\0", 9};

struct FormatName {
  TokenFormat format;
  std::string_view name;
};
constexpr std::array<FormatName, 6> kFormatNames = {{{TokenFormat::kAuto, "auto"},
                                                     {TokenFormat::kHearth, "hearth"},
                                                     {TokenFormat::kLlmc, "llmc"},
                                                     {TokenFormat::kNanogpt, "nanogpt"},
                                                     {TokenFormat::kMegatron, "megatron"},
                                                     {TokenFormat::kLlmq, "llmq"}}};

[[noreturn]] void Refuse(const MappedFile& file, const std::string& what) {
  throw IoError(fmt::format("{}: error: {}", file.path(), what));
}

bool StartsWith(const MappedFile& file, std::string_view magic) {
  return file.size() >= static_cast<int64_t>(magic.size()) &&
         std::memcmp(file.bytes().data(), magic.data(), magic.size()) == 0;
}

void RequireSize(const MappedFile& file, int64_t expected, int64_t tokens) {
  if (file.size() == expected) return;
  Refuse(file, fmt::format("the header promises {} tokens, so {} bytes, but the file has {}; it is "
                           "truncated or damaged",
                           tokens, expected, file.size()));
}

std::string WithExtension(const std::string& path, std::string_view from, std::string_view to) {
  if (!path.ends_with(from)) return path + std::string(to);
  return path.substr(0, path.size() - from.size()) + std::string(to);
}

bool HasMegatronIndex(const std::string& bin_path) {
  const std::string path = WithExtension(bin_path, ".bin", ".idx");
  std::error_code error;
  if (!bin_path.ends_with(".bin") || !std::filesystem::is_regular_file(path, error)) return false;
  return StartsWith(MappedFile(path), kMegatronMagic);
}

}  // namespace

std::string_view TokenFormatName(TokenFormat format) {
  for (const FormatName& entry : kFormatNames) {
    if (entry.format == format) return entry.name;
  }
  return "unknown";
}

TokenFormat ParseTokenFormat(std::string_view name) {
  for (const FormatName& entry : kFormatNames) {
    if (entry.name == name) return entry.format;
  }
  throw ConfigError(fmt::format(
      "'{}' is not a token format; use auto, hearth, llmc, nanogpt, megatron or llmq", name));
}

std::optional<TokenFormat> DetectTokenFormat(const MappedFile& file) {
  if (StartsWith(file, {kHearthMagic.data(), kHearthMagic.size()})) return TokenFormat::kHearth;
  // Before the marks of the other formats: the .bin of a pair holds bare tokens, any four of which
  // may look like a mark.
  if (StartsWith(file, kMegatronMagic) || HasMegatronIndex(file.path())) {
    return TokenFormat::kMegatron;
  }
  if (StartsWith(file, kLlmqMagic)) return TokenFormat::kLlmq;
  if (file.size() >= 4) {
    const int32_t magic = LoadLittleEndian<int32_t>(file.bytes(), 0);
    if (magic == kLlmcMagic16 || magic == kLlmcMagic32) return TokenFormat::kLlmc;
  }
  return std::nullopt;
}

TokenLayout ParseLlmc(std::shared_ptr<const MappedFile> file) {
  if (file->size() < kInt32HeaderBytes) Refuse(*file, "shorter than the header of an llm.c file");
  const int32_t magic = LoadLittleEndian<int32_t>(file->bytes(), 0);
  const int32_t version = LoadLittleEndian<int32_t>(file->bytes(), 4);
  const int64_t count = LoadLittleEndian<int32_t>(file->bytes(), 8);
  const bool is_16 = magic == kLlmcMagic16 && version == 1;
  if (!is_16 && !(magic == kLlmcMagic32 && version == 7)) {
    Refuse(*file, fmt::format("magic {} with version {} is not an llm.c token file Hearth knows "
                              "(20240520 with 1, 20240801 with 7)",
                              magic, version));
  }
  if (count < 0) Refuse(*file, fmt::format("a negative number of tokens, {}", count));
  TokenLayout layout;
  layout.format = TokenFormat::kLlmc;
  layout.storage = is_16 ? TokenStorage::kUint16 : TokenStorage::kUint32;
  const int64_t token_bytes = count * BytesPerToken(layout.storage);
  RequireSize(*file, kInt32HeaderBytes + token_bytes, count);
  layout.token_count = count;
  layout.tokens = file->bytes().subspan(kInt32HeaderBytes);
  layout.file = std::move(file);
  return layout;
}

TokenLayout ParseNanogpt(std::shared_ptr<const MappedFile> file) {
  if (file->size() % 2 != 0) {
    Refuse(*file, fmt::format("raw uint16 tokens, but an odd number of bytes, {}", file->size()));
  }
  TokenLayout layout;
  layout.format = TokenFormat::kNanogpt;
  layout.storage = TokenStorage::kUint16;
  layout.token_count = file->size() / 2;
  layout.tokens = file->bytes();
  layout.file = std::move(file);
  return layout;
}

TokenLayout ParseLlmq(std::shared_ptr<const MappedFile> file) {
  if (file->size() < kInt32HeaderBytes || !StartsWith(*file, kLlmqMagic)) {
    Refuse(*file, "not an LLMQ token file: no 1024-byte header beginning with BIN.TOK");
  }
  const auto field = [&](int64_t index) {
    return LoadLittleEndian<int32_t>(file->bytes(), 4 * index);
  };
  // Files without masks leave the rest of the header filled with asterisks.
  constexpr int32_t kFiller = 0x2A2A2A2A;
  const int32_t version = field(2);
  const int64_t count = field(4);
  const int32_t vocab = version == 1 ? 0 : field(5);
  const int32_t mask_flag = version == 1 || field(6) == kFiller ? 0 : field(6);
  if (version != 1 && version != 2) Refuse(*file, fmt::format("version {} is not known", version));
  if (field(3) != 4) Refuse(*file, fmt::format("{} bytes per token instead of 4", field(3)));
  if (count < 0 || vocab < 0 || mask_flag < 0 || mask_flag > 1) {
    Refuse(*file, fmt::format("a damaged header: {} tokens, vocabulary {}, mask flag {}", count,
                              vocab, mask_flag));
  }
  const int64_t mask_bytes = mask_flag == 1 ? DivUp(count, 8) : 0;
  RequireSize(*file, kInt32HeaderBytes + 4 * count + mask_bytes, count);
  TokenLayout layout;
  layout.format = TokenFormat::kLlmq;
  layout.storage = TokenStorage::kInt32;
  layout.token_count = count;
  layout.vocab_size = vocab;
  layout.tokens = file->bytes().subspan(kInt32HeaderBytes, static_cast<size_t>(4 * count));
  layout.loss_mask = file->bytes().subspan(static_cast<size_t>(kInt32HeaderBytes + 4 * count));
  layout.file = std::move(file);
  return layout;
}

namespace {

TokenLayout OpenMegatron(const std::string& path) {
  const std::string bin = path.ends_with(".bin") ? path : WithExtension(path, ".idx", ".bin");
  const std::string idx = WithExtension(bin, ".bin", ".idx");
  return ParseMegatron(std::make_shared<const MappedFile>(bin),
                       std::make_shared<const MappedFile>(idx));
}

}  // namespace

TokenLayout OpenTokenLayout(const std::string& path, TokenFormat format) {
  if (format == TokenFormat::kMegatron) return OpenMegatron(path);
  auto file = std::make_shared<const MappedFile>(path);
  if (format == TokenFormat::kAuto) {
    const std::optional<TokenFormat> detected = DetectTokenFormat(*file);
    if (!detected) {
      throw ConfigError(fmt::format(
          "{}: error: no known token format; text becomes tokens with `hearth prepare`, raw uint16 "
          "tokens need format: nanogpt",
          path));
    }
    format = *detected;
  }
  switch (format) {
    case TokenFormat::kHearth:
      return ParseHearth(std::move(file));
    case TokenFormat::kLlmc:
      return ParseLlmc(std::move(file));
    case TokenFormat::kNanogpt:
      return ParseNanogpt(std::move(file));
    case TokenFormat::kLlmq:
      return ParseLlmq(std::move(file));
    case TokenFormat::kMegatron:
      return OpenMegatron(path);
    case TokenFormat::kAuto:
      break;
  }
  throw CheckError("a token format without a reader");
}

std::vector<std::string> ExpandTokenFiles(const std::string& pattern, TokenFormat format) {
  std::vector<std::string> matches;
  try {
    matches = ExpandGlob(pattern);
  } catch (const ConfigError&) {
    if (format != TokenFormat::kMegatron) throw;
    matches = ExpandGlob(pattern + ".bin");
  }
  if (format != TokenFormat::kMegatron && format != TokenFormat::kAuto) return matches;
  std::vector<std::string> files;
  std::unordered_set<std::string> seen;
  for (std::string& path : matches) {
    if (path.ends_with(".idx")) path = WithExtension(path, ".idx", ".bin");
    if (seen.insert(path).second) files.push_back(std::move(path));
  }
  // Replacing .idx by .bin may have moved a name.
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace hearth
