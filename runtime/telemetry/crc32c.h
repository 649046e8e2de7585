// CRC-32C (Castagnoli), as TFRecord files use it.
#pragma once

#include <cstdint>
#include <string_view>

namespace hearth {

uint32_t Crc32c(std::string_view bytes);

// The form stored in TFRecord files: rotated right by 15 bits and offset, so that the checksum of
// bytes that contain checksums stays useful.
uint32_t MaskedCrc32c(std::string_view bytes);

}  // namespace hearth
