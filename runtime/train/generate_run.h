// `hearth generate`: text from a trained model, one token at a time.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "runtime/train/run_setup.h"

namespace hearth {

struct SamplingOptions {
  double temperature = 1.0;  // 0: always the most likely token
  int64_t top_k = 0;         // 0: all
  double top_p = 1.0;        // 1: all
  uint64_t seed = 42;
};

// The token drawn from `logits` [vocab] at `position`: a pure function of its arguments. Ties go to
// the lower id.
int32_t SampleToken(std::span<const float> logits, const SamplingOptions& options,
                    int64_t position);

struct GenerateOptions {
  std::vector<int32_t> prompt;    // at least one id
  std::vector<int32_t> stop_ids;  // end the text, as the model's end-of-sequence ids do
  int64_t max_tokens = 100;
  SamplingOptions sampling;
};

// Runs the model of a Hugging Face folder or a checkpoint in fp32 on one rank, the whole sequence
// again for each token, and hands each new token to `emit` as it comes; ends early at an id that
// config.json or generation_config.json calls eos_token_id. Sequences longer than the model's
// positions are a ConfigError.
void RunGenerate(const std::filesystem::path& folder, const GenerateOptions& options,
                 const RunEnvironment& environment, const std::function<void(int32_t)>& emit);

// Where the tokenizer of a model lies: its folder, or the folder that a checkpoint's run began
// from; nullopt where neither has a tokenizer.json.
std::optional<std::filesystem::path> FindTokenizer(const std::filesystem::path& folder);

// True when ids are bytes: a vocabulary of 256 and no tokenizer.
bool IsByteLevel(const std::filesystem::path& folder);

}  // namespace hearth
