// How a collective's ranges are cut, and told apart.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "comm/api/communicator.h"

namespace hearth {

// For ranges that need no cutting.
constexpr int64_t kWholeRange = INT64_MAX;

// The index-th piece of a range, empty beyond its end.
SlabRange Piece(const SlabRange& range, int64_t index, int64_t piece_bytes);

// How many pieces the longest range has; at least one.
int64_t CountPieces(const std::vector<SlabRange>& ranges, int64_t piece_bytes);

// The column of the flag board that a collective uses, by all that must be equal on all ranks.
enum class CollectiveKind : uint8_t { kAllGather, kReduceScatter, kAllReduce, kBroadcast };
int ColumnOf(CollectiveKind kind, std::initializer_list<int64_t> numbers,
             const std::vector<SlabRange>& ranges);

}  // namespace hearth
