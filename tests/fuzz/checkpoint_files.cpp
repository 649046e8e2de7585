// Manifests, checkpoints whose manifest lies, and the tables of matmuls that lie beside them.
#include <fmt/format.h>

#include <algorithm>

#include "kernels/api/gemm_table.h"
#include "kernels/core/error.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/model/hf_config.h"
#include "tests/fuzz/targets.h"

namespace hearth::test {

namespace {

constexpr const char* kStateName = "state-rank-00000.safetensors";
constexpr int64_t kMostElements = 4096;  // that the folder below has in any parameter

ModelConfig SmallConfig() {
  ModelConfig config;
  config.family = ModelFamily::kLlama;
  config.vocab_size = 5;
  config.hidden_size = 4;
  config.intermediate_size = 3;
  config.num_layers = 1;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 2;
  config.max_position_embeddings = 16;
  config.tie_word_embeddings = true;
  return config;
}

// A checkpoint of a very small model. The first parameter lies in two pieces.
class SmallCheckpoint {
 public:
  SmallCheckpoint() {
    const ModelSpec spec = BuildModelSpec(SmallConfig());
    manifest.info = {.hearth_version = "1",
                     .step = 7,
                     .sequence_len = 8,
                     .global_batch_size = 4,
                     .numeric = {.micro_batch_size = 2, .head_slab_tokens = 16},
                     .types = {.master = DType::kF32, .m = DType::kBF16, .v = DType::kBF16},
                     .model_folder = "/models/a\"b",
                     .shards = {{"a.hearth", 100, {}}},
                     .precision = {{"compute_dtype", "fp8"}}};
    std::vector<SafetensorsEntry> entries;
    for (const ParameterSpec& parameter : spec.parameters) AddParameter(parameter, entries);
    SafetensorsWriter writer(folder.Path(kStateName), entries, {});
    for (const SafetensorsEntry& entry : entries) {
      writer.Append(std::vector<std::byte>(static_cast<size_t>(entry.bytes())));
    }
    writer.Finish(/*sync=*/false);
    folder.Write(kCheckpointModelName, HfConfigText(spec.config, WeightDType::kBF16));
    for (const char* name : {kCheckpointModelName, kStateName}) {
      const std::string bytes = folder.Read(name);
      manifest.files.push_back({name, std::ssize(bytes), Xxh3Hash128(bytes)});
    }
  }

  FuzzFolder folder;
  CheckpointManifest manifest;

 private:
  void AddParameter(const ParameterSpec& parameter, std::vector<SafetensorsEntry>& entries) {
    CheckpointParameter saved{.name = parameter.name};
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) {
      saved.shape.push_back(parameter.shape[axis]);
    }
    for (StateKind kind : {StateKind::kMaster, StateKind::kM, StateKind::kV}) {
      const int64_t elements = parameter.elements();
      const int64_t middle = manifest.parameters.empty() ? elements / 2 : elements;
      for (int64_t begin = 0; begin < elements; begin += middle) {
        const int64_t count = std::min(middle, elements - begin);
        const std::string tensor = fmt::format("t{}", entries.size());  // short: many are read
        saved.pieces[static_cast<size_t>(kind)].push_back({1, tensor, begin, count});
        entries.push_back(
            {tensor,
             kind == StateKind::kMaster ? SafetensorsDType::kF32 : SafetensorsDType::kBF16,
             {count}});
      }
    }
    manifest.parameters.push_back(saved);
  }
};

// The text up to its hash, and the hash that it should have.
std::string WithHash(std::string_view text) {
  const std::string body(text.substr(0, text.rfind("\"manifest_hash\"")));
  return body + "\"manifest_hash\": \"" + ToHex(Xxh3Hash128(body)) + "\"\n}\n";
}

void ReadCheckpoint(const std::string& folder, bool verify) {
  const Checkpoint checkpoint(folder);
  const CheckpointManifest& manifest = checkpoint.manifest();
  for (size_t file = 0; verify && file < manifest.files.size(); ++file) checkpoint.VerifyFile(file);
  for (size_t i = 0; i < manifest.parameters.size(); ++i) {
    int64_t elements = 1;
    for (int64_t extent : manifest.parameters[i].shape) elements *= extent;
    const int64_t count = std::min(elements, kMostElements);
    std::vector<float> master(static_cast<size_t>(count));
    checkpoint.ReadMaster(i, 0, master);
    for (StateKind kind : {StateKind::kM, StateKind::kV}) {
      std::vector<std::byte> bytes(
          static_cast<size_t>(count * SizeOf(TypeOf(manifest.info.types, kind))));
      checkpoint.Read(i, kind, 0, bytes);
    }
  }
  checkpoint.ReadModel();
}

}  // namespace

