#include "runtime/model/weight_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr std::string_view kHeadName = "lm_head.weight";
constexpr std::string_view kEmbeddingName = "model.embed_tokens.weight";
constexpr int64_t kMaxIndexBytes = int64_t{64} << 20;
constexpr int64_t kCompareBytes = int64_t{4} << 20;

bool IsPlainFileName(const std::string& name) {
  return name.ends_with(".safetensors") && !name.starts_with('.') &&
         std::ranges::all_of(name, [](char c) {
           return static_cast<unsigned char>(c) >= 0x20 && c != '/' && c != '\\' && c != 0x7f;
         });
}

bool IsRotaryTable(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

bool HasShape(const SafetensorsTensor& tensor, const Shape& shape) {
  if (static_cast<int>(tensor.shape.size()) != shape.rank()) return false;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (tensor.shape[static_cast<size_t>(axis)] != shape[axis]) return false;
  }
  return true;
}

std::string ShapeText(const Shape& shape) { return Format("{}", shape); }

bool IsWeightType(SafetensorsDType dtype) {
  return dtype == SafetensorsDType::kF32 || dtype == SafetensorsDType::kBF16 ||
         dtype == SafetensorsDType::kF16;
}

}  // namespace

bool HasSafetensorsWeights(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / kSingleFile) ||
         std::filesystem::exists(folder / kIndexFile);
}

WeightSource::WeightSource(const std::filesystem::path& folder, const ModelSpec& spec)
    : folder_(folder) {
  // The single file first, as transformers does.
  if (std::filesystem::exists(folder / kSingleFile)) {
    files_.emplace_back(folder / kSingleFile);
  } else if (std::filesystem::exists(folder / kIndexFile)) {
    OpenShards(folder / kIndexFile);
  } else {
    Fail(fmt::format("has neither {} nor {}; set model.init to random, or fetch the weights",
                     kSingleFile, kIndexFile));
  }
  Locate();
  CheckSources(spec);
  CheckSurplus(spec);
}

void WeightSource::Fail(const std::string& what_and_remedy) const {
  throw ConfigError(fmt::format("{}: error: {}", folder_.string(), OneLine(what_and_remedy)));
}

void WeightSource::OpenShards(const std::filesystem::path& index_file) {
  const JsonDocument document =
      JsonDocument::ReadFile(index_file, {.max_bytes = kMaxIndexBytes}, JsonRefusal::kConfigError);
  const JsonNode weight_map = document.root().Get("weight_map");
  weight_map.RequireObject();
  std::map<std::string, size_t> shards;  // file name -> index in files_
  for (const auto& [tensor, value] : weight_map.value().members) {
    const JsonNode node = weight_map.Get(tensor);
    if (!IsPlainFileName(node.AsString())) {
      node.Fail(
          fmt::format("is \"{}\"; it must be the plain name of a .safetensors file in the same "
                      "folder",
                      node.AsString()));
    }
    const auto [shard, added] = shards.emplace(node.AsString(), files_.size());
    if (added) files_.emplace_back(folder_ / node.AsString());
    if (files_[shard->second].Find(tensor) == nullptr) {
      node.Fail(fmt::format("names \"{}\", which does not hold this tensor; fetch the folder again",
                            node.AsString()));
    }
  }
  for (const SafetensorsFile& file : files_) {
    for (const SafetensorsTensor& tensor : file.tensors()) {
      const std::string name = file.path().filename().string();
      if (!weight_map.Has(tensor.name)) {
        weight_map.Fail(
            fmt::format("lacks {}, which {} holds; fetch the folder again", tensor.name, name));
      }
      if (weight_map.Get(tensor.name).AsString() != name) {
        weight_map.Get(tensor.name)
            .Fail(fmt::format("is also held by {}; fetch the folder again", name));
      }
    }
  }
}

void WeightSource::Locate() {
  for (const SafetensorsFile& file : files_) {
    for (const SafetensorsTensor& tensor : file.tensors()) {
      locations_[tensor.name] = {.file = &file, .tensor = &tensor};
    }
  }
}

