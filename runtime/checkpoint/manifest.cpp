#include "runtime/checkpoint/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/core/check.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "hearth-checkpoint";
constexpr std::string_view kHashKey = "manifest_hash";
// A thousand ranks and a thousand layers fit.
constexpr JsonLimits kLimits{
    .max_bytes = int64_t{256} << 20, .max_depth = 8, .max_values = 8'000'000};
constexpr int64_t kMaxCount = int64_t{1} << 40;
constexpr int64_t kMaxFileBytes = int64_t{1} << 50;
constexpr int64_t kMaxRank = 4;
constexpr int kMaxWorld = 1 << 16;
constexpr std::array<StateKind, kStateKindCount> kKinds = {StateKind::kMaster, StateKind::kM,
                                                           StateKind::kV};

Json ToJson(const CheckpointInfo& info) {
  Json shards = Json::array();
  for (const ShardHash& shard : info.shards) {
    shards.push_back({{"file", shard.file}, {"bytes", shard.bytes}, {"hash", ToHex(shard.hash)}});
  }
  Json json = {
      {"hearth_version", info.hearth_version},
      {"step", info.step},
      {"skipped_steps", info.skipped_steps},
      {"world", info.world},
      {"seed", info.seed},
      {"data_seed", info.data_seed},
      {"sequence_len", info.sequence_len},
      {"global_batch_size", info.global_batch_size},
      {"numeric",
       {{"micro_batch_size", info.numeric.micro_batch_size},
        {"head_slab_tokens", info.numeric.head_slab_tokens},
        {"reduction_order", EnumName(info.numeric.reduction_order)}}},
      {"types",
       {{"master", Name(info.types.master)}, {"m", Name(info.types.m)}, {"v", Name(info.types.v)}}},
      {"config_hash", ToHex(info.config_hash)},
      {"model_folder", info.model_folder},
      {"shards", std::move(shards)}};
  // As doubles, which print every float exactly.
  if (!info.fp8_amax.empty()) {
    json["fp8_amax"] = std::vector<double>(info.fp8_amax.begin(), info.fp8_amax.end());
  }
  if (!info.precision.empty()) json["precision"] = info.precision;
  return json;
}

Json ToJson(const CheckpointParameter& parameter) {
  Json json = {{"name", parameter.name}, {"shape", parameter.shape}};
  for (StateKind kind : kKinds) {
    Json pieces = Json::array();
    for (const CheckpointPiece& piece : parameter.pieces[static_cast<size_t>(kind)]) {
      pieces.push_back({{"file", piece.file},
                        {"tensor", piece.tensor},
                        {"begin", piece.begin},
                        {"count", piece.count}});
    }
    json[std::string(Name(kind))] = std::move(pieces);
  }
  return json;
}

Hash128 ParseHash(const JsonNode& node) {
  try {
    return Hash128FromHex(node.AsString());
  } catch (const IoError&) {
    node.Fail("is no hash of 32 hexadecimal digits; the file is damaged");
  }
}

DType ParseType(const JsonNode& node) {
  for (DType type : {DType::kF32, DType::kBF16}) {
    if (node.AsString() == Name(type)) return type;
  }
  node.Fail("is neither f32 nor bf16; the file is damaged or of a later version");
}

ReductionOrder ParseOrder(const JsonNode& node) {
  for (ReductionOrder order : {ReductionOrder::kMicroThenRank, ReductionOrder::kRankThenMicro}) {
    if (node.AsString() == EnumName(order)) return order;
  }
  node.Fail("is no reduction order; the file is damaged or of a later version");
}

