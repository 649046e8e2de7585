#include "runtime/data/token_dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/error.h"
#include "runtime/data/token_formats.h"

namespace hearth {

namespace {

int64_t SamplesOf(int64_t tokens, int64_t sequence_len) {
  return tokens == 0 ? 0 : (tokens - 1) / sequence_len;
}

// The part that contains `index`, given prefix sums.
int64_t PartOf(const std::vector<int64_t>& ends, int64_t index) {
  return std::upper_bound(ends.begin(), ends.end(), index) - ends.begin();
}

int64_t BeginOf(const std::vector<int64_t>& ends, int64_t part) {
  return part == 0 ? 0 : ends[static_cast<size_t>(part - 1)];
}

void CheckOptions(const TokenDatasetOptions& options) {
  if (options.sequence_len < 1 || options.sequence_len > int64_t{1} << 30) {
    throw ConfigError(fmt::format("sequence_len {} is not in 1 .. 2^30", options.sequence_len));
  }
}

void CheckWeight(const std::string& name, double weight, const TokenDatasetOptions& options) {
  if (options.ordering == SampleOrdering::kSequential && !(weight == 1.0)) {
    throw ConfigError(
        fmt::format("{}: error: evaluation takes each sample once, a weight ({}) has no meaning; "
                    "leave it out",
                    name, weight));
  }
}

std::vector<DatasetFiles> OpenDatasets(const std::vector<DatasetSpec>& specs,
                                       const TokenDatasetOptions& options) {
  CheckOptions(options);
  std::vector<DatasetFiles> datasets;
  for (const DatasetSpec& spec : specs) {
    CheckWeight(spec.path_glob, spec.weight, options);
    DatasetFiles& dataset = datasets.emplace_back(DatasetFiles{spec.path_glob, spec.weight, {}});
    for (const std::string& path : ExpandTokenFiles(spec.path_glob, spec.format)) {
      dataset.files.push_back(TokenFile::Open(path, spec.format, options.vocab_limit));
    }
  }
  return datasets;
}

}  // namespace

TokenDataset::Dataset TokenDataset::CountSamples(DatasetFiles files) const {
  Dataset dataset;
  int64_t end = 0;
  for (std::unique_ptr<TokenFile>& file : files.files) {
    end += SamplesOf(file->token_count(), options_.sequence_len);
    dataset.files.push_back(std::move(file));
    dataset.sample_ends.push_back(end);
  }
  if (end == 0) {
    throw ConfigError(fmt::format(
        "{}: error: no file has the {} tokens of one sample; use a shorter sequence_len or more "
        "data",
        files.name, options_.sequence_len + 1));
  }
  return dataset;
}

TokenDataset::TokenDataset(const std::vector<DatasetSpec>& specs,
                           const TokenDatasetOptions& options)
    : TokenDataset(Opened{OpenDatasets(specs, options), options}) {}

TokenDataset::TokenDataset(Opened opened) : options_(opened.options) {
  CheckOptions(options_);
  if (opened.datasets.empty()) throw ConfigError("there is no dataset");
  std::vector<DatasetSize> sizes;
  for (DatasetFiles& files : opened.datasets) {
    const double weight = files.weight;
    CheckWeight(files.name, weight, options_);
    datasets_.push_back(CountSamples(std::move(files)));
    sizes.push_back({.samples = datasets_.back().sample_ends.back(), .weight = weight});
    const int64_t before = dataset_ends_.empty() ? 0 : dataset_ends_.back();
    dataset_ends_.push_back(before + sizes.back().samples);
  }
  samples_per_epoch_ = dataset_ends_.back();
  if (options_.ordering == SampleOrdering::kShuffled) {
    order_.emplace(std::move(sizes), options_.data_seed);
    samples_per_epoch_ = order_->samples_per_epoch();
  }
}

SampleLocation TokenDataset::Locate(int64_t global_index) const {
  DatasetSample place;
  if (order_) {
    place = order_->Locate(global_index);
  } else {
    CHECK(global_index >= 0 && global_index < samples_per_epoch_, "sample {} of {}", global_index,
          samples_per_epoch_);
    place.dataset = PartOf(dataset_ends_, global_index);
    place.sample = global_index - BeginOf(dataset_ends_, place.dataset);
  }
  const std::vector<int64_t>& ends = datasets_[static_cast<size_t>(place.dataset)].sample_ends;
  const int64_t file = PartOf(ends, place.sample);
  return {.epoch = place.epoch,
          .dataset = place.dataset,
          .file = file,
          .offset = (place.sample - BeginOf(ends, file)) * options_.sequence_len};
}

int64_t TokenDataset::ReadSample(const SampleLocation& location, const SampleRow& row,
                                 std::vector<int32_t>* sequence_lengths) const {
  const int64_t length = options_.sequence_len;
  CHECK(std::ssize(row.tokens) == length && std::ssize(row.targets) == length &&
            std::ssize(row.positions) == length,
        "a row of {}, {} and {} for {}", row.tokens.size(), row.targets.size(),
        row.positions.size(), length);
  const Dataset& dataset = datasets_[static_cast<size_t>(location.dataset)];
  const TokenFile& file = *dataset.files[static_cast<size_t>(location.file)];
  const int64_t begin = location.offset;
  file.ReadTokens(begin, row.tokens);
  file.ReadTokens(begin + 1, row.targets);
  if (file.has_loss_mask()) {
    std::vector<uint8_t> counts(static_cast<size_t>(length));
    file.ReadLossMask(begin + 1, counts);
    for (size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] == 0) row.targets[i] = -1;
    }
  }
  int64_t sequence_begin = 0;
  const auto end_sequence = [&](int64_t end) {
    for (int64_t i = sequence_begin; i < end; ++i) {
      row.positions[static_cast<size_t>(i)] = static_cast<int32_t>(i - sequence_begin);
    }
    sequence_lengths->push_back(static_cast<int32_t>(end - sequence_begin));
    sequence_begin = end;
  };
  if (options_.sample_packing) {
    const std::span<const int64_t> starts = file.DocumentStarts();
    for (auto start = std::upper_bound(starts.begin(), starts.end(), begin);
         start != starts.end() && *start <= begin + length; ++start) {
      const int64_t cut = *start - begin;
      row.targets[static_cast<size_t>(cut - 1)] = -1;
      if (cut < length) end_sequence(cut);
    }
  }
  end_sequence(length);
  return length - std::count(row.targets.begin(), row.targets.end(), -1);
}