void WeightSource::CheckSources(const ModelSpec& spec) {
  for (const ParameterSpec& parameter : spec.parameters) {
    for (const HfSource& source : parameter.sources) {
      const auto found = locations_.find(source.name);
      if (found == locations_.end()) {
        Fail(fmt::format("lacks the tensor {}; {}", source.name,
                         source.name == kHeadName
                             ? "if the model has a tied head, set tie_word_embeddings to true in "
                               "config.json"
                             : "fetch the folder again or correct config.json"));
      }
      const SafetensorsTensor& tensor = *found->second.tensor;
      if (!HasShape(tensor, source.shape)) {
        Fail(fmt::format("{} has the shape [{}], config.json asks for {}; correct config.json",
                         source.name, fmt::join(tensor.shape, ", "), ShapeText(source.shape)));
      }
      if (!IsWeightType(tensor.dtype)) {
        Fail(
            fmt::format("{} is {}; only F32, BF16 and F16 weights can be trained, take the "
                        "original model",
                        source.name, Name(tensor.dtype)));
      }
    }
  }
}

void WeightSource::CheckSurplus(const ModelSpec& spec) const {
  std::set<std::string_view> wanted;
  for (const ParameterSpec& parameter : spec.parameters) {
    for (const HfSource& source : parameter.sources) wanted.insert(source.name);
  }
  for (const auto& [name, location] : locations_) {
    if (wanted.contains(name) || IsRotaryTable(name)) continue;
    if (name != kHeadName) {
      Fail(fmt::format("has the tensor {}, which this model does not; correct config.json", name));
    }
    CheckTiedHead(location, locations_.find(kEmbeddingName)->second);
  }
}

void WeightSource::CheckTiedHead(const Location& head, const Location& embedding) const {
  bool equal = head.tensor->dtype == embedding.tensor->dtype &&
               head.tensor->shape == embedding.tensor->shape;
  std::vector<std::byte> head_bytes(static_cast<size_t>(kCompareBytes));
  std::vector<std::byte> embedding_bytes(head_bytes.size());
  for (int64_t offset = 0; equal && offset < head.tensor->bytes(); offset += kCompareBytes) {
    const auto count = static_cast<size_t>(std::min(kCompareBytes, head.tensor->bytes() - offset));
    head.file->ReadBytes(*head.tensor, offset, std::span(head_bytes).first(count));
    embedding.file->ReadBytes(*embedding.tensor, offset, std::span(embedding_bytes).first(count));
    equal = std::memcmp(head_bytes.data(), embedding_bytes.data(), count) == 0;
  }
  if (equal) return;
  Fail(
      fmt::format("{} differs from {} although tie_word_embeddings is true; set it to false in "
                  "config.json to train both",
                  kHeadName, kEmbeddingName));
}

void WeightSource::Read(const ParameterSpec& parameter, int64_t begin, std::span<float> out) const {
  const int64_t end = begin + static_cast<int64_t>(out.size());
  CHECK(begin >= 0 && end <= parameter.stored_elements, "elements {} to {} of {} with {}", begin,
        end, parameter.name, parameter.stored_elements);
  for (const HfSource& source : parameter.sources) {
    const int64_t source_begin = source.row_begin * parameter.columns();
    const int64_t source_end = source_begin + source.shape.elements();
    const int64_t first = std::max(begin, source_begin);
    const int64_t last = std::min(end, source_end);
    if (first >= last) continue;
    const Location& location = locations_.find(source.name)->second;
    location.file->ReadFloats(
        *location.tensor, first - source_begin,
        out.subspan(static_cast<size_t>(first - begin), static_cast<size_t>(last - first)));
  }
  const int64_t padding = std::clamp(parameter.elements() - begin, int64_t{0}, end - begin);
  std::ranges::fill(out.subspan(static_cast<size_t>(padding)), 0.0f);
}

}  // namespace hearth
