// Token embedding.
#pragma once

#include "kernels/core/tensor_view.h"

namespace hearth {

// out[i] = table[tokens[i]]; a zero row where tokens[i] < 0 (padding).
struct EmbeddingForwardArgs {
  TensorView tokens;  // [tokens] i32, below the table's rows
  TensorView table;   // [vocab, columns] f32 | bf16
  TensorView out;     // [tokens, columns] as table
};

// d_table[t] += sum of d_out[i] over i with tokens[i] = t: in fp32 in rising i, rounded once.
struct EmbeddingBackwardArgs {
  TensorView tokens;     // [tokens] i32
  TensorView d_out;      // [tokens, columns]
  TensorView d_table;    // [vocab, columns] f32 | bf16, accumulated
  TensorView workspace;  // u8, EmbeddingBackwardWorkspaceBytes
};

void Validate(const EmbeddingForwardArgs& args);
void Validate(const EmbeddingBackwardArgs& args);

}  // namespace hearth