int FuzzManifest(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const CheckpointManifest manifest = ParseManifest(AsText(data, size), "manifest.json");
    if (!IsInShare(AsText(data, size), 2)) return;
    RunAccepted("the same manifest written again is refused", [&] {
      const std::string text = ManifestText(manifest);
      Require(ManifestText(ParseManifest(text, "again")) == text,
              "a manifest changes when read back");
    });
  });
}

std::vector<std::string> ManifestSeeds() {
  CheckpointManifest empty;
  empty.info = {.sequence_len = 1,
                .global_batch_size = 1,
                .numeric = {.micro_batch_size = 1, .head_slab_tokens = 1}};
  return {ManifestText(SmallCheckpoint().manifest), ManifestText(empty)};
}

std::vector<std::string> ManifestWords() {
  std::vector<std::string> words = StructureWords();
  for (const char* word :
       {"\"file\": ", "\"tensor\": ", "\"begin\": ", "\"count\": ", "\"bytes\": ", "\"hash\": ",
        "\"shape\": ", "\"master\"", "\"f32\"", "\"bf16\"", "\"../config.json\"",
        "\"manifest.json\"", "1099511627776", "1125899906842624", "\"config.json\""}) {
    words.emplace_back(word);
  }
  return words;
}

int FuzzCheckpoint(const uint8_t* data, size_t size) {
  static const SmallCheckpoint checkpoint;
  const std::string manifest = WithHash(AsText(data, size));
  const bool is_refused = IsRefused([&] { ParseManifest(manifest, "manifest.json"); });
  if (is_refused && !IsReadFromDisk(manifest)) return 0;
  const bool is_unreadable = IsRefused([&] {
    checkpoint.folder.Write(kManifestName, manifest);
    // Hashing takes most of the time, for what the manifest's content hardly changes.
    ReadCheckpoint(checkpoint.folder.Path(""), /*verify=*/IsInShare(manifest, 16));
  });
  Require(is_unreadable || !is_refused, "a checkpoint is read whose manifest is refused");
  return 0;
}

// Each line with the checksum (FNV-1a) that it should have.
static std::string WithChecksums(std::string_view text) {
  std::string fixed;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t check = line.rfind("check=");
    fixed += line.substr(0, check);
    if (check != std::string_view::npos) {
      uint32_t hash = 2166136261u;
      for (char c : line.substr(0, check)) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
      fixed += fmt::format("check={:08x}", hash);
    }
    fixed += '\n';
  }
  return fixed;
}

int FuzzMatmuls(const uint8_t* data, size_t size) {
  return RunReader([&] {
    const std::string text = WithChecksums(AsText(data, size));
    const auto entries = ParseGemmTable(text);
    RunAccepted("the same table written again is refused", [&] {
      Require(ParseGemmTable(PrintGemmTable(entries)) == entries, "a table changes");
    });
  });
}

std::vector<std::string> MatmulsSeeds() {
  GemmTableEntry plain{.key = {.m = 16, .n = 32, .k = 48, .alignment = 16}, .library = "blas-1"};
  GemmTableEntry full = plain;
  full.key = {.m = 1,
              .n = int64_t{1} << 40,
              .k = 7,
              .a = DType::kF8E4M3,
              .b = DType::kF8E5M2,
              .out = DType::kBF16,
              .a_transposed = true,
              .bias = DType::kBF16,
              .accumulate = true,
              .alignment = 2};
  full.algorithm = {1, 2, ~uint64_t{0}};
  return {PrintGemmTable(std::vector{plain, full}), "\n\n" + PrintGemmTable(std::vector{full})};
}

std::vector<std::string> MatmulsWords() {
  return {"matmul/1",
          " m=",
          " k=",
          "f8_e4m3",
          "bf16",
          "none",
          "check=",
          " ",
          "\n",
          "9223372036854775807",
          "9223372036854775808",
          "-1",
          " bias=",
          " library=",
          " algorithm="};
}

// Without the blanks that lines begin with, which are a third of it.
std::vector<std::string> CheckpointSeeds() {
  std::string text;
  bool is_indent = false;
  for (const char c : ManifestText(SmallCheckpoint().manifest)) {
    is_indent = c == '\n' || (is_indent && c == ' ');
    if (!is_indent) text += c;
  }
  return {text};
}

}  // namespace hearth::test
