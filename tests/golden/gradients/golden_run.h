// Runs Hearth on the models of tests/golden and compares tensors with what is recorded there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace hearth::test {

// Tensors by name, everything as fp32, row-major.
using Tensors = std::map<std::string, std::vector<float>>;

// The recorded batch: every sample of a data set that has no other.
inline constexpr int64_t kGoldenSequence = 19;
inline constexpr int64_t kGoldenSamples = 5;
inline constexpr int64_t kGoldenSteps = 10;

// tests/golden/models/<name>.
std::filesystem::path GoldenFolder(const std::string& name);
Tensors ReadTensors(const std::filesystem::path& file);
std::vector<int32_t> ReadTokens(const std::filesystem::path& file);

struct GoldenRun {
  std::filesystem::path model;  // a Hugging Face folder
  std::filesystem::path data;   // *.hearth, or raw u16 tokens
  int64_t sequence_len = kGoldenSequence;
  int64_t samples = kGoldenSamples;  // of the batch
  int64_t micro_batch_size = kGoldenSamples;
  int ranks = 1;
  // Further lines of run.yaml by section: {"precision", "compute_dtype: fp32"}.
  std::vector<std::pair<std::string, std::string>> keys;
};

// What `hearth gradients --logits` writes; the sequences of `logits` in the order of the file.
Tensors HearthGradients(const GoldenRun& run);

struct TrainingCurve {
  std::vector<float> losses;
  std::vector<float> grad_norms;
};
// Trains in a folder of its own and reads the log back.
TrainingCurve HearthTraining(const GoldenRun& run);

// |a - b| / |b| in the Euclidean norm, in double; NaN when either has a NaN or the sizes differ.
double RelativeError(const std::vector<float>& a, const std::vector<float>& b);

// Sums over the elements of two tensors, in double.
struct InnerProducts {
  double aa = 0, ab = 0, bb = 0;
  InnerProducts& operator+=(const InnerProducts& other);
};
InnerProducts Multiply(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace hearth::test
