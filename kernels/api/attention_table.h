// Whose attention serves which shape, as data and as text: lines beside those of the matmuls.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/api/attention.h"

namespace hearth {

// An attention over sequences of one length, in bf16, forward and backward.
struct AttentionKey {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t sequence_len = 0;
  int64_t sequences = 0;  // room for so many
  int64_t tokens = 0;     // with padding

  auto operator<=>(const AttentionKey&) const = default;
};

struct AttentionTableEntry {
  AttentionKey key;
  AttentionProvider provider = AttentionProvider::kOwn;  // never kAuto
  // What kCudnn means: version and kind of device, without blanks; valid only there. "none" for
  // kOwn, which means the same everywhere.
  std::string library;

  bool operator==(const AttentionTableEntry&) const = default;
};

// "heads=28 kv_heads=4 ...", for messages.
std::string Describe(const AttentionKey& key);

// One line an entry, each with a checksum.
std::string PrintAttentionTable(std::span<const AttentionTableEntry> entries);
// Reads it back; lines of other tables are passed over. IoError "attention table, line N: what" for
// a line of this table that PrintAttentionTable does not write, and for a key that comes twice.
std::vector<AttentionTableEntry> ParseAttentionTable(std::string_view text);
// Whether the line is, or means to be, one of this table.
bool IsAttentionTableLine(std::string_view line);

// Whether cuDNN is so much faster that another measurement would say so too: the choice must not
// differ between runs by a clock's noise. False for what is not a number.
bool PrefersCudnn(double own_microseconds, double cudnn_microseconds);

}  // namespace hearth
