// Export to a Hugging Face folder and reading one back.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "kernels/core/bfloat16.h"
#include "kernels/core/error.h"
#include "runtime/model/hf_config.h"
#include "runtime/model/hf_export.h"
#include "runtime/model/initialization.h"
#include "runtime/model/load_model.h"
#include "runtime/model/weight_source.h"
#include "tests/unit/model/test_models.h"

namespace hearth {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// Distinct random values for every element, norms included.
std::vector<float> Weights(const ParameterSpec& parameter) {
  ParameterSpec random = parameter;
  random.init = {Init::Kind::kNormal, 0.5};
  std::vector<float> values(static_cast<size_t>(parameter.elements()));
  InitialValues(random, 11, 0, values);
  return values;
}

void Export(const ModelSpec& spec, const HfExportOptions& options) {
  ExportHf(spec, options, [&](const ExportPiece& piece, std::span<float> out) {
    const std::vector<float> values =
        Weights(spec.parameters[static_cast<size_t>(piece.parameter)]);
    std::copy_n(values.begin() + piece.begin, piece.count, out.begin());
  });
}

class WeightFilesTest : public testing::Test {
 protected:
  std::filesystem::path Path(const char* name) { return folder_.path() / name; }

  // An fp32 export in several files.
  std::filesystem::path ExportShards(const ModelSpec& spec) {
    Export(spec, {.folder = Path("hf"),
                  .weight_dtype = WeightDType::kF32,
                  .max_shard_bytes = 4000,
                  .tokenizer_folder = std::nullopt,
                  .sync = false});
    return Path("hf");
  }
  static std::string Refusal(const std::filesystem::path& folder, const ModelSpec& spec) {
    return MessageOf<ConfigError>([&] { WeightSource source(folder, spec); });
  }
  // One file with these tensors of one float each shape element.
  void WriteFile(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& entries) {
    std::filesystem::create_directories(path.parent_path());
    SafetensorsWriter writer(path, entries, {});
    for (const SafetensorsEntry& entry : entries) {
      const std::vector<std::byte> bytes(static_cast<size_t>(entry.bytes()), std::byte{1});
      writer.Append(bytes);
    }
    writer.Finish(false);
  }
  static std::vector<SafetensorsEntry> Entries(const ModelSpec& spec) {
    std::vector<SafetensorsEntry> entries;
    for (const ParameterSpec& parameter : spec.parameters) {
      for (const HfSource& source : parameter.sources) {
        SafetensorsEntry entry{source.name, SafetensorsDType::kBF16, {}};
        for (int i = 0; i < source.shape.rank(); ++i) entry.shape.push_back(source.shape[i]);
        entries.push_back(entry);
      }
    }
    return entries;
  }

