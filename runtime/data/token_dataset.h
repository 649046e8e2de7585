// The datasets of a run: files, samples and their order.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/data/sample_order.h"
#include "runtime/data/token_file.h"

namespace hearth {

struct DatasetSpec {
  std::string path_glob;
  TokenFormat format = TokenFormat::kAuto;
  double weight = 1.0;
};

// The files of a dataset, open.
struct DatasetFiles {
  std::string name;  // for messages
  double weight = 1.0;
  std::vector<std::unique_ptr<TokenFile>> files;
};

enum class SampleOrdering {
  kShuffled,    // training: SampleOrder
  kSequential,  // evaluation: datasets, files and offsets in order, each sample once; weights must
                // be 1
};

struct TokenDatasetOptions {
  int64_t sequence_len = 1024;
  bool sample_packing = true;
  uint64_t data_seed = 42;
  int64_t vocab_limit = 0;  // the model's vocabulary; 0: not checked
  SampleOrdering ordering = SampleOrdering::kShuffled;
};

// Where a sample lies: tokens [offset, offset + sequence_len] of a file.
struct SampleLocation {
  int64_t epoch = 0;
  int64_t dataset = 0;
  int64_t file = 0;  // within the dataset
  int64_t offset = 0;

  bool operator==(const SampleLocation&) const = default;
};

// One row of a micro-batch, to be filled; each span is [sequence_len].
struct SampleRow {
  std::span<int32_t> tokens;
  std::span<int32_t> targets;    // -1: masked
  std::span<int32_t> positions;  // restart with every sequence
};

// Immutable; every member may be called from several threads at once.
class TokenDataset {
 public:
  // Opens every file. Throws ConfigError (no match, no samples, a bad weight, wrong vocabulary) or
  // IoError (a damaged file).
  TokenDataset(const std::vector<DatasetSpec>& specs, const TokenDatasetOptions& options);
  // The same of files that are open already.
  static TokenDataset OfFiles(std::vector<DatasetFiles> datasets,
                              const TokenDatasetOptions& options) {
    return TokenDataset(Opened{std::move(datasets), options});
  }

  const TokenDatasetOptions& options() const { return options_; }
  int64_t sequence_len() const { return options_.sequence_len; }
  // Samples of all datasets, weights applied when shuffled.
  int64_t samples_per_epoch() const { return samples_per_epoch_; }

  // Constant time. Shuffled: any global_index >= 0, epochs follow one another without end.
  // Sequential: global_index < samples_per_epoch().
  SampleLocation Locate(int64_t global_index) const;

  // Fills a row. With sample packing, each document inside the sample is a sequence of its own:
  // positions restart and the last token of a document has a masked target, since it must not
  // predict another document's first token. Without, the sample is one sequence of plain stream.
  // Targets that the file's loss mask leaves out are masked. Appends the lengths of the sequences
  // (their sum is sequence_len) and returns the number of targets that count.
  int64_t ReadSample(const SampleLocation& location, const SampleRow& row,
                     std::vector<int32_t>* sequence_lengths) const;

  // All files in order, for the bigram table and for printing.
  std::vector<const TokenFile*> Files() const;
  // In the order of Files(); see TokenFile::ShardHashes for the cost.
  std::vector<ShardHash> ShardHashes() const;

 private:
  struct Dataset {
    std::vector<std::unique_ptr<TokenFile>> files;
    std::vector<int64_t> sample_ends;  // [files] prefix sums
  };

  struct Opened {
    std::vector<DatasetFiles> datasets;
    const TokenDatasetOptions& options;
  };

  explicit TokenDataset(Opened opened);
  Dataset CountSamples(DatasetFiles files) const;

  TokenDatasetOptions options_;
  std::vector<Dataset> datasets_;
  std::optional<SampleOrder> order_;   // shuffled
  std::vector<int64_t> dataset_ends_;  // sequential: prefix sums of samples
  int64_t samples_per_epoch_ = 0;
};

// Throws ConfigError naming the first difference in number, size or content. Directories are not
// compared: data may move.
void RequireSameShards(std::span<const ShardHash> saved, std::span<const ShardHash> current);

}  // namespace hearth
