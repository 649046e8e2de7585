// `hearth gradients`: forward and backward of step 1, no update, as numbers others can compare.
#pragma once

#include <filesystem>

#include "runtime/train/run_setup.h"

namespace hearth {

// Writes a safetensors file, all fp32: `loss` (shape []), each gradient under its Hugging Face name
// and shape (a tied head only as model.embed_tokens.weight), and with `with_logits` also `logits`
// [tokens of the step, vocab]. Collective; rank 0 writes.
void RunGradients(const ResolvedConfig& resolved, const RunEnvironment& environment,
                  const std::filesystem::path& out, bool with_logits);

}  // namespace hearth