// A name that stays inside the folder whatever it says.
std::string ParseFileName(const JsonNode& node) {
  const std::string& name = node.AsString();
  const bool plain = !name.empty() && name.size() <= 200 && name.front() != '.' &&
                     std::all_of(name.begin(), name.end(), [](char c) {
                       return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                              (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
                     });
  if (!plain || name == kManifestName) {
    node.Fail("is not a plain file name; the file is damaged or was tampered with");
  }
  return name;
}

std::vector<float> ParseAmaxes(const JsonNode& node) {
  std::vector<float> amaxes;
  for (const JsonNode& amax : node.AsArray()) {
    const double value = amax.AsReal();
    if (!(value >= 0 && value <= static_cast<double>(std::numeric_limits<float>::max()))) {
      amax.Fail("is no magnitude; the file is damaged");
    }
    amaxes.push_back(static_cast<float>(value));
  }
  return amaxes;
}

CheckpointInfo ParseInfo(const JsonNode& node) {
  const auto integer = [&](std::string_view key, int64_t lowest) {
    return node.Get(key).AsInteger(lowest, kMaxCount);
  };
  CheckpointInfo info;
  info.hearth_version = node.Get("hearth_version").AsString();
  info.step = integer("step", 0);
  info.skipped_steps = integer("skipped_steps", 0);
  info.world = static_cast<int>(node.Get("world").AsInteger(1, kMaxWorld));
  info.seed = node.Get("seed").AsInteger(std::numeric_limits<int64_t>::min(),
                                         std::numeric_limits<int64_t>::max());
  info.data_seed =
      node.Get("data_seed")
          .AsInteger(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
  info.sequence_len = integer("sequence_len", 1);
  info.global_batch_size = integer("global_batch_size", 1);
  const JsonNode numeric = node.Get("numeric");
  info.numeric = {.micro_batch_size = numeric.Get("micro_batch_size").AsInteger(1, kMaxCount),
                  .head_slab_tokens = numeric.Get("head_slab_tokens").AsInteger(1, kMaxCount),
                  .reduction_order = ParseOrder(numeric.Get("reduction_order"))};
  const JsonNode types = node.Get("types");
  info.types = {.master = ParseType(types.Get("master")),
                .m = ParseType(types.Get("m")),
                .v = ParseType(types.Get("v"))};
  info.config_hash = ParseHash(node.Get("config_hash"));
  info.model_folder = node.Get("model_folder").AsString();
  for (const JsonNode& shard : node.Get("shards").AsArray()) {
    info.shards.push_back({.file = shard.Get("file").AsString(),
                           .bytes = shard.Get("bytes").AsInteger(0, kMaxFileBytes),
                           .hash = ParseHash(shard.Get("hash"))});
  }
  if (node.Has("fp8_amax")) info.fp8_amax = ParseAmaxes(node.Get("fp8_amax"));
  if (node.Has("precision")) {
    const JsonNode precision = node.Get("precision");
    precision.RequireObject();
    for (const std::string& key : precision.Keys()) {
      info.precision[key] = precision.Get(key).AsString();
    }
  }
  return info;
}

std::vector<CheckpointFile> ParseFiles(const JsonNode& node) {
  std::vector<CheckpointFile> files;
  std::set<std::string> names;
  for (const JsonNode& file : node.AsArray()) {
    files.push_back({.name = ParseFileName(file.Get("name")),
                     .bytes = file.Get("bytes").AsInteger(0, kMaxFileBytes),
                     .hash = ParseHash(file.Get("hash"))});
    if (!names.insert(files.back().name).second) file.Fail("names a file twice; it is damaged");
  }
  return files;
}

std::vector<CheckpointPiece> ParsePieces(const JsonNode& node, int64_t elements, size_t files) {
  std::vector<CheckpointPiece> pieces;
  int64_t covered = 0;
  for (const JsonNode& piece : node.AsArray()) {
    pieces.push_back(
        {.file = static_cast<int>(piece.Get("file").AsInteger(0, static_cast<int64_t>(files) - 1)),
         .tensor = piece.Get("tensor").AsString(),
         .begin = piece.Get("begin").AsInteger(0, kMaxCount),
         .count = piece.Get("count").AsInteger(1, kMaxCount)});
    if (pieces.back().begin != covered) piece.Fail("leaves a gap or overlaps; it is damaged");
    covered += pieces.back().count;
    if (covered > elements) piece.Fail("reaches beyond the parameter; it is damaged");
  }
  if (covered != elements) node.Fail("does not hold all elements; the file is damaged");
  return pieces;
}

CheckpointParameter ParseParameter(const JsonNode& node, size_t files) {
  CheckpointParameter parameter{.name = node.Get("name").AsString()};
  int64_t elements = 1;
  const std::vector<JsonNode> extents = node.Get("shape").AsArray();
  if (extents.empty() || std::ssize(extents) > kMaxRank) node.Fail("has no possible shape");
  for (const JsonNode& extent : extents) {
    parameter.shape.push_back(extent.AsInteger(1, kMaxCount));
    if (parameter.shape.back() > kMaxCount / elements) node.Fail("is too large; it is damaged");
    elements *= parameter.shape.back();
  }
  for (StateKind kind : kKinds) {
    parameter.pieces[static_cast<size_t>(kind)] =
        ParsePieces(node.Get(Name(kind)), elements, files);
  }
  return parameter;
}

// `text` without the hash it ends in; IoError when that is not the hash of the rest.
void CheckManifestHash(std::string_view text, const std::string& file) {
  const size_t key = text.rfind(fmt::format("\"{}\"", kHashKey));
  if (key != std::string_view::npos) {
    const std::string expected =
        fmt::format("\"{}\": \"{}\"\n}}\n", kHashKey, ToHex(Xxh3Hash128(text.substr(0, key))));
    if (text.substr(key) == expected) return;
  }
  throw IoError(fmt::format(
      "{}: error: its bytes do not have the hash they had when written; use another checkpoint",
      file));
}

}  // namespace

DType TypeOf(const StateTypes& types, StateKind kind) {
  return kind == StateKind::kMaster ? types.master : kind == StateKind::kM ? types.m : types.v;
}

std::string ManifestText(const CheckpointManifest& manifest) {
  Json json = {{"format", kFormat}, {"version", kManifestVersion}};
  json["run"] = ToJson(manifest.info);
  json["files"] = Json::array();
  for (const CheckpointFile& file : manifest.files) {
    json["files"].push_back(
        {{"name", file.name}, {"bytes", file.bytes}, {"hash", ToHex(file.hash)}});
  }
  json["parameters"] = Json::array();
  for (const CheckpointParameter& parameter : manifest.parameters) {
    json["parameters"].push_back(ToJson(parameter));
  }
  std::string text = json.dump(1, ' ', false, Json::error_handler_t::replace);
  CHECK(text.ends_with("\n}"), "a manifest that ends in {}", text.substr(text.size() - 2));
  text.resize(text.size() - 2);
  text += ",\n ";
  const std::string hash = ToHex(Xxh3Hash128(text));
  return text + fmt::format("\"{}\": \"{}\"\n}}\n", kHashKey, hash);
}

CheckpointManifest ParseManifest(std::string_view text, const std::string& file) {
  const JsonDocument document = JsonDocument::Parse(text, file, kLimits, JsonRefusal::kIoError);
  const JsonNode root = document.root();
  root.RequireObject();
  if (root.Get("format").AsString() != kFormat) root.Get("format").Fail("is no checkpoint's");
  const int64_t version = root.Get("version").AsInteger(1, kMaxCount);
  if (version != kManifestVersion) {
    root.Get("version").Fail(
        fmt::format("is {}, this version of Hearth reads {}; use the version that wrote it",
                    version, kManifestVersion));
  }
  CheckpointManifest manifest{.info = ParseInfo(root.Get("run")),
                              .files = ParseFiles(root.Get("files"))};
  for (const JsonNode& parameter : root.Get("parameters").AsArray()) {
    manifest.parameters.push_back(ParseParameter(parameter, manifest.files.size()));
  }
  return manifest;
}

CheckpointManifest ReadManifest(const std::filesystem::path& file) {
  const std::string text = ReadTextFile(file, kLimits.max_bytes);
  CheckManifestHash(text, file.string());
  return ParseManifest(text, file.string());
}

}  // namespace hearth
