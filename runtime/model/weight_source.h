// The weights of a Hugging Face folder, read as the parameters of a ModelSpec.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "runtime/model/model_spec.h"
#include "runtime/model/safetensors.h"

namespace hearth {

// model.safetensors, else the shards of model.safetensors.index.json. Every tensor that the spec
// names must be there once, with its shape and as F32, BF16 or F16. Surplus tensors are errors,
// except rotary inverse frequencies and, for a tied head, an lm_head.weight equal to the embedding.
// ConfigError where the folder does not fit the model, IoError where a file is damaged or
// unreadable.
class WeightSource {
 public:
  WeightSource(const std::filesystem::path& folder, const ModelSpec& spec);

  // Elements [begin, begin + out.size()) of the parameter's stored tensor in FP32; padding rows are
  // zero. `parameter` is one of the spec's. Thread-safe.
  void Read(const ParameterSpec& parameter, int64_t begin, std::span<float> out) const;

 private:
  struct Location {
    const SafetensorsFile* file = nullptr;
    const SafetensorsTensor* tensor = nullptr;
  };

  void OpenShards(const std::filesystem::path& index_file);
  void Locate();
  void CheckSources(const ModelSpec& spec);
  void CheckSurplus(const ModelSpec& spec) const;
  void CheckTiedHead(const Location& head, const Location& embedding) const;
  [[noreturn]] void Fail(const std::string& what_and_remedy) const;

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Location, std::less<>> locations_;  // of every tensor of every file
};

// True when the folder has one of the two files above.
bool HasSafetensorsWeights(const std::filesystem::path& folder);

}  // namespace hearth