std::vector<const TokenFile*> TokenDataset::Files() const {
  std::vector<const TokenFile*> files;
  for (const Dataset& dataset : datasets_) {
    for (const std::unique_ptr<TokenFile>& file : dataset.files) files.push_back(file.get());
  }
  return files;
}

std::vector<ShardHash> TokenDataset::ShardHashes() const {
  std::vector<ShardHash> hashes;
  for (const TokenFile* file : Files()) {
    const std::vector<ShardHash>& own = file->ShardHashes();
    hashes.insert(hashes.end(), own.begin(), own.end());
  }
  return hashes;
}

void RequireSameShards(std::span<const ShardHash> saved, std::span<const ShardHash> current) {
  for (size_t i = 0; i < std::min(saved.size(), current.size()); ++i) {
    if (saved[i].bytes == current[i].bytes && saved[i].hash == current[i].hash) continue;
    throw ConfigError(fmt::format(
        "{}: error: the data changed: the checkpoint was trained on {} ({} bytes, {}), this file "
        "has {} bytes, {}; restore the data or start with checkpoint.resume: none",
        current[i].file, saved[i].file, saved[i].bytes, ToHex(saved[i].hash), current[i].bytes,
        ToHex(current[i].hash)));
  }
  if (saved.size() == current.size()) return;
  throw ConfigError(fmt::format(
      "the data changed: the checkpoint was trained on {} files, there are {} now; restore the "
      "data or start with checkpoint.resume: none",
      saved.size(), current.size()));
}

}  // namespace hearth
