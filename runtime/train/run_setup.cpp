#include "runtime/train/run_setup.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/core/check.h"
#include "runtime/data/mapped_file.h"
#include "runtime/model/hf_export.h"
#include "runtime/model/json_reader.h"

namespace hearth {

namespace {

TokenFormat ToTokenFormat(DataFormat format) {
  switch (format) {
    case DataFormat::kAuto:
      return TokenFormat::kAuto;
    case DataFormat::kHearth:
      return TokenFormat::kHearth;
    case DataFormat::kLlmc:
      return TokenFormat::kLlmc;
    case DataFormat::kNanogpt:
      return TokenFormat::kNanogpt;
    case DataFormat::kMegatron:
      return TokenFormat::kMegatron;
    case DataFormat::kLlmq:
      return TokenFormat::kLlmq;
  }
  return TokenFormat::kAuto;
}

// Ids of another tokenizer are other words: nothing else would notice.
void RequireModelTokenizer(const TokenDataset& data, const ResolvedConfig& resolved) {
  const std::filesystem::path file =
      std::filesystem::path(resolved.config.model.name_or_path) / "tokenizer.json";
  if (!std::filesystem::exists(file)) return;
  const Hash128 expected = Xxh3Hash128(std::string_view(MappedFile(file.string()).text()));
  for (const TokenFile* shard : data.Files()) {
    if (shard->tokenizer_hash() == Hash128{} || shard->tokenizer_hash() == expected) continue;
    throw ConfigError(fmt::format(
        "{}: error: its tokens are those of the tokenizer '{}', not of {}; prepare it again with "
        "--tokenizer {}, or, where only the files differ, put the same tokenizer.json there",
        shard->path(), OneLine(shard->tokenizer_name()), file.string(),
        resolved.config.model.name_or_path));
  }
}

// Samples of another length would cut the documents that packing kept whole, and begin in padding.
void RequirePackedLength(const TokenDataset& data, int64_t sequence_len) {
  for (const TokenFile* shard : data.Files()) {
    const int64_t packed = shard->sample_tokens();
    if (packed == 0 || packed == sequence_len) continue;
    throw ConfigError(fmt::format(
        "{}: error: its samples were packed to {} tokens, and data.sequence_len is {}; set "
        "sequence_len: {}, or prepare it again with --pack {}",
        shard->path(), packed, sequence_len, packed, sequence_len));
  }
}

std::shared_ptr<const TokenDataset> Open(const std::vector<DatasetEntry>& entries,
                                         const ResolvedConfig& resolved, const ModelSpec& spec,
                                         SampleOrdering ordering) {
  std::vector<DatasetSpec> specs;
  for (const DatasetEntry& entry : entries) {
    specs.push_back({.path_glob = entry.path,
                     .format = ToTokenFormat(entry.format),
                     .weight = ordering == SampleOrdering::kShuffled ? entry.weight : 1.0});
  }
  const DataSection& data = resolved.config.data;
  auto opened = std::make_shared<const TokenDataset>(
      specs, TokenDatasetOptions{.sequence_len = data.sequence_len,
                                 .sample_packing = data.sample_packing,
                                 .data_seed = static_cast<uint64_t>(data.data_seed),
                                 .vocab_limit = spec.config.vocab_size,
                                 .ordering = ordering});
  RequireModelTokenizer(*opened, resolved);
  RequirePackedLength(*opened, data.sequence_len);
  return opened;
}

}  // namespace

ModelSetup SetUpModel(const ResolvedConfig& resolved, const std::string& installed_configs) {
  const ModelSection& section = resolved.config.model;
  ModelSetup setup{.loaded = LoadModel(section.name_or_path, installed_configs)};
  setup.spec = BuildModelSpec(setup.loaded.config);
  setup.pretrained = section.init == ModelInit::kPretrained ||
                     (section.init == ModelInit::kAuto && setup.loaded.has_weights);
  if (setup.pretrained && !setup.loaded.has_weights) {
    throw ConfigError(fmt::format(
        "{}: error: init is pretrained, but {} has no weights (model.safetensors); name a folder "
        "that has them, or set init: random",
        resolved.Place("model.init"), section.name_or_path));
  }
  return setup;
}

std::shared_ptr<const TokenDataset> OpenTrainingData(const ResolvedConfig& resolved,
                                                     const ModelSpec& spec) {
  return Open(resolved.config.data.datasets, resolved, spec, SampleOrdering::kShuffled);
}

std::shared_ptr<const TokenDataset> OpenEvaluationData(const ResolvedConfig& resolved,
                                                       const ModelSpec& spec) {
  if (resolved.config.data.eval_datasets.empty()) return nullptr;
  return Open(resolved.config.data.eval_datasets, resolved, spec, SampleOrdering::kSequential);
}

int64_t TotalSteps(const ResolvedConfig& resolved, int64_t global_batch_size,
                   const TokenDataset& data) {
  const TrainingSection& training = resolved.config.training;
  int64_t steps = 0;
  std::string key = "training.max_steps";
  if (training.max_steps) {
    steps = *training.max_steps;
  } else if (training.max_tokens) {
    key = "training.max_tokens";
    steps = *training.max_tokens / (global_batch_size * resolved.config.data.sequence_len);
  } else {
    key = "training.num_epochs";
    steps = training.num_epochs.value_or(1) * data.samples_per_epoch() / global_batch_size;
  }
  if (steps < 1) {
    throw ConfigError(fmt::format(
        "{}: error: the run has no step: {} samples in an epoch, {} in a step; give more data, a "
        "smaller global_batch_size or sequence_len, or max_steps",
        resolved.Place(key), data.samples_per_epoch(), global_batch_size));
  }
  CheckRunLength(resolved, steps);
  return steps;
}

void LoadState(Executor& executor, int unit, StateKind kind, int64_t begin, std::span<float> out) {
  const auto count = static_cast<int64_t>(out.size());
  const TensorView view = executor.optimizer().Home(unit, kind, {begin, begin + count});
  if (view.dtype() == DType::kF32) {
    executor.transfer().Download(view, out.data());
    return;
  }
  std::vector<BFloat16> stored(out.size());
  executor.transfer().Download(view, stored.data());
  std::transform(stored.begin(), stored.end(), out.begin(),
                 [](BFloat16 value) { return ToFloat(value); });
}

void GatherMaster(Executor& executor, Bootstrap& bootstrap, const ParameterSpec& parameter,
                  int64_t begin, std::span<float> out) {
  const RankMemory& memory = executor.memory();
  const auto count = static_cast<int64_t>(out.size());
  ElementRange part = UpdatedPart(memory, parameter, {begin, begin + count});
  // Without shards everybody has everything, and so does every box: the first speaks for all.
  const bool repeats = memory.plan.zero_stage == 0 && memory.rank != 0;
  if (repeats || !memory.plan.Saves(memory.rank)) part.end = part.begin;
  Bytes mine(sizeof(int64_t) + static_cast<size_t>(part.count()) * sizeof(float));
  const int64_t offset = part.begin - parameter.unit_offset - begin;
  std::memcpy(mine.data(), &offset, sizeof(offset));
  if (part.count() > 0) {
    LoadState(executor, parameter.unit, StateKind::kMaster, part.begin,
              {reinterpret_cast<float*>(mine.data() + sizeof(offset)),
               static_cast<size_t>(part.count())});
  }
  for (const Bytes& theirs : bootstrap.AllGather(mine)) {
    int64_t where = 0;
    std::memcpy(&where, theirs.data(), sizeof(where));
    const size_t bytes = theirs.size() - sizeof(where);
    if (bytes > 0) std::memcpy(out.data() + where, theirs.data() + sizeof(where), bytes);
  }
}

void ExportWeights(Executor& executor, Bootstrap& box, const ModelSetup& model,
                   const WeightExport& to) {
  const auto read = [&](const ExportPiece& piece, std::span<float> out) {
    to.tick();
    GatherMaster(executor, box, model.spec.parameters[static_cast<size_t>(piece.parameter)],
                 piece.begin, out);
  };
  if (box.rank() == 0) {
    ExportHf(
        model.spec,
        {.folder = to.folder, .weight_dtype = to.dtype, .tokenizer_folder = model.loaded.hf_folder},
        read);
  } else {
    std::vector<float> values;
    for (const ExportPiece& piece : ExportPieces(model.spec)) {
      values.resize(static_cast<size_t>(piece.count));
      read(piece, values);
    }
  }
  box.Barrier();
}

}  // namespace hearth