  TestFolder folder_;
};

struct ExportCase {
  ModelFamily family;
  bool tied;
  WeightDType dtype;
  int64_t max_shard_bytes;
};

class ExportTest : public WeightFilesTest, public testing::WithParamInterface<ExportCase> {};

INSTANTIATE_TEST_SUITE_P(
    Cases, ExportTest,
    testing::Values(ExportCase{ModelFamily::kQwen2, true, WeightDType::kF32, 1'000'000},
                    ExportCase{ModelFamily::kQwen2, false, WeightDType::kF32, 3000},
                    ExportCase{ModelFamily::kQwen3, true, WeightDType::kBF16, 1},
                    ExportCase{ModelFamily::kQwen3, false, WeightDType::kF32, 6000},
                    ExportCase{ModelFamily::kLlama, false, WeightDType::kBF16, 1'000'000},
                    ExportCase{ModelFamily::kMistral, true, WeightDType::kBF16, 2500}));

TEST_P(ExportTest, ReadsBackEqual) {
  const ModelSpec spec = BuildModelSpec(SmallModel(GetParam().family, GetParam().tied));
  Export(spec, {.folder = Path("hf"),
                .weight_dtype = GetParam().dtype,
                .max_shard_bytes = GetParam().max_shard_bytes,
                .tokenizer_folder = std::nullopt,
                .sync = false});
  LoadedModel loaded = LoadModel(Path("hf").string(), "");
  EXPECT_TRUE(loaded.has_weights);
  EXPECT_EQ(loaded.config.weight_dtype, GetParam().dtype);
  loaded.config.weight_dtype = spec.config.weight_dtype;
  EXPECT_EQ(loaded.config, spec.config);
  const WeightSource source(Path("hf"), BuildModelSpec(loaded.config));
  for (const ParameterSpec& parameter : spec.parameters) {
    const std::vector<float> written = Weights(parameter);
    std::vector<float> read(static_cast<size_t>(parameter.stored_elements), 9.0f);
    source.Read(parameter, 0, read);
    for (size_t i = 0; i < read.size(); ++i) {
      float expected = i < written.size() ? written[i] : 0.0f;
      if (GetParam().dtype == WeightDType::kBF16) expected = ToFloat(ToBFloat16(expected));
      ASSERT_EQ(read[i], expected) << parameter.name << " element " << i;
    }
    // Any range gives the same values, across the borders of the fused tensors too.
    for (int64_t begin = 0; begin < parameter.stored_elements; begin += 7) {
      const int64_t count = std::min<int64_t>(61, parameter.stored_elements - begin);
      std::vector<float> part(static_cast<size_t>(count), 9.0f);
      source.Read(parameter, begin, part);
      ASSERT_TRUE(std::equal(part.begin(), part.end(), read.begin() + begin)) << parameter.name;
    }
  }
}

TEST_P(ExportTest, ShardsAndIndexFollowTheConvention) {
  const ModelSpec spec = BuildModelSpec(SmallModel(GetParam().family, GetParam().tied));
  const int64_t limit = GetParam().max_shard_bytes;
  Export(spec, {.folder = Path("hf"),
                .weight_dtype = GetParam().dtype,
                .max_shard_bytes = limit,
                .tokenizer_folder = std::nullopt,
                .sync = false});
  if (std::filesystem::exists(Path("hf") / "model.safetensors")) {
    EXPECT_FALSE(std::filesystem::exists(Path("hf") / "model.safetensors.index.json"));
    return;
  }
  const json index = json::parse(FileBytes(Path("hf") / "model.safetensors.index.json"));
  const int64_t width = GetParam().dtype == WeightDType::kF32 ? 4 : 2;
  EXPECT_EQ(index["metadata"]["total_size"], spec.ParameterCount() * width);
  std::set<std::string> files;
  for (const auto& [tensor, file] : index["weight_map"].items()) files.insert(file);
  int number = 0;
  for (const std::string& name : files) {
    EXPECT_EQ(name, fmt::format("model-{:05}-of-{:05}.safetensors", ++number, files.size()));
    const SafetensorsFile file(Path("hf") / name);
    int64_t bytes = 0;
    for (const SafetensorsTensor& tensor : file.tensors()) {
      EXPECT_EQ(index["weight_map"][tensor.name], name);
      bytes += tensor.bytes();
    }
    EXPECT_TRUE(bytes <= limit || file.tensors().size() == 1) << name << " " << bytes;
    EXPECT_EQ(file.metadata().at("format"), "pt");
  }
}

TEST_F(WeightFilesTest, PiecesTileEveryTensorInOrder) {
  ModelConfig config = SmallModel(ModelFamily::kQwen2, false);
  config.hidden_size = 1024;
  config.vocab_size = 5000;  // more than one piece
  const ModelSpec spec = BuildModelSpec(config);
  int parameter = 0;
  int64_t next = 0;
  for (const ExportPiece& piece : ExportPieces(spec)) {
    if (piece.parameter != parameter) {
      EXPECT_EQ(next, spec.parameters[static_cast<size_t>(parameter)].elements());
      EXPECT_EQ(piece.parameter, parameter + 1);
      parameter = piece.parameter;
      next = 0;
    }
    EXPECT_EQ(piece.begin, next);
    EXPECT_GT(piece.count, 0);
    EXPECT_LE(piece.count, kExportPieceElements);
    next += piece.count;
  }
  EXPECT_EQ(parameter, static_cast<int>(spec.parameters.size()) - 1);
}

TEST_F(WeightFilesTest, TokenizerFilesAreCopiedAndNothingElse) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kLlama, true));
  const TestFolder source;
  const std::string bytes("{\"\xc3\xa9\0x\": 1}\r\n", 14);
  source.Write("tokenizer.json", bytes);
  source.Write("merges.txt", "a b\n");
  source.Write("generation_config.json", "{\"temperature\": 0.7}");
  source.Write("README.md", "no");
  source.Write("config.json", "no");
  Export(spec, {.folder = Path("hf"),
                .weight_dtype = WeightDType::kBF16,
                .max_shard_bytes = 1'000'000,
                .tokenizer_folder = source.path(),
                .sync = true});
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(Path("hf"))) {
    names.insert(entry.path().filename().string());
  }
  EXPECT_EQ(names, (std::set<std::string>{"config.json", "generation_config.json", "merges.txt",
                                          "model.safetensors", "tokenizer.json"}));
  EXPECT_EQ(FileBytes(Path("hf") / "tokenizer.json"), bytes);
  EXPECT_EQ(FileBytes(Path("hf") / "generation_config.json"), "{\"temperature\": 0.7}");
}

