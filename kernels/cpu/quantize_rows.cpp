#include "kernels/cpu/quantize_rows.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "kernels/cpu/row_access.h"

namespace hearth {

namespace {

// Rows of a piece: a multiple of 16, so that a transposed store writes whole runs.
int64_t PieceOf(const ProducedRows& rows) { return RoundUp(PieceOfRows(rows.columns), 16); }

// Float8Codec::Encode to nearest in 32-bit operations without branches, so that loops vectorise.
template <int kMantissaBits, int kBias, uint32_t kLargest, uint32_t kNan>
inline uint8_t EncodeNearest(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 24) & 0x80u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  constexpr int kShift = 23 - kMantissaBits;
  // Below the smallest normal number: adding a power of two whose unit in the last place is the
  // subnormal spacing makes the addition round.
  constexpr uint32_t kMagic = static_cast<uint32_t>(127 + 1 - kBias + kShift) << 23;
  constexpr uint32_t kSmallestNormal = static_cast<uint32_t>(128 - kBias) << 23;
  const float shifted =
      std::bit_cast<float>(std::min(magnitude, kSmallestNormal)) + std::bit_cast<float>(kMagic);
  const uint32_t subnormal = std::bit_cast<uint32_t>(shifted) - kMagic;
  const uint32_t normal = (magnitude + (1u << (kShift - 1)) - 1u + ((magnitude >> kShift) & 1u) -
                           (static_cast<uint32_t>(127 - kBias) << 23)) >>
                          kShift;
  // Masks from signs of differences: from comparisons, compilers make branches around the addition,
  // which may trap, and then do not vectorise.
  const auto mask_below = [](uint32_t a, uint32_t b) {
    return static_cast<uint32_t>(static_cast<int32_t>(a - b) >> 31);
  };
  const uint32_t is_subnormal = mask_below(magnitude, kSmallestNormal);
  const uint32_t rounded = (subnormal & is_subnormal) | (normal & ~is_subnormal);
  const uint32_t is_nan = mask_below(0x7f800000u, magnitude);
  const uint32_t encoded = std::min(rounded, kLargest) | (kNan & is_nan);
  return static_cast<uint8_t>(sign | encoded);
}

inline uint8_t EncodeE4M3(float value) { return EncodeNearest<3, 7, 0x7e, 0x7f>(value); }
inline uint8_t EncodeE5M2(float value) { return EncodeNearest<2, 15, 0x7b, 0x7f>(value); }

// Both forms have one type.
DType FormatOf(const QuantizedOutput& output) {
  return (output.values ? output.values : output.transposed).dtype();
}

// As integers |x| orders like its bits and every NaN lies above infinity. Signed, because common
// machines have no unsigned vector comparison.
float AmaxOfRow(const float* values, int64_t count) {
  int32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<int32_t>(values[i]) & 0x7fffffff);
  }
  return std::bit_cast<float>(largest);
}

float AmaxOfRow(const BFloat16* values, int64_t count) {
  int16_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, static_cast<int16_t>(values[i].bits & 0x7fff));
  }
  return ToFloat(BFloat16{static_cast<uint16_t>(largest)});
}

template <typename T>
void QuantizeRow(const T* values, int64_t count, float scale, DType format, uint8_t* quantized) {
  if (format == DType::kF8E4M3) {
    for (int64_t i = 0; i < count; ++i) quantized[i] = EncodeE4M3(ToFloat(values[i]) * scale);
  } else {
    for (int64_t i = 0; i < count; ++i) quantized[i] = EncodeE5M2(ToFloat(values[i]) * scale);
  }
}

