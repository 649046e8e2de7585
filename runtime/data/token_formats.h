// The token formats Hearth reads. Each parser checks magic, version, counts and sizes against the
// mapping with checked arithmetic before anything is allocated, and throws
// IoError("PATH: error: what; remedy") for a file that is not what it says it is.
//
//   hearth    runtime/data/hearth_format.h
//   llm.c     256 int32 of header: magic, version, token count; 20240520 v1 uint16, 20240801 v7
//   uint32 nanoGPT   nothing but little-endian uint16; recognised by no mark, so it must be named
//   Megatron  PREFIX.bin with PREFIX.idx ("MMIDIDX\0\0", version 1, type, counts, lengths,
//   pointers) LLMQ      "BIN.TOK\n", then int32 [2] version 1 or 2, [3] bytes per token 4, [4]
//   count,
//             [5] vocabulary, [6] mask flag; tokens at byte 1024, then mask bits by token
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/data/token_layout.h"

namespace hearth {

// The format of the file by its magic or, for Megatron, by the .idx beside it; nullopt: unknown.
std::optional<TokenFormat> DetectTokenFormat(const MappedFile& file);

TokenLayout ParseHearth(std::shared_ptr<const MappedFile> file);
TokenLayout ParseLlmc(std::shared_ptr<const MappedFile> file);
TokenLayout ParseNanogpt(std::shared_ptr<const MappedFile> file);
TokenLayout ParseMegatron(std::shared_ptr<const MappedFile> bin,
                          std::shared_ptr<const MappedFile> idx);
TokenLayout ParseLlmq(std::shared_ptr<const MappedFile> file);

// Opens `path` as `format`; kAuto detects and refuses what it does not know. A Megatron pair may be
// named by its .bin, its .idx or their common prefix.
TokenLayout OpenTokenLayout(const std::string& path, TokenFormat format);

// The files `pattern` names, as ExpandGlob, each once: of a Megatron pair the .bin stands for both,
// and with kMegatron the pattern may name the common prefix.
std::vector<std::string> ExpandTokenFiles(const std::string& pattern, TokenFormat format);

}  // namespace hearth
