// Row-wise producers whose result goes to storage, to FP8, or to both.
#pragma once

#include <functional>

#include "kernels/api/quantize.h"
#include "kernels/cpu/thread_pool.h"

namespace hearth {

// Writes rows [begin, end) of the result, rounded to its storage type, to `block`, dense from row
// `begin` on. Must be repeatable: without `out`, a tensor scaled by its own amax is produced twice.
using RowProducer = std::function<void(int64_t begin, int64_t end, void* block)>;

struct ProducedRows {
  int64_t rows = 0;
  int64_t columns = 0;
  DType storage = DType::kF32;  // f32 | bf16
  TensorView out;               // [rows, columns] of `storage`; absent: the result is not kept
  QuantizedOutput quantized;    // optional
};

// Runs the producer over all rows and quantises what it wrote, as kernels/api/quantize.h says.
// A null producer means that `out` already holds the result.
void ProduceRows(ThreadPool& pool, const ProducedRows& rows, const RowProducer& produce);

// max |values|; NaN when any is NaN.
float AmaxOf(const float* values, int64_t count);
float AmaxOf(const BFloat16* values, int64_t count);
// The larger amax; NaN wins.
float MaxAmax(float a, float b);

// quantised[i] = Round(values[i] * scale), to nearest, saturating; the same bytes as ToE4M3 and
// ToE5M2.
void QuantizeValues(const float* values, int64_t count, float scale, DType format,
                    uint8_t* quantized);
void QuantizeValues(const BFloat16* values, int64_t count, float scale, DType format,
                    uint8_t* quantized);

}  // namespace hearth