// Quantises rows [begin, end), held dense in `block`, into both forms of the output.
template <typename T>
void QuantizeBlock(const T* block, int64_t begin, int64_t end, const ProducedRows& rows,
                   float scale) {
  const int64_t columns = rows.columns;
  const QuantizedOutput& output = rows.quantized;
  auto* values = static_cast<uint8_t*>(output.values.data());
  auto* transposed = static_cast<uint8_t*>(output.transposed.data());
  const int64_t count = (end - begin) * columns;
  std::vector<uint8_t> scratch;
  uint8_t* quantized = nullptr;
  if (values != nullptr) {
    quantized = values + begin * columns;
  } else {
    scratch.resize(static_cast<size_t>(count));
    quantized = scratch.data();
  }
  QuantizeRow(block, count, scale, FormatOf(output), quantized);
  if (transposed == nullptr) return;
  for (int64_t column = 0; column < columns; ++column) {
    uint8_t* out = transposed + column * rows.rows + begin;
    for (int64_t row = 0; row < end - begin; ++row) out[row] = quantized[row * columns + column];
  }
}

// A producer's pass over the rows, block by block; `use` reads what was produced.
template <typename T, typename Use>
void ForEachBlock(ThreadPool& pool, const ProducedRows& rows, const RowProducer* produce,
                  const Use& use) {
  ForEachPiece(pool, rows.rows, PieceOf(rows), [&](int64_t begin, int64_t end) {
    std::vector<T> scratch;
    T* block = nullptr;
    if (rows.out) {
      block = rows.out.template as<T>() + begin * rows.columns;
    } else {
      scratch.resize(static_cast<size_t>((end - begin) * rows.columns));
      block = scratch.data();
    }
    if (produce != nullptr && *produce) (*produce)(begin, end, block);
    use(begin, end, block);
  });
}

template <typename T>
void ProduceQuantized(ThreadPool& pool, const ProducedRows& rows, const RowProducer& produce) {
  const QuantizedOutput& output = rows.quantized;
  auto* record = static_cast<ScaleRecord*>(output.scale.data());
  const RowProducer* pending = &produce;
  if (output.mode != ScaleMode::kGiven) {
    const bool verified = output.mode == ScaleMode::kVerified;
    const int64_t piece = PieceOf(rows);
    std::vector<float> amax(static_cast<size_t>(DivUp(rows.rows, piece)));
    ForEachBlock<T>(pool, rows, pending, [&](int64_t begin, int64_t end, const T* block) {
      amax[static_cast<size_t>(begin / piece)] = AmaxOfRow(block, (end - begin) * rows.columns);
      if (verified) QuantizeBlock(block, begin, end, rows, record->scale);
    });
    float largest = 0;
    for (float value : amax) largest = MaxAmax(largest, value);
    if (verified) {
      record->amax = largest;
      const bool e5m2 = FormatOf(output) == DType::kF8E5M2;
      if (ScaleHolds(largest, record->scale, e5m2)) return;
      *record = MakePowerScale(largest, e5m2);
      record->reserved = 1.0f;
    } else {
      *record = MakeScale(largest, FormatOf(output));
    }
    if (rows.out) pending = nullptr;
  }
  const float scale = record->scale;
  ForEachBlock<T>(pool, rows, pending, [&](int64_t begin, int64_t end, const T* block) {
    QuantizeBlock(block, begin, end, rows, scale);
  });
}

}  // namespace

float AmaxOf(const float* values, int64_t count) { return AmaxOfRow(values, count); }
float AmaxOf(const BFloat16* values, int64_t count) { return AmaxOfRow(values, count); }

float MaxAmax(float a, float b) {
  return std::bit_cast<float>(std::max(std::bit_cast<uint32_t>(a), std::bit_cast<uint32_t>(b)));
}

void QuantizeValues(const float* values, int64_t count, float scale, DType format,
                    uint8_t* quantized) {
  QuantizeRow(values, count, scale, format, quantized);
}
void QuantizeValues(const BFloat16* values, int64_t count, float scale, DType format,
                    uint8_t* quantized) {
  QuantizeRow(values, count, scale, format, quantized);
}

void ProduceRows(ThreadPool& pool, const ProducedRows& rows, const RowProducer& produce) {
  WithStorage(rows.storage, [&](auto storage) {
    using T = decltype(storage);
    if (rows.quantized) {
      ProduceQuantized<T>(pool, rows, produce);
    } else if (produce) {
      ForEachBlock<T>(pool, rows, &produce, [](int64_t, int64_t, const T*) {});
    }
  });
}

}  // namespace hearth