TEST_F(WeightFilesTest, BytesDependOnTheModelOnly) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kQwen3, false));
  for (const char* name : {"one", "other/name"}) {
    Export(spec, {.folder = Path(name),
                  .weight_dtype = WeightDType::kBF16,
                  .max_shard_bytes = 2000,
                  .tokenizer_folder = std::nullopt,
                  .sync = false});
  }
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(Path("one"))) {
    EXPECT_EQ(FileBytes(entry.path()), FileBytes(Path("other/name") / entry.path().filename()));
    ++files;
  }
  EXPECT_GT(files, 5);
}

TEST_F(WeightFilesTest, AnEarlierExportIsReplacedAndNothingElseIs) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kQwen2, true));
  const HfExportOptions options = {.folder = Path("hf"),
                                   .weight_dtype = WeightDType::kBF16,
                                   .max_shard_bytes = 2000,
                                   .tokenizer_folder = std::nullopt,
                                   .sync = false};
  Export(spec, options);
  HfExportOptions single = options;
  single.max_shard_bytes = 1'000'000;
  single.folder = Path("hf") / "";  // a trailing slash is the same folder
  Export(spec, single);
  EXPECT_TRUE(std::filesystem::exists(Path("hf") / "model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(Path("hf") / "model.safetensors.index.json"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);

  // Somebody's model, somebody's notes, a file: left alone.
  WriteFile(Path("theirs") / "model.safetensors", Entries(spec));
  folder_.Write("notes/a.txt", "mine");
  folder_.Write("file", "mine");
  for (const char* name : {"theirs", "notes", "file"}) {
    HfExportOptions wrong = options;
    wrong.folder = Path(name);
    EXPECT_THAT(MessageOf<ConfigError>([&] { Export(spec, wrong); }),
                HasSubstr("is not an earlier export"));
  }
  EXPECT_EQ(FileBytes(Path("notes") / "a.txt"), "mine");
  std::filesystem::create_directory(Path("empty"));
  HfExportOptions into_empty = options;
  into_empty.folder = Path("empty");
  Export(spec, into_empty);
}

// An export that dies on the way leaves the earlier one as it was, and the next one succeeds.
TEST_F(WeightFilesTest, AFailedExportChangesNothing) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kLlama, true));
  const HfExportOptions options = {.folder = Path("hf"),
                                   .weight_dtype = WeightDType::kBF16,
                                   .max_shard_bytes = 1'000'000,
                                   .tokenizer_folder = std::nullopt,
                                   .sync = false};
  Export(spec, options);
  const std::string before = FileBytes(Path("hf") / "model.safetensors");
  int calls = 0;
  EXPECT_THROW(ExportHf(spec, options,
                        [&](const ExportPiece&, std::span<float>) {
                          if (++calls == 3) throw CommError("a rank died");
                        }),
               CommError);
  EXPECT_EQ(FileBytes(Path("hf") / "model.safetensors"), before);
  Export(spec, options);
  EXPECT_EQ(FileBytes(Path("hf") / "model.safetensors"), before);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
}

