// Which algorithm of a matmul library serves which matmul, as data and as text.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/dtype.h"

namespace hearth {

// Everything about a Gemm that its algorithm depends on. Operands as in GemmArgs.
struct GemmKey {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  DType a = DType::kF32;
  DType b = DType::kF32;
  DType out = DType::kF32;
  bool a_transposed = false;
  bool b_transposed = false;
  std::optional<DType> bias;  // of a bias that the library itself adds
  bool accumulate = false;    // the library adds a matrix of out's type
  bool fast_accumulation = false;
  int64_t alignment = 0;  // bytes that every operand's address is a multiple of: 1, 2, 4, 8 or 16

  auto operator<=>(const GemmKey&) const = default;
};

// What the library calls an algorithm: 64 bytes that only it understands.
using GemmAlgorithm = std::array<uint64_t, 8>;

struct GemmTableEntry {
  GemmKey key;
  std::string library;  // name, version and kind of device, without blanks; valid only there
  GemmAlgorithm algorithm{};

  bool operator==(const GemmTableEntry&) const = default;
};

// "m=16384 n=4608 k=3584 a=f8_e4m3 ...", for messages.
std::string Describe(const GemmKey& key);

// One line an entry, each with a checksum.
std::string PrintGemmTable(std::span<const GemmTableEntry> entries);
// Reads it back; empty lines and those of kernels/api/attention_table.h are passed over. IoError
// "matmul table, line N: what" for anything else that PrintGemmTable does not write, and for a key
// that comes twice.
std::vector<GemmTableEntry> ParseGemmTable(std::string_view text);

// One candidate's measurement.
struct GemmTiming {
  double microseconds = 0;  // median
  bool same_bits = false;   // its result was bit for bit that of the first candidate
};

// The index of the fastest candidate with the first one's bits: a clock's noise must not decide the
// bits of a run.
size_t ChooseCandidate(std::span<const GemmTiming> candidates);

}  // namespace hearth
