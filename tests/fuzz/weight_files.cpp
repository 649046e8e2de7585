// Weights: safetensors files and the index over several of them.
#include <cstring>

#include "kernels/core/bfloat16.h"
#include "kernels/core/error.h"
#include "runtime/model/json_reader.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/safetensors.h"
#include "runtime/model/weight_source.h"
#include "tests/fuzz/targets.h"

namespace hearth::test {

namespace {

bool IsFloat(SafetensorsDType dtype) {
  return dtype == SafetensorsDType::kF32 || dtype == SafetensorsDType::kBF16 ||
         dtype == SafetensorsDType::kF16;
}

// Whether the header is there and JSON, which most inputs' is not.
void ParseHeader(std::string_view bytes) {
  uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes) throw IoError("too short");
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  if (header_bytes > bytes.size() - sizeof header_bytes) throw IoError("too short");
  JsonDocument::Parse(bytes.substr(sizeof header_bytes, header_bytes), "header",
                      {.max_bytes = kMaxSafetensorsHeader, .max_depth = 4});
}

void ReadTensors(const SafetensorsFile& file, int64_t file_bytes) {
  int64_t covered = 0;
  for (const SafetensorsTensor& tensor : file.tensors()) {
    Require(tensor.begin == covered, "tensors that do not tile the file");
    covered = tensor.end;
    Require(file.Find(tensor.name) == &tensor, "a tensor that is not found");
    Require(tensor.bytes() <= file_bytes, "a tensor larger than its file");
    std::vector<std::byte> bytes(static_cast<size_t>(tensor.bytes()));
    file.ReadBytes(tensor, 0, bytes);
    if (!IsFloat(tensor.dtype) || tensor.elements() == 0) continue;
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    file.ReadFloats(tensor, 0, values);
    file.ReadFloats(
        tensor, tensor.elements() / 2,
        std::span(values).first(static_cast<size_t>(tensor.elements() - tensor.elements() / 2)));
  }
}

// Small enough that its files are written in a moment, with parts fused and tied.
ModelSpec SmallSpec() {
  ModelConfig config;
  config.family = ModelFamily::kQwen2;
  config.vocab_size = 5;
  config.hidden_size = 4;
  config.intermediate_size = 3;
  config.num_layers = 1;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 2;
  config.max_position_embeddings = 16;
  config.tie_word_embeddings = true;
  config.qkv_bias = true;
  return BuildModelSpec(config);
}

// A folder with the model's weights in two files, and the index that describes them.
class ShardedWeights {
 public:
  ShardedWeights() {
    std::vector<SafetensorsEntry> parts[2];
    for (const ParameterSpec& parameter : spec.parameters) {
      for (const HfSource& source : parameter.sources) {
        std::vector<int64_t> shape;
        for (int axis = 0; axis < source.shape.rank(); ++axis) shape.push_back(source.shape[axis]);
        const size_t part = index.empty() ? 0 : 1;
        index += (index.empty() ? "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {" : ",") +
                 ("\n\"" + source.name) + "\": \"" + kFiles[part] + "\"";
        parts[part].push_back({source.name, SafetensorsDType::kBF16, shape});
      }
    }
    index += "}}";
    for (size_t part = 0; part < 2; ++part) {
      SafetensorsWriter writer(folder.Path(kFiles[part]), parts[part], {{"format", "pt"}});
      for (const SafetensorsEntry& entry : parts[part]) {
        writer.Append(std::vector<std::byte>(static_cast<size_t>(entry.bytes())));
      }
      writer.Finish(/*sync=*/false);
    }
  }

  static constexpr const char* kFiles[2] = {"model-1.safetensors", "model-2.safetensors"};
  const ModelSpec spec = SmallSpec();
  FuzzFolder folder;
  std::string index;
};

}  // namespace

int FuzzSafetensors(const uint8_t* data, size_t size) {
  static MemoryFile file;
  const std::string_view bytes = AsText(data, size);
  const bool is_refused = IsRefused([&] { ParseHeader(bytes); });
  if (is_refused && !IsReadFromDisk(bytes)) return 0;
  file.Write(bytes);
  const bool is_unreadable =
      IsRefused([&] { ReadTensors(SafetensorsFile(file.path()), static_cast<int64_t>(size)); });
  Require(is_unreadable || !is_refused, "a file is read whose header is no JSON");
  return 0;
}

std::vector<std::string> SafetensorsSeeds() {
  const ShardedWeights weights;
  std::vector<std::string> seeds;
  for (const char* name : ShardedWeights::kFiles) seeds.push_back(weights.folder.Read(name));
  const FuzzFolder folder;
  SafetensorsWriter writer(folder.Path("all"),
                           {{"a", SafetensorsDType::kF16, {3}},
                            {"b", SafetensorsDType::kF32, {}},
                            {"c", SafetensorsDType::kU8, {2, 0}},
                            {"d", SafetensorsDType::kI64, {1, 2}},
                            {"e", SafetensorsDType::kF8E4M3, {5}}},
                           {});
  writer.Append(std::vector<std::byte>(6 + 4 + 16 + 5, std::byte{0x7c}));
  writer.Finish(/*sync=*/false);
  seeds.push_back(folder.Read("all"));
  std::string empty;
  Put(empty, uint64_t{2});
  seeds.push_back(empty + "{}");
  return seeds;
}

std::vector<std::string> SafetensorsWords() {
  std::vector<std::string> words = StructureWords();
  for (const char* word : {"\"dtype\":", "\"shape\":", "\"data_offsets\":", "\"__metadata__\":",
                           "\"F32\"", "\"BF16\"", "\"F16\"", "\"I64\"", "\"F8_E4M3\"", "\"BOOL\"",
                           "[0,0]", "[0,8]", "1125899906842624", "1125899906842625"}) {
    words.emplace_back(word);
  }
  return words;
}

int FuzzWeightIndex(const uint8_t* data, size_t size) {
  static const ShardedWeights weights;
  const std::string_view index = AsText(data, size);
  const bool is_refused =
      IsRefused([&] { JsonDocument::Parse(index, "index").root().Get("weight_map"); });
  if (is_refused && !IsReadFromDisk(index)) return 0;
  const bool is_unreadable = IsRefused([&] {
    weights.folder.Write("model.safetensors.index.json", index);
    const WeightSource source(weights.folder.Path(""), weights.spec);
    for (const ParameterSpec& parameter : weights.spec.parameters) {
      std::vector<float> values(static_cast<size_t>(parameter.stored_elements));
      source.Read(parameter, 0, values);
    }
  });
  Require(is_unreadable || !is_refused, "weights are read whose index is refused");
  return 0;
}

std::vector<std::string> WeightIndexSeeds() { return {ShardedWeights().index}; }

std::vector<std::string> WeightIndexWords() {
  std::vector<std::string> words = StructureWords();
  for (const char* word :
       {"\"weight_map\": ", "\"metadata\": ", "\"model-1.safetensors\"", "\"model-2.safetensors\"",
        "\"../model-1.safetensors\"", "\"/dev/zero.safetensors\"", "\"lm_head.weight\": ",
        "\"model.embed_tokens.weight\": ", "\".safetensors\"", "\"model-3.safetensors\""}) {
    words.emplace_back(word);
  }
  return words;
}

}  // namespace hearth::test