TEST_F(WeightFilesTest, EveryTensorMustBeThereWithItsShapeAndType) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kQwen2, false));
  const std::vector<SafetensorsEntry> entries = Entries(spec);
  const auto file = Path("m") / "model.safetensors";
  WriteFile(file, entries);
  WeightSource complete(Path("m"), spec);
  for (size_t i = 0; i < entries.size(); ++i) {
    std::vector<SafetensorsEntry> changed = entries;
    changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(i));
    WriteFile(file, changed);
    EXPECT_THAT(Refusal(Path("m"), spec), HasSubstr("lacks the tensor " + entries[i].name));
    changed = entries;
    changed[i].shape.back() += 1;
    WriteFile(file, changed);
    EXPECT_THAT(Refusal(Path("m"), spec), HasSubstr(entries[i].name + " has the shape ["));
    changed = entries;
    changed[i].shape.push_back(1);
    WriteFile(file, changed);
    EXPECT_THAT(Refusal(Path("m"), spec), HasSubstr(entries[i].name + " has the shape ["));
  }
  std::vector<SafetensorsEntry> quantised = entries;
  quantised[2].dtype = SafetensorsDType::kF8E4M3;
  WriteFile(file, quantised);
  EXPECT_THAT(Refusal(Path("m"), spec), HasSubstr("is F8_E4M3"));
}

TEST_F(WeightFilesTest, SurplusTensorsAreRefusedUnlessHarmless) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kLlama, true));
  const auto file = Path("m") / "model.safetensors";
  const auto with = [&](const SafetensorsEntry& extra) {
    std::vector<SafetensorsEntry> entries = Entries(spec);
    entries.push_back(extra);
    WriteFile(file, entries);
  };
  with({"model.layers.0.self_attn.rotary_emb.inv_freq", SafetensorsDType::kF32, {2}});
  WeightSource harmless(Path("m"), spec);
  with({"lm_head.weight", SafetensorsDType::kBF16, {37, 20}});
  WeightSource equal_head(Path("m"), spec);
  with({"lm_head.weight", SafetensorsDType::kF32, {37, 20}});
  EXPECT_THAT(Refusal(Path("m"), spec), HasSubstr("tie_word_embeddings"));
  with({"lm_head.weight", SafetensorsDType::kBF16, {20, 37}});
  EXPECT_THAT(Refusal(Path("m"), spec), HasSubstr("tie_word_embeddings"));
  with({"model.layers.0.self_attn.q_proj.bias", SafetensorsDType::kBF16, {24}});
  EXPECT_THAT(Refusal(Path("m"), spec),
              HasSubstr("has the tensor model.layers.0.self_attn.q_proj"));
  with({"model.layers.2.mlp.up_proj.weight", SafetensorsDType::kBF16, {13, 20}});
  EXPECT_THAT(Refusal(Path("m"), spec), HasSubstr("model.layers.2"));
}

// One differing element of a head that should be tied is found, wherever it is.
TEST_F(WeightFilesTest, AnUnequalTiedHeadIsRefused) {
  const ModelSpec untied = BuildModelSpec(SmallModel(ModelFamily::kLlama, false));
  const ModelSpec tied = BuildModelSpec(SmallModel(ModelFamily::kLlama, true));
  for (const int64_t different : {int64_t{-1}, int64_t{0}, int64_t{37 * 20 - 1}}) {
    ExportHf(untied,
             {.folder = Path("hf"),
              .weight_dtype = WeightDType::kBF16,
              .max_shard_bytes = 1'000'000,
              .tokenizer_folder = std::nullopt,
              .sync = false},
             [&](const ExportPiece& piece, std::span<float> out) {
               const auto& parameter = untied.parameters[static_cast<size_t>(piece.parameter)];
               const bool head = parameter.role == ParameterRole::kHead;
               const std::vector<float> values =
                   Weights(head ? untied.parameters.front() : parameter);
               std::copy_n(values.begin() + piece.begin, piece.count, out.begin());
               if (head && different >= 0) {
                 out[static_cast<size_t>(different)] += 1.0f;
               }
             });
    if (different < 0) {
      WeightSource source(Path("hf"), tied);
    } else {
      EXPECT_THAT(Refusal(Path("hf"), tied), HasSubstr("lm_head.weight differs"));
    }
  }
}

TEST_F(WeightFilesTest, HostileIndexFilesAreRefused) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kLlama, false));
  const auto hf = ExportShards(spec);
  const std::string good = FileBytes(hf / "model.safetensors.index.json");
  WeightSource complete(hf, spec);
  const auto refusal = [&](const std::string& text) {
    std::ofstream(hf / "model.safetensors.index.json", std::ios::binary) << text;
    return Refusal(hf, spec);
  };
  const std::string first = json::parse(good)["weight_map"]["model.norm.weight"];
  for (const std::string bad :
       {"../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..", ".", "",
        "pytorch_model.bin", "a\\b.safetensors", ".hidden.safetensors"}) {
    json index = json::parse(good);
    index["weight_map"]["model.norm.weight"] = bad;
    EXPECT_THAT(refusal(index.dump()), HasSubstr("plain name")) << bad;
  }
  json index = json::parse(good);
  index["weight_map"]["model.norm.weight"] = std::string("a\0.safetensors", 14);
  EXPECT_THAT(refusal(index.dump()), HasSubstr("plain name"));
  index = json::parse(good);
  index["weight_map"].erase("model.norm.weight");
  EXPECT_THAT(refusal(index.dump()), HasSubstr("lacks model.norm.weight"));
  index = json::parse(good);
  index["weight_map"]["model.norm.weight"] = 3;
  EXPECT_THAT(refusal(index.dump()), HasSubstr("must be a string"));
  index = json::parse(good);
  index["weight_map"]["surplus"] = first;
  EXPECT_THAT(refusal(index.dump()), HasSubstr("does not hold this tensor"));
  EXPECT_THAT(refusal("{}"), HasSubstr("weight_map"));
  EXPECT_THAT(refusal("{\"weight_map\": []}"), HasSubstr("must be an object"));
  EXPECT_THAT(refusal("{\"weight_map\": {}}"), HasSubstr("lacks the tensor"));
  EXPECT_THAT(refusal("not json"), HasSubstr("index.json:1:"));
  index = json::parse(good);
  index["weight_map"]["model.norm.weight"] = "none.safetensors";
  std::ofstream(hf / "model.safetensors.index.json", std::ios::binary) << index.dump();
  EXPECT_THAT(MessageOf<IoError>([&] { WeightSource source(hf, spec); }),
              HasSubstr("none.safetensors"));
}

// The same tensor in two shards: which one counts would be chance.
TEST_F(WeightFilesTest, ATensorInTwoShardsIsRefused) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kLlama, true));
  const std::vector<SafetensorsEntry> entries = Entries(spec);
  WriteFile(Path("m") / "a.safetensors", entries);
  WriteFile(Path("m") / "b.safetensors", {entries.front(), {"x", SafetensorsDType::kBF16, {1}}});
  json index;
  for (const SafetensorsEntry& entry : entries) index["weight_map"][entry.name] = "a.safetensors";
  index["weight_map"]["x"] = "b.safetensors";
  folder_.Write("m/model.safetensors.index.json", index.dump());
  EXPECT_THAT(Refusal(Path("m"), spec), HasSubstr("is also held by b.safetensors"));
}

TEST_F(WeightFilesTest, AFolderWithoutWeightsIsRefused) {
  const ModelSpec spec = BuildModelSpec(SmallModel(ModelFamily::kLlama, true));
  EXPECT_THAT(Refusal(folder_.path(), spec), HasSubstr("has neither model.safetensors nor"));
}

}  // namespace
}  // namespace hearth
